"""Gradual pruning: masks that grow while training, on a schedule, and hold what is gone at zero.

A plugin says which weights go (`magnitude`: the smallest, `sensitivity`: those of lowest score,
`semistructured`: the smallest of their groups), how many must be gone at the end, and what must
hold at the start.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rc_core.compression._base import CompressionContext
from rc_core.compression._layers import embeddings
from rc_core.compression._masks import (
    Schedule,
    Scope,
    measure,
    num_entries,
    num_zeros,
    prunable_weights,
    schedule_share,
    target_zeros,
)
from rc_core.errors import TrialError

ZEROS_NOTE = (
    "Removed weights are stored as zeros: this form is not smaller than the dense one, and faster "
    "only on runtimes that make use of zeros at any place."
)


def sparsity_at(
    progress: float,
    *,
    final: float,
    initial: float = 0.0,
    schedule: Schedule = "cubic",
    ramp: float = 0.5,
    num_prunings: int = 20,
) -> float:
    """Return the sparsity due at `progress`: constant between prunings, `final` from `ramp` on.

    The j-th of n prunings is due at progress ramp j / n and reaches
    initial + (final - initial) f(j / n), f the schedule (Zhu and Gupta 2017, equation 1).

    Args:
        progress: share of the optimizer steps done, in [0, 1].
        final: sparsity at the end of the ramp, in [0, 1).
        initial: sparsity at its beginning, in [0, final].
        ramp: in (0, 1].
    """
    # Without the tolerance, rounding in step / steps would put a pruning off by one step.
    prunings = min(math.floor(progress / ramp * num_prunings + 1e-9), num_prunings)
    if prunings == num_prunings:
        return final
    share = schedule_share(prunings / num_prunings, schedule=schedule)
    return initial + (final - initial) * share


def milestones_at(
    progress: float,
    *,
    levels: Sequence[float],
    ends: Sequence[float] | None = None,
    schedule: Schedule = "cubic",
    ramp: float = 0.5,
    num_prunings: int = 20,
) -> float:
    """Return the sparsity due at `progress` of one run that passes through all `levels`.

    Training falls into L parts. Part k prunes from the level before it (0 at first) to level k as
    `sparsity_at` does and then recovers, so that at its end, before the next step, the model is
    the sub-network of level k.

    Args:
        progress: share of the optimizer steps done, in [0, 1].
        levels: L sparsities, strictly increasing, in [0, 1).
        ends: progress at which each part ends, strictly increasing to 1; by default k / L.
        ramp: share of each part, in (0, 1].
        num_prunings: in each part.
    """
    ends = ends or [k / len(levels) for k in range(1, len(levels) + 1)]
    part = min(bisect_right(ends, progress), len(levels) - 1)
    start = ends[part - 1] if part else 0.0
    return sparsity_at(
        (progress - start) / (ends[part] - start),
        final=levels[part],
        initial=levels[part - 1] if part else 0.0,
        schedule=schedule,
        ramp=ramp,
        num_prunings=num_prunings,
    )


def scheduled(config: Any, final: float) -> Callable[[float], float]:
    """Return `sparsity_at` of a Config with `schedule`, `ramp` and `num_prunings`.

    Args:
        config: of a plugin.
        final: sparsity at the end of the ramp, in [0, 1).
    """
    return partial(
        sparsity_at,
        final=final,
        schedule=config.schedule,
        ramp=config.ramp,
        num_prunings=config.num_prunings,
    )


def check_start(weights: Sequence[Tensor], final: float, *, scope: Scope) -> None:
    """Check that no more weights are zero at the start than are to be at the end: zeros stay.

    Args:
        weights: all prunable ones.
        final: `compression.sparsity`, in [0, 1).
        scope: what it holds for.

    Raises:
        TrialError: more are, in all or, with scope `layer`, in a matrix.
    """
    whole = scope == "global"
    groups = [weights] if whole else [[weight] for weight in weights]
    zeros = [num_zeros(group) for group in groups]
    asked = target_zeros(weights, final, scope=scope)
    # `finalize` would find these at least.
    if sum(map(max, zeros, asked)) <= sum(asked) + 1:
        return
    most = max(z / num_entries(group) for z, group in zip(zeros, groups, strict=True))
    place = "" if whole else "each matrix of "
    raise TrialError(
        f"compression.sparsity must be at least that of {place}the starting weights, "
        f"{most:.6f}{'' if whole else ' at most'}, but is {final:g}; ask for more, "
        f"{'' if whole else 'take compression.scope global, '}or start from a dense model"
    )


class Gradual(ABC):
    """Prunes when the schedule says so and keeps pruned weights at zero after every step.

    What is pruned is what is zero, so a checkpoint needs only the weights: loading a state dict
    into the prepared model reads the mask back from it. So it is with what is zero at the start.
    """

    def __init__(self, target: Callable[[float], float]) -> None:
        """Store the schedule.

        Args:
            target: progress in (0, 1] -> sparsity in [0, 1), never decreasing; target(1.0) is what
                is asked.
        """
        self._target = target
        self._level = 0.0
        self._masks: list[Tensor] | None = None
        self._known: tuple[nn.Module, list[nn.Parameter]] | None = None
        self._hook: RemovableHandle | None = None

    @abstractmethod
    def _masks_at(self, weights: Sequence[Tensor], share: float) -> list[Tensor]:
        """Return masks (1 keeps, 0 prunes) of the weights' shapes; what is zero stays pruned.

        Args:
            weights: float32, those pruned so far at zero.
            share: sparsity that is due, in (0, 1).

        Raises:
            TrialError: a weight is NaN or infinite.
        """

    @abstractmethod
    def _asked_zeros(self, weights: Sequence[Tensor]) -> int:
        """Return how many entries must be zero at the end."""

    @abstractmethod
    def _asked_as(self) -> str:
        """Return the settings that ask for it, for messages: `compression.sparsity 0.5`."""

    @abstractmethod
    def _check_zeros(self, named: Mapping[str, Tensor]) -> None:
        """Raise TrialError where more weights are zero at the start than may be at the end.

        Args:
            named: the prunable weights by full name, of which some are zero.
        """

    def prepare(self, model: nn.Module, context: CompressionContext) -> nn.Module:
        """Freeze the embeddings and return the model; what is zero in it stays so.

        Raises:
            ModelError: unsupported encoder.
            TrialError: more weights are zero already than are to be.
        """
        for module in embeddings(model):
            module.requires_grad_(False)
        weights = prunable_weights(model)
        self._level, self._masks = 0.0, None
        if num_zeros(weights.values()):
            self._check_zeros(weights)
            self._read_masks(model, None)
        # After a resume the optimizer moves pruned weights before the first after_step is called.
        self._hook = model.register_load_state_dict_post_hook(self._read_masks)
        return model

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        """Set pruned weights back to zero and, when a pruning is due, remove more.

        Raises:
            TrialError: a weight is NaN or infinite when a pruning is due.
        """
        weights = self._weights_of(model)
        self._apply(weights)
        due = self._target(progress)
        if not 0.0 <= due < 1.0:
            raise ValueError(f"the target sparsity must be in [0, 1), but is {due} at {progress}")
        if due > self._level:
            self._masks = self._masks_at(weights, due)
            self._level = due
            self._apply(weights)

    @torch.no_grad()
    def finalize(self, model: nn.Module) -> nn.Module:
        """Return the model with its pruned weights at zero and nothing attached to it.

        Raises:
            TrialError: measured sparsity is not what was asked, by more than one weight.
        """
        weights = list(prunable_weights(model).values())
        self._apply(weights)
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        zeros, asked = num_zeros(weights), self._asked_zeros(weights)
        if abs(zeros - asked) > 1:
            raise TrialError(
                f"{asked} of {num_entries(weights)} weights must be zero ({self._asked_as()}), but "
                f"{zeros} are, after the schedule reached {self._level:g}; train to the end of "
                "compression.ramp"
            )
        return model

    def to_stock(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged: zeros are ordinary weights."""
        return model

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Return the sparsity asked and what was measured."""
        return {"asked": {"sparsity": self._target(1.0)}, "measured": measure(model)}

    def _weights_of(self, model: nn.Module) -> list[nn.Parameter]:
        """Return the model's prunable weights, looked up once: a step may take 2 ms in all."""
        if self._known is None or self._known[0] is not model:
            self._known = model, list(prunable_weights(model).values())
        return self._known[1]

    def _apply(self, weights: Sequence[Tensor]) -> None:
        if self._masks is None:
            return
        # Multiplying by a float mask is three times as fast as filling by a boolean one.
        masks = [m.to(w.device) for w, m in zip(weights, self._masks, strict=True)]
        torch._foreach_mul_(list(weights), masks)

    def _read_masks(self, model: nn.Module, incompatible_keys: object) -> None:
        """Take what is zero in freshly loaded weights as pruned."""
        weights = list(prunable_weights(model).values())
        self._level = 0.0
        self._masks = [(weight.detach() != 0).to(weight.dtype) for weight in weights]
