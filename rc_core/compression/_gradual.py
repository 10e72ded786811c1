"""Gradual pruning: masks that grow on a schedule during training and keep pruned weights at zero.

A plugin decides which weights go (`magnitude`: the smallest; `sensitivity`: those with the lowest
scores; `semistructured`: the smallest of their groups), how many must be zero at the end, and what
must hold at the start.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import torch
from pydantic import Field
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
from rc_core.config import CompressionConfig
from rc_core.errors import TrialError
from rc_core.labels import short_number

ZEROS_NOTE = (
    "Removed weights are stored as zeros: this form is not smaller than the dense one, and faster "
    "only on runtimes that exploit unstructured zeros."
)


class SparsityConfig(CompressionConfig):
    """How much is pruned, where, and when.

    Attributes:
        sparsity: share of the blocks' 2-D weights that end as zero, in [0, 1).
        scope: weights are ranked over all blocks together (`global`) or within each weight matrix
            (`layer`: every matrix reaches the same sparsity).
        schedule: how sparsity grows: `cubic` (fast first) or `linear`.
        ramp: share of the steps at which the target is reached, in (0, 1]; the rest is recovery.
        num_prunings: number of equal parts of the ramp; at the end of each, weights are removed.
    """

    sparsity: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    scope: Scope = "global"
    schedule: Schedule = "cubic"
    ramp: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    num_prunings: Annotated[int, Field(ge=1)] = 20

    def label(self) -> str:
        """Return `magnitude-70`, followed by whatever else differs from the defaults."""
        parts = self.label_parts(leave_out=["sparsity"])
        return " ".join([f"{self.name}-{short_number(100 * self.sparsity)}", *parts])


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

    The j-th of n prunings is due at progress ramp j / n and reaches initial + (final - initial) f(j
    / n), with f the schedule (Zhu and Gupta 2017, equation 1).

    Args:
        progress: share of the optimizer steps done, in [0, 1].
        final: sparsity at the end of the ramp, in [0, 1).
        initial: sparsity at its start, in [0, final].
        schedule: see `schedule_share`.
        ramp: share of the steps over which sparsity grows, in (0, 1].
        num_prunings: n.
    """
    # Without the tolerance, rounding in step / steps would delay a pruning by one step.
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

    Training is divided into L parts. Part k prunes from the previous level (0 at first) to level k
    as `sparsity_at` does and then recovers, so that when it ends, before the next step, the model
    is the sub-network of level k.

    Args:
        progress: share of the optimizer steps done, in [0, 1].
        levels: L sparsities, strictly increasing, in [0, 1).
        ends: progress at which each part ends, strictly increasing to 1; by default k / L.
        schedule: see `schedule_share`.
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
    """Return `sparsity_at` with the settings of a plugin's configuration.

    Args:
        config: has `schedule`, `ramp` and `num_prunings`.
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
    """Check that no more weights are zero at the start than should be at the end: zeros stay zero.

    Args:
        weights: all prunable weights.
        final: `compression.sparsity`, in [0, 1).
        scope: what it holds for, all weights together or each matrix.

    Raises:
        TrialError: more are zero.
    """
    groups = [weights] if scope == "global" else [[weight] for weight in weights]
    zeros = [num_zeros(group) for group in groups]
    asked = target_zeros(weights, final, scope=scope)
    # As zeros stay, `finalize` would count at least this many, and allows for one more than asked.
    if sum(map(max, zeros, asked)) <= sum(asked) + 1:
        return
    most = max(z / num_entries(group) for z, group in zip(zeros, groups, strict=True))
    if scope == "global":
        found, advice = f"that of the starting weights, {most:.6f}", ""
    else:
        found = f"that of each matrix of the starting weights, {most:.6f} at most"
        advice = "take compression.scope global, "
    raise TrialError(
        f"compression.sparsity must be at least {found}, but is {final:g}; ask for more, {advice}"
        "or start from a dense model"
    )


def check_reached(weights: Sequence[Tensor], asked: int, asked_as: str) -> None:
    """Check that a finished model has the zeros that were asked for, give or take one.

    Args:
        weights: all prunable weights.
        asked: how many entries must be zero.
        asked_as: the settings that ask for it, for the message: `compression.sparsity 0.5`.

    Raises:
        TrialError: it does not.
    """
    zeros = num_zeros(weights)
    if abs(zeros - asked) > 1:
        raise TrialError(
            f"{asked} of {num_entries(weights)} weights must be zero ({asked_as}), but {zeros} "
            "are; train to the end of compression.ramp"
        )


class Gradual(ABC):
    """Prunes when the schedule says so and keeps pruned weights at zero after every step.

    A weight that is zero is pruned, so a checkpoint needs nothing but the weights: loading a state
    dict into the prepared model reads the masks back from it. The same goes for weights that are
    zero at the start.

    What a subclass must add is `_masks_at`. The other methods are written for a target sparsity of
    all weights together or of each matrix, and may be overridden.
    """

    def __init__(self, target: Callable[[float], float], *, scope: Scope = "global") -> None:
        """Store the schedule.

        Args:
            target: progress in (0, 1] -> sparsity in [0, 1), never decreasing; target(1.0) is the
                sparsity asked for.
            scope: whether that holds for all weights together or for each matrix.
        """
        self._target, self._scope = target, scope
        self._level = 0.0
        self._masks: list[Tensor] | None = None
        self._known: tuple[nn.Module, list[nn.Parameter]] | None = None
        self._hook: RemovableHandle | None = None

    @abstractmethod
    def _masks_at(self, weights: Sequence[Tensor], share: float) -> list[Tensor]:
        """Return masks (1 keeps, 0 prunes) of the weights' shapes; zero weights must stay pruned.

        Args:
            weights: float32; those pruned so far are zero.
            share: sparsity that is due, in (0, 1).

        Raises:
            TrialError: a weight is NaN or infinite.
        """

    def _asked_zeros(self, weights: Sequence[Tensor]) -> int:
        """Return how many entries must be zero at the end."""
        return sum(target_zeros(weights, self._target(1.0), scope=self._scope))

    def _asked_as(self) -> str:
        """Return the settings that ask for it, for messages: `compression.sparsity 0.5`."""
        return f"compression.sparsity {self._target(1.0):g}"

    def _check_start(self, named: Mapping[str, Tensor]) -> None:
        """Raise TrialError if more weights are zero at the start than may be at the end.

        Args:
            named: the prunable weights by full name; some are zero.
        """
        check_start(list(named.values()), self._target(1.0), scope=self._scope)

    def prepare(self, model: nn.Module, context: CompressionContext) -> nn.Module:
        """Freeze the embeddings and return the model; weights that are zero stay zero.

        Raises:
            ModelError: unsupported encoder.
            TrialError: more weights are zero already than should be at the end.
        """
        for module in embeddings(model):
            module.requires_grad_(False)
        weights = prunable_weights(model)
        self._level, self._masks = 0.0, None
        if num_zeros(weights.values()):
            self._check_start(weights)
            self._read_masks(model, None)
        # After a resume, the optimizer moves pruned weights before `after_step` is first called.
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
            TrialError: the measured sparsity differs from what was asked by more than one weight.
        """
        weights = list(prunable_weights(model).values())
        self._apply(weights)
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        check_reached(weights, self._asked_zeros(weights), self._asked_as())
        return model

    def to_stock(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged: zeros are ordinary weights."""
        return model

    def stock_note(self) -> str:
        """Return what a user of the stock form has to know."""
        return ZEROS_NOTE

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Return the sparsity asked for, and what was measured."""
        return {"asked": {"sparsity": self._target(1.0)}, "measured": measure(model)}

    def _weights_of(self, model: nn.Module) -> list[nn.Parameter]:
        """Return the model's prunable weights, looked up once: a whole step may take only 2 ms."""
        if self._known is None or self._known[0] is not model:
            self._known = model, list(prunable_weights(model).values())
        return self._known[1]

    def _apply(self, weights: Sequence[Tensor]) -> None:
        """Set pruned weights to zero."""
        if self._masks is None:
            return
        # Multiplying by a float mask is three times as fast as filling by a boolean one.
        masks = [m.to(w.device) for w, m in zip(weights, self._masks, strict=True)]
        torch._foreach_mul_(list(weights), masks)

    def _read_masks(self, model: nn.Module, incompatible_keys: object) -> None:
        """Treat weights that are zero in a freshly loaded model as pruned."""
        weights = list(prunable_weights(model).values())
        self._level = 0.0
        self._masks = [(weight.detach() != 0).to(weight.dtype) for weight in weights]
