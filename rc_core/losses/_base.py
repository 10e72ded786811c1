"""The contract of a loss.

A loss file defines `Config` (its YAML section), a pure function with the formula, and a class
`Loss`, made from the `Config` alone. Whatever a loss needs per training sample (soft targets,
weights) it computes once, before training, in `rows`; the loop hands each batch's rows back. What
is missing is told as soon as a configuration names the loss (rc_core.plugins). It has one of two
methods, called once a step:

    __call__(logits, labels, rows)      on the logits of one forward of the model: most losses
    on_model(forward, labels, rows)     runs the model itself, as often as it likes (`Forward`)

`on_model`, where there is one, is called in the place of `__call__`. With it a loss may name two
more `needs`: "hidden_states", what the blocks make of the batch, and "teacher_model", what the
dense reference says of the same samples. Examples: rdrop.py, hidden.py.

A loss with parameters of its own (a projection, learned weights) is a torch.nn.Module, and its
formula on logits may be called `forward`, as there. They are made in `__init__` or in `rows`, whose
context tells the shapes of student and teacher; are on the model's device from the first step on;
are trained with the model's, at the same learning rate, decay on matrices only, clipped by the one
norm of all gradients; and lie in the checkpoint, not in the finished model. Parameters of a loss
that is no Module, or in a list that is no ModuleList or ParameterList, are refused.

What holds, and tests/contracts/test_losses.py asks of every loss with the defaults of its `Config`
(a `Config` that needs more than its name gets an entry in EXAMPLES there):

Logits and hidden states are float32 in training, whatever `training.precision` is: under bf16 the
encoder computes in bf16, what it says is made float32, and the loss is called outside of autocast.
The test also hands bfloat16 to `__call__`: the result must be the same, to the bit, as for
`logits.float()`. So begin with `logits.float()` and compute in float32. Labels and rows lie on the
logits' device; rows keep the dtype that `rows` gave them.

The result is a float32 scalar, a mean over the batch that does not depend on its order (dropout
off). It is finite, and so is its gradient, also at logits of +-200. At logits of ordinary size
every sample of the batch has a gradient that is not all zeros (to leave one out, give it a small
weight, not 0), and a step of 0.1 against the gradient lowers the loss; so does one of parameters of
its own, each of which has a gradient. Weights may be detached from the logits.

`rows` returns tensors with N rows each, finite where they are floating-point, and works where the
context holds nothing but what `needs` names, and the labels. torch's own generator is seeded with
training.seed before `__init__` and again before `rows`, so it may be drawn from. A `Config` with a
key `shuffled` is a control: true hands the same rows to other samples, drawn from the context's
generator.

A loss may keep something from step to step (weights of groups, a running mean) and may change as
training goes on (an annealed degree): see the optional methods below. What it keeps otherwise is
lost when a trial is stopped and goes on.

What cannot be done: a loss sees no texts and no attention weights, runs the model on no other
inputs than the batch (no adversarial or mixed ones), and steps with `on_model` or with parameters
of the loss are never replayed on a GPU (rc_core.cuda_steps), so they are slower there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Generator, Tensor

from rc_core.errors import TrialError

Need = Literal[
    "teacher_log_probs",
    "difficulty",
    "expert_log_probs",
    "first_stage_log_probs",
    "teacher_model",
    "hidden_states",
]
# Of use to a loss with `on_model` alone.
NEEDS_OF_ON_MODEL: frozenset[Need] = frozenset({"teacher_model", "hidden_states"})
# The key that the `Config` of a loss with this need must have: it says which one is wanted.
KEY_OF_NEED: Mapping[Need, str] = {
    "expert_log_probs": "expert",
    "first_stage_log_probs": "first_epochs",
}


@dataclass(frozen=True)
class ModelShape:
    """What a loss may want to know of a model before it is trained.

    Attributes:
        num_layers: L, its transformer blocks.
        hidden_size: H, width of its hidden states.
    """

    num_layers: int
    hidden_size: int


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
        student: shape of the model that is trained, as its compression prepared it; with
            "hidden_states".
        teacher: shape of the dense reference; with "teacher_model".
        generator: for losses that draw at random.
        report: figures the loss wants in the record (degree histogram, share of errors, ...).
    """

    labels: Tensor
    teacher_log_probs: Tensor | None = None
    difficulty: Tensor | None = None
    expert_log_probs: Tensor | None = None
    first_stage_log_probs: Tensor | None = None
    student: ModelShape | None = None
    teacher: ModelShape | None = None
    generator: Generator | None = None
    report: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """What one forward of a model says of a batch.

    Attributes:
        logits: (B, C) float32.
        mask: (B, T) bool, true where there is a token and not padding. A student that is another
            encoder (`student` with `model`) has tokens of its own: the first one of its T and that
            of the teacher's stand for the same text, the others for different parts of it.
        states: see `hidden_states`; None where they were not asked for.
    """

    logits: Tensor
    mask: Tensor
    states: tuple[Tensor, ...] | None = None

    @property
    def hidden_states(self) -> tuple[Tensor, ...]:
        """L + 1 tensors (B, T, H) float32: what goes into the first block, what each returns.

        Not what a norm after the last block makes of it (ModernBERT's `final_norm`).

        Raises:
            TrialError: `Loss.needs` does not name "hidden_states".
        """
        if self.states is None:
            raise TrialError(
                "hidden states must be asked for before training, but Loss.needs does not name "
                "'hidden_states'; add it there"
            )
        return self.states


class Forward(Protocol):
    """Runs models on the batch of one step."""

    def __call__(self) -> Output:
        """Run the model that is trained, in training mode: each call draws dropout of its own.

        `on_model` calls it at least once; gradients flow through every call, whose activations are
        kept until backward.
        """
        ...

    def teacher(self) -> Output:
        """Run the dense reference: dropout off, no gradients, in the precision of training.

        Raises:
            TrialError: `Loss.needs` does not name "teacher_model".
        """
        ...


class Loss(Protocol):
    """A training loss on logits."""

    needs: ClassVar[frozenset[Need]]
    # Optional: `recordable: ClassVar[bool] = True`, that calls differ in nothing but what the
    # tensors hold (no `float(tensor)`, no branch on one, no count of calls). A GPU then replays a
    # step that it has done before, several times as fast (rc_core.cuda_steps). It is not inherited.
    # Optional: `before_step(progress) -> None`, called before every step with the share of steps
    # done, in [0, 1). With `recordable` it may change tensors in place, and nothing else.
    # Optional: `state_dict() -> dict` and `load_state_dict(state) -> None`, of what it keeps from
    # step to step: tensors and plain values, which a checkpoint holds. Loaded after `rows` was
    # called, on the CPU. A torch.nn.Module has both, of its parameters and buffers.

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


@runtime_checkable
class ModelLoss(Protocol):
    """A training loss that runs the model itself; what is optional is as for `Loss`."""

    needs: ClassVar[frozenset[Need]]

    def rows(self, context: LossContext) -> dict[str, Tensor]:
        """As `Loss.rows`."""
        ...

    def on_model(self, forward: Forward, labels: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of a batch, float32.

        Args:
            forward: runs the model on this batch.
            labels: (B,) int64.
            rows: what `rows` returned, of these samples: (B, ...) each.
        """
        ...


AnyLoss = Loss | ModelLoss
