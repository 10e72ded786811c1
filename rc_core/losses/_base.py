"""The contract of a loss.

A loss file defines `Config` (its YAML section), a pure function with the formula, and a class
`Loss`, made from the `Config` alone. Whatever a loss needs per training sample (soft targets,
weights) it computes once, before training, in `rows`; the loop hands each batch's rows back to
`__call__`. What is missing is told as soon as a configuration names the loss (rc_core.plugins).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from torch import Generator, Tensor

Need = Literal["teacher_log_probs", "difficulty", "expert_log_probs", "first_stage_log_probs"]
# The key that the `Config` of a loss with this need must have: it says which one is wanted.
KEY_OF_NEED: Mapping[Need, str] = {
    "expert_log_probs": "expert",
    "first_stage_log_probs": "first_epochs",
}


@dataclass
class LossContext:
    """What a loss may use of the training set, before training starts.

    Only what `needs` names is handed in; the rest is None.

    Attributes:
        labels: (N,) int64.
        teacher_log_probs: (N, C) float32, the dense reference's log-probabilities.
        difficulty: (N,) float64 scores of `difficulty.name`, higher is harder; any finite range.
        expert_log_probs: (N, C) float32, log-probabilities of the bias expert that the loss's
            `expert` names (`{level: 0.75}` or `hypothesis_only`; see `poe.Expert`).
        first_stage_log_probs: (N, C) float32, log-probabilities of the dense model trained for the
            loss's `first_epochs` only.
        generator: for losses that draw at random.
        report: figures the loss wants in the record (degree histogram, share of errors, ...).
    """

    labels: Tensor
    teacher_log_probs: Tensor | None = None
    difficulty: Tensor | None = None
    expert_log_probs: Tensor | None = None
    first_stage_log_probs: Tensor | None = None
    generator: Generator | None = None
    report: dict[str, Any] = field(default_factory=dict)


class Loss(Protocol):
    """A training loss."""

    needs: ClassVar[frozenset[Need]]
    # Optional: `recordable: ClassVar[bool] = True`, that calls differ in nothing but what the
    # tensors hold (no `float(tensor)`, no branch on one, no count of calls). A GPU then replays a
    # step that it has done before, several times as fast (rc_core.cuda_steps). It is not inherited.

    def rows(self, context: LossContext) -> dict[str, Tensor]:
        """Return tensors with one row per training sample, gathered per batch by the loop."""
        ...

    def __call__(self, logits: Tensor, labels: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of a batch; logits (B, C) float32, labels (B,) int64."""
        ...
