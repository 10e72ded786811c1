"""The contract of a compression: four plain methods around the one training loop.

model = compression.prepare(model, context)      # before training: structure, freezing
for step in steps:
    ...forward, backward...
    compression.after_backward(model)            # optional: sees the gradients
    ...clipping, optimizer.step(), zero_grad()...
    compression.after_step(model, progress)      # after the optimizer: Adam moves pruned weights
model = compression.finalize(model)              # no hooks left; what was asked for was reached

model = Compression(config).to_stock(load_model(folder))    # plain transformers loads it

Everything a compression knows must be stored in the model: an export calls `to_stock` on a new
instance, with the model reloaded from the trial's folder (`rc_core.models.load_model`), so nothing
that it needs may live in `self`. A folder holds the weights and the config. A structure that the
config does not describe (heads cut out, factorised layers) needs two functions beside the class:

    structure(model) -> plain JSON        of a finished model, written beside its weights
    restore(model, structure) -> model    from a stock one of that config; weights are read after it

A checkpoint holds only weights, buffers and the optimizer: after a resume `prepare` is called
again, and then they are loaded. Other state that must survive a stop is a buffer, made in `prepare`
and deleted in `finalize`; if it is itself trained and needed only in training, it is a parameter of
the torch parametrization that reads it (movement.py). From `Config.settled` on, shapes and zeros
stay as they are; for a weight that is computed in the forward pass, as torch's parametrizations do,
the positions of its zeros may change until the end.

The optimizer holds the parameters that are trainable when `prepare` returns. After that they are
changed in place: a parameter that replaces another one or is unfrozen later would not be trained
(TrialError).

Hooks that `prepare` registers are called in training and in evaluation. In the last block, only
what its attention reads is computed for every token, unless that attention has hooks, or its own
class or `forward` (rc_core.first_token): hooks elsewhere in that block may see (B, 1, H).

tests/contracts/test_compressions.py checks the following for every compression with the defaults of
its `Config` (one that needs more than its name gets an entry in EXAMPLES there), on a tiny BERT,
RoBERTa, DistilBERT and ELECTRA:

- `report` returns `asked` and `measured` with at least one name in common, and `measured.layers`.
  Under each common name the two agree within one weight: 1 / (number of prunable weights, see
  `_masks.prunable_weights`) of the finished model. If only larger units can be removed (heads,
  neurons), `asked` states what that number of units amounts to.
- A prepared model is freed once nobody holds it any more, even without `finalize`. After `finalize`
  it has no more hooks than before `prepare`. Saved and reloaded in the trial's own form, it gives
  the same logits, bit for bit. The logits of `to_stock`'s model differ by at most 1e-5, and plain
  transformers saves and reloads that model, which is of the original class, bit for bit.
- `prepare` called twice with the same seed, and a run resumed from a checkpoint, give the same
  result, bit for bit.
- An encoder that it does not support is rejected with a ModelError that names its class.
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
        teacher: loads the fine-tuned dense reference; None if there is none.
        importance: returns the result of the plugin's `importance` on the dense reference, measured
            once for all trials of a seed; None if there is no store to keep it in.
    """

    batches: Callable[[], Iterator[Batch]]
    device: torch.device
    teacher: Callable[[], nn.Module] | None = None
    importance: Callable[[], list[list[float]]] | None = None


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are trained differently from the rest.

    Attributes:
        parameters: trainable ones of the model.
        learning_rate: peak of the schedule; None takes `training.learning_rate`.
        weight_decay: for all of them; None takes `training.weight_decay`, on matrices only.
    """

    parameters: Sequence[nn.Parameter]
    learning_rate: float | None = None
    weight_decay: float | None = None


class Compression(Protocol):
    """A compression; see above."""

    def prepare(self, model: nn.Module, context: CompressionContext) -> nn.Module:
        """Return the model to train: structure changed, parts frozen.

        torch's global generator is seeded with training.seed, so it may be used.
        """
        ...

    def after_step(self, model: nn.Module, progress: float) -> None:
        """Called after every optimizer step; progress in (0, 1] is the share of steps done."""
        ...

    def finalize(self, model: nn.Module) -> nn.Module:
        """Return the finished model. Raises TrialError if what was asked for was not reached."""
        ...

    def to_stock(self, model: nn.Module) -> nn.Module:
        """Return a model that plain transformers saves and reloads with the same logits.

        Called on a new instance, with a finished model that was saved and reloaded.
        """
        ...

    # Optional: `recordable = True` declares that the prepared model's forward passes differ only in
    # tensor values; `after_step`, which is never recorded, may change those in place. A GPU then
    # replays steps that it has run before (rc_core.cuda_steps).
    # Optional: `after_backward(model) -> None`, called in every step with the unclipped gradients
    # of one batch, which are gone by `after_step`. A GPU never replays such steps. It does replay
    # torch's hooks on a parameter's gradient if they only run tensor operations (sensitivity.py);
    # `finalize` removes them. They must not refer back to the model: a trial may stop before
    # `finalize`, and Python's garbage collector does not see what a parameter's hooks hold.
    # Optional: `parameter_groups(model) -> list[ParameterGroup]` of the prepared model; parameters
    # that are in none of them are trained as usual.
    # Optional: `stock_note() -> str`, what the model card says about the stock form.
    # Optional: `packed_bits(model) -> dict[str, float]` of a finished model: parameter name -> bits
    # per entry, for parameters that do not take 32 bits per nonzero entry (footprint/packed_bytes).

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Return what was asked for and what was measured, for the record."""
        ...
