"""The contract of a compression: four plain methods around the one training loop.

model = compression.prepare(model, context)      # before training: structure, freezing
for step in steps:
    ...forward, backward...
    compression.after_backward(model)            # optional: sees the gradients
    ...clipping, optimizer.step(), zero_grad()...
    compression.after_step(model, progress)      # after the optimizer: Adam moves pruned weights
model = compression.finalize(model)              # no hook left; what was asked was reached

model = Compression(config).to_stock(load_model(folder))    # plain transformers loads it

What a compression knows has to lie in the model: an export calls `to_stock` on a new instance, with
the model reloaded from the trial's folder (`rc_core.models.load_model`), so `self` holds nothing
that it needs. A folder has the weights and the config; a structure that the config does not
describe (heads cut out, factorised layers) needs two functions beside the class:

    structure(model) -> plain JSON        of a finished model, written beside its weights
    restore(model, structure) -> model    from a stock one of that config; weights are read after it

A checkpoint holds weights, buffers and the optimizer only: after a resume `prepare` is called
again, then they are loaded. What else must outlive a stop is a buffer, made in `prepare` and
deleted in `finalize`; what only training needs and is trained itself, a parameter of the torch
parametrization that reads it (movement.py). From `Config.settled` on, shapes and zeros stay as they
are; of a weight that is computed in the forward, as torch's parametrizations do, where it is zero
may change until the end.

The optimizer has the parameters that are trainable when `prepare` returns. Afterwards they are
changed in place: one that takes another's place, or is unfrozen, would not be trained (TrialError).

Hooks that `prepare` sets are called in training and evaluation. Of the last block only what its
attention reads is computed for every token, unless there are hooks on that attention, or classes or
a `forward` of one's own (rc_core.first_token): hooks elsewhere in it may see (B, 1, H).

What holds, and tests/contracts/test_compressions.py asks of every compression with the defaults of
its `Config` (one that needs more than its name gets an entry in EXAMPLES there), on a tiny BERT,
RoBERTa, DistilBERT and ELECTRA:

- `report` returns `asked` and `measured` with at least one name in common, and `measured.layers`.
  Under each common name the two agree within one weight: 1 / (number of prunable weights, see
  `_masks.prunable_weights`) of the finished model. What only comes in larger units (heads, neurons)
  reports as asked what that many units are.
- A prepared model that nobody holds any more is freed, also without `finalize`. After `finalize`
  it has no more hooks than before `prepare`. Saved and reloaded in the
  trial's own form its logits are the same to the bit; `to_stock`'s differ by 1e-5 at most, and
  plain transformers saves and reloads that one, of the original class, to the bit.
- `prepare` twice from the same seed, and a run resumed from a checkpoint, give the same to the bit.
- An encoder that it does not know is refused with a ModelError that names its class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """One padded batch.

    Attributes:
        inputs: keyword arguments of the encoder: input_ids, attention_mask, maybe token_type_ids,
            each (B, T) int64.
        labels: (B,) int64.
        rows: (B,) int64 positions in the training set.
        host_rows: the same positions on the host, where they are known there.
    """

    inputs: Mapping[str, Tensor]
    labels: Tensor
    rows: Tensor
    host_rows: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class CompressionContext:
    """What a compression may use.

    Attributes:
        batches: returns fresh training batches on the model's device, in a seeded order.
        device: where the model is.
        teacher: loads the fine-tuned dense reference, or None where there is none.
        importance: returns what the plugin's `importance` finds on the dense reference, measured
            once for all trials of a seed; None where there is no store to keep it in.
    """

    batches: Callable[[], Iterator[Batch]]
    device: torch.device
    teacher: Callable[[], nn.Module] | None = None
    importance: Callable[[], list[list[float]]] | None = None


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are trained in another way than the rest.

    Attributes:
        parameters: trainable ones of the model.
        learning_rate: peak of the schedule; None takes `training.learning_rate`.
        weight_decay: of all of them; None takes `training.weight_decay`, on matrices only.
    """

    parameters: Sequence[nn.Parameter]
    learning_rate: float | None = None
    weight_decay: float | None = None


class Compression(Protocol):
    """A compression."""

    def prepare(self, model: nn.Module, context: CompressionContext) -> nn.Module:
        """Return the model to train: structure changed, parts frozen.

        torch's own generator is seeded with training.seed, so it may be drawn from.
        """
        ...

    def after_step(self, model: nn.Module, progress: float) -> None:
        """Called after every optimizer step; progress in (0, 1] is the share of steps done."""
        ...

    def finalize(self, model: nn.Module) -> nn.Module:
        """Return the finished model. Raises TrialError when what was asked was not reached."""
        ...

    def to_stock(self, model: nn.Module) -> nn.Module:
        """Return a model that plain transformers saves and reloads with the same logits.

        Called on a new instance, with a finished model that was saved and reloaded.
        """
        ...

    # Optional: `recordable = True`, that the prepared model's forward differs between steps in
    # nothing but what its tensors hold; `after_step`, which is never recorded, may change them in
    # place. A GPU then replays a step that it has done before (rc_core.cuda_steps).
    # Optional: `after_backward(model) -> None`, called in every step with the gradients of one
    # batch, not clipped yet; in `after_step` they are gone. A GPU never replays such steps. It does
    # replay torch's hooks on a parameter's gradient, where these do nothing but tensor operations
    # (sensitivity.py); `finalize` removes them. They must not lead back to the model: a trial may
    # stop before `finalize`, and Python's collector does not see what a parameter's hook holds.
    # Optional: `parameter_groups(model) -> list[ParameterGroup]`, of the prepared model; parameters
    # in none of them are trained as without it.
    # Optional: `stock_note() -> str`, what the model card says of the stock form.
    # Optional: `packed_bits(model) -> dict[str, float]`, of a finished model: parameter name ->
    # bits that an entry needs, where that is not 32 for what is not zero (footprint/packed_bytes).

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Return what was asked and what was measured, for the record."""
        ...
