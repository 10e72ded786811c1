"""The contract of a loss.

A loss file defines `Config` (its YAML section), a pure function with the formula, and a class
`Loss`, made from the `Config` alone. What a loss needs per training sample (soft targets, weights)
it computes once, before training, in `rows`; in each step the training loop passes in the batch's
rows. Anything a file lacks is reported as soon as a configuration names the loss (rc_core.plugins).
A loss has one of two methods, called once per step:

    __call__(logits, labels, rows)      on the logits of one forward pass: most losses
    on_model(forward, labels, rows)     runs the model itself, as often as it likes (`Forward`)

`on_model`, if there is one, is called instead of `__call__`. Such a loss may name two more `needs`:
"hidden_states", the outputs of the blocks on the batch, and "teacher_model", the dense reference's
output on the same samples. Examples: rdrop.py, hidden.py.

A loss with its own parameters (a projection, learned weights) is a torch.nn.Module; its formula on
logits may then be called `forward`, as usual there. Parameters are created in `__init__` or in
`rows`, whose context states the shapes of student and teacher. They are on the model's device from
the first step on, are trained together with the model's, at the same learning rate, with weight
decay on matrices only, and clipped by the joint norm of all gradients. They are stored in the
checkpoint, not in the finished model. Parameters of a loss that is not a Module, or in a list that
is not a ModuleList or ParameterList, are rejected.

tests/contracts/test_losses.py checks the following for every loss with the defaults of its `Config`
(a `Config` that needs more than its name gets an entry in EXAMPLES there):

Logits and hidden states are float32 in training, whatever `training.precision` is: under bf16 the
encoder computes in bf16, its outputs are converted to float32, and the loss is called outside of
autocast. The test also passes bfloat16 to `__call__`: the result must be the same, bit for bit, as
for `logits.float()`. So begin with `logits.float()` and compute in float32. Labels and rows are on
the logits' device; rows keep the dtype that `rows` gave them.

The result is a float32 scalar, a mean over the batch that does not depend on its order (with
dropout off). It is finite, and so is its gradient, even at logits of +-200. At logits of ordinary
size, every sample of the batch has a gradient that is not all zeros (to leave a sample out, give it
a small weight, not 0), and a step of 0.1 against the gradient lowers the loss. The same goes for a
step on the loss's own parameters, each of which has a gradient. Weights may be detached from the
logits.

`rows` returns tensors with N rows each, finite if they are floating-point, and works when the
context holds nothing but the labels and what `needs` names. torch's global generator is seeded with
training.seed before `__init__` and again before `rows`, so it may be used. A `Config` with a key
`shuffled` is a control: true assigns the same rows to other samples, drawn with the context's
generator.

A loss may keep state from step to step (weights of groups, a running mean) and may change as
training goes on (an annealed degree): see the optional methods below. Any other state is lost when
a trial is stopped and resumed.

Limits: a loss sees no texts and no attention weights, and runs the model on no inputs other than
the batch (no adversarial or mixed ones). Steps with `on_model` or with parameters of the loss are
never replayed on a GPU (rc_core.cuda_steps), so they are slower there.
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
# Only a loss with `on_model` can use these.
NEEDS_OF_ON_MODEL: frozenset[Need] = frozenset({"teacher_model", "hidden_states"})
# A loss with this need must have this key in its `Config`, to say which one it wants.
KEY_OF_NEED: Mapping[Need, str] = {
    "expert_log_probs": "expert",
    "first_stage_log_probs": "first_epochs",
}


@dataclass(frozen=True)
class ModelShape:
    """What a loss may want to know of a model before training.

    Attributes:
        num_layers: L, its transformer blocks.
        hidden_size: H, width of its hidden states.
    """

    num_layers: int
    hidden_size: int


@dataclass
class LossContext:
    """What a loss may know of the training set, before training starts.

    Only what `needs` names is filled in; the rest is None.

    Attributes:
        labels: (N,) int64.
        teacher_log_probs: (N, C) float32, the dense reference's log-probabilities.
        difficulty: (N,) float64, scores of `difficulty.name`; higher is harder, in any finite
            range.
        expert_log_probs: (N, C) float32, log-probabilities of the bias expert that the loss's
            `expert` names (`{level: 0.75}` or `hypothesis_only`; see `poe.Expert`).
        first_stage_log_probs: (N, C) float32, log-probabilities of the dense model trained for the
            loss's `first_epochs` only.
        student: shape of the model to be trained, after its compression prepared it; with
            "hidden_states".
        teacher: shape of the dense reference; with "teacher_model".
        generator: for losses that draw at random.
        report: figures that the loss wants in the record (degree histogram, share of errors, ...).
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
    """The output of one forward pass of a model on a batch.

    Attributes:
        logits: (B, C) float32.
        mask: (B, T) bool, true at tokens, false at padding. A student that is another encoder
            (`student` with `model`) has its own tokens: its first token and the teacher's represent
            the same text, the others different parts of it.
        states: see `hidden_states`; None if they were not asked for.
    """

    logits: Tensor
    mask: Tensor
    states: tuple[Tensor, ...] | None = None

    @property
    def hidden_states(self) -> tuple[Tensor, ...]:
        """L + 1 tensors (B, T, H) float32: the input of the first block, then the output of each.

        A norm after the last block (ModernBERT's `final_norm`) is not applied.

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
        """Run the trained model, in training mode; each call draws its own dropout.

        `on_model` calls it at least once. Gradients flow through every call, so the activations of
        all calls are kept until backward.
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
    # Optional: `recordable: ClassVar[bool] = True` declares that calls differ only in tensor values
    # (no `float(tensor)`, no branch on one, no counting of calls). A GPU then replays steps that it
    # has run before, several times as fast (rc_core.cuda_steps). It is not inherited.
    # Optional: `before_step(progress) -> None`, called before every step with the share of steps
    # done, in [0, 1). With `recordable` it may change tensors in place, and nothing else.
    # Optional: `state_dict() -> dict` and `load_state_dict(state) -> None`, for state kept from
    # step to step: tensors and plain values, which are stored in checkpoints. Loaded on the CPU,
    # after `rows` was called. A torch.nn.Module has both, for its parameters and buffers.

    def rows(self, context: LossContext) -> dict[str, Tensor]:
        """Return tensors (N, ...), one row per training sample; batches are gathered from them."""
        ...

    def __call__(self, logits: Tensor, labels: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of a batch, float32.

        Args:
            logits: (B, C); float32 in training, see above.
            labels: (B,) int64.
            rows: what `rows` returned, for these samples: (B, ...) each.
        """
        ...


@runtime_checkable
class ModelLoss(Protocol):
    """A training loss that runs the model itself; the optional parts are those of `Loss`."""

    needs: ClassVar[frozenset[Need]]

    def rows(self, context: LossContext) -> dict[str, Tensor]:
        """See `Loss.rows`."""
        ...

    def on_model(self, forward: Forward, labels: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of a batch, float32.

        Args:
            forward: runs the model on this batch.
            labels: (B,) int64.
            rows: what `rows` returned, for these samples: (B, ...) each.
        """
        ...


AnyLoss = Loss | ModelLoss
