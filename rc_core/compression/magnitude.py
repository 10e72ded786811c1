"""Iterative magnitude pruning: the smallest weights of the blocks go, step by step, while training.

Unstructured, task-specific, without rewinding; embeddings are frozen and only the 2-D weights of
the transformer blocks are pruned (Du et al. 2023, section 3: IMP; schedule of Zhu and Gupta 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from rc_core.compression._gradual import ZEROS_NOTE, Gradual, check_start, scheduled
from rc_core.compression._masks import magnitude_masks, target_zeros
from rc_core.config import CompressionConfig
from rc_core.errors import Problem
from rc_core.labels import short_number
from rc_core.model_facts import ModelFacts


class Config(CompressionConfig):
    """How much is pruned, where, and when.

    Attributes:
        sparsity: share of the blocks' 2-D weights that end as zero, in [0, 1).
        scope: magnitudes are ranked over all blocks together (`global`) or within each weight
            matrix (`layer`, every matrix reaches the same sparsity).
        schedule: how sparsity grows: `cubic` (fast first) or `linear`.
        ramp: share of the steps at which the target is reached, in (0, 1]; the rest recovers.
        num_prunings: equal parts of the ramp; at the end of each, weights are removed.
    """

    sparsity: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    scope: Literal["global", "layer"] = "global"
    schedule: Literal["cubic", "linear"] = "cubic"
    ramp: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    num_prunings: Annotated[int, Field(ge=1)] = 20

    def label(self) -> str:
        """Return `magnitude-70`, and what else differs from the defaults."""
        parts = self.label_parts(leave_out=["sparsity"])
        return " ".join([f"magnitude-{short_number(100 * self.sparsity)}", *parts])


def problems(config: Config, facts: ModelFacts) -> list[Problem]:
    """Return what is wrong with `config` for an encoder: never anything."""
    return []


class Compression(Gradual):
    """Removes the smallest weights of all blocks together, or of every matrix."""

    recordable: ClassVar[bool] = True

    def __init__(self, config: Config, *, target: Callable[[float], float] | None = None) -> None:
        """Make the compression; `target` replaces the schedule of `config`.

        Args:
            config: what is asked.
            target: progress in (0, 1] -> sparsity in [0, 1), never decreasing; target(1.0) then
                replaces `config.sparsity`.
        """
        self.config = config
        super().__init__(target or scheduled(config, config.sparsity))

    def stock_note(self) -> str:
        """Return what a user of the stock form has to know."""
        return ZEROS_NOTE

    def _masks_at(self, weights: Sequence[Tensor], share: float) -> list[Tensor]:
        return magnitude_masks(weights, share, scope=self.config.scope)

    def _asked_zeros(self, weights: Sequence[Tensor]) -> int:
        return sum(target_zeros(weights, self._target(1.0), scope=self.config.scope))

    def _asked_as(self) -> str:
        return f"compression.sparsity {self._target(1.0):g}"

    def _check_zeros(self, named: Mapping[str, Tensor]) -> None:
        """Raise TrialError where more are zero at the start, in a matrix with scope `layer`."""
        check_start(list(named.values()), self._target(1.0), scope=self.config.scope)
