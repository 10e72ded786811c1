"""The contract of a loss.

A loss file defines `Config` (its YAML section), a pure function with the formula, and a class
`Loss`, made from the `Config` alone. Whatever a loss needs per training sample (soft targets,
weights) it computes once, before training, in `rows`; the loop hands each batch's rows back to
`__call__`. What is missing is told as soon as a configuration names the loss (rc_core.plugins).

What holds, and tests/contracts/test_losses.py asks of every loss with the defaults of its `Config`
(a `Config` that needs more than its name gets an entry in EXAMPLES there):

Logits are float32 in training, whatever `training.precision` is: under bf16 the encoder computes in
bf16, its logits are made float32, and the loss is called outside of autocast. The test also hands
in bfloat16: the result must be the same, to the bit, as for `logits.float()`. So begin with
`logits.float()` and compute in float32. Labels and rows lie on the logits' device; rows keep the
dtype that `rows` gave them.

The result is a float32 scalar, a mean over the batch that does not depend on its order. It is
finite, and so is its gradient, also at logits of +-200. At logits of ordinary size every sample of
the batch has a gradient that is not all zeros (to leave one out, give it a small weight, not 0),
and a step of 0.1 against the gradient lowers the loss. Weights may be detached from the logits.

`rows` returns tensors with N rows each, finite where they are floating-point, and works where the
context holds nothing but what `needs` names, and the labels. torch's own generator is seeded with
training.seed, so it may be drawn from. A `Config` with a key `shuffled` is a control: true hands
the same rows to other samples, drawn from the context's generator.

A loss may keep something from step to step (weights of groups, a running mean) and may change as
training goes on (an annealed degree): see the optional methods below. What it keeps otherwise is
lost when a trial is stopped and goes on, and nothing of a loss itself is trained: the optimizer has
the model's parameters.

What cannot be done: a loss is called once a step, on the logits of one forward, so it needs neither
hidden states, the texts nor a second forward (R-Drop).
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
    # Optional: `before_step(progress) -> None`, called before every step with the share of steps
    # done, in [0, 1). With `recordable` it may change tensors in place, and nothing else.
    # Optional: `state_dict() -> dict` and `load_state_dict(state) -> None`, of what it keeps from
    # step to step: tensors and plain values, which a checkpoint holds. Loaded after `rows` was
    # called, on the CPU.

    def rows(self, context: LossContext) -> dict[str, Tensor]:
        """Return tensors (N, ...), a row per training sample, gathered per batch by the loop."""
        ...

    def __call__(self, logits: Tensor, labels: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of a batch, float32.

        Args:
            logits: (B, C); float32 in training, see above.
            labels: (B,) int64.
            rows: what `rows` returned, of these samples: (B, ...) each.
        """
        ...
