"""Iterative magnitude pruning: the smallest weights of the blocks go, step by step, while training.

Unstructured, task-specific, without rewinding. The embeddings are frozen and only the 2-D weights
of the transformer blocks are pruned (Du et al. 2023, section 3: IMP; schedule of Zhu and Gupta
2017).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor

from rc_core.compression._gradual import Gradual, SparsityConfig, scheduled
from rc_core.compression._masks import magnitude_masks
from rc_core.errors import Problem
from rc_core.model_facts import ModelFacts


class Config(SparsityConfig):
    """How much is pruned, where, and when."""


def problems(config: Config, facts: ModelFacts) -> list[Problem]:
    """Return what is wrong with `config` for an encoder: never anything."""
    return []


class Compression(Gradual):
    """Removes the smallest weights of all blocks together, or of every matrix."""

    recordable: ClassVar[bool] = True

    def __init__(self, config: Config, *, target: Callable[[float], float] | None = None) -> None:
        """Make the compression; `target` replaces the schedule of `config`.

        Args:
            config: what is asked for.
            target: progress in (0, 1] -> sparsity in [0, 1), never decreasing; target(1.0) then
                replaces `config.sparsity`.
        """
        self.config = config
        super().__init__(target or scheduled(config, config.sparsity), scope=config.scope)

    def _masks_at(self, weights: Sequence[Tensor], share: float) -> list[Tensor]:
        return magnitude_masks(weights, share, scope=self._scope)
