"""The only two loops of the project: `fit` trains, `predict` evaluates.

for batch in batches of this epoch (bucketed by length, seeded):
    logits = model(batch)                      # autocast is entered anew in every step
    loss(logits.float(), labels, rows)         # soft targets, weights: gathered, not recomputed
                                               # (or loss.on_model, which runs the model itself)
    backward, after_backward, clip             # the only place where gradients exist
    optimizer.step
    after_step(progress)                       # masks are applied after Adam moved the weights
yield FitPoint                                 # at each rung: what schedulers and checkpoints see
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rc_core.compression._base import Batch, ParameterGroup
from rc_core.config import TrainingConfig
from rc_core.cpu_steps import fast_steps
from rc_core.cuda_steps import own_stream
from rc_core.data._encoding import Encoded, length_bucketed_batches, length_sorted_batches
from rc_core.errors import DivergedError
from rc_core.feeds import feed_of
from rc_core.first_token import first_token_only
from rc_core.forward import FrozenTeacher, autocast, sees_hidden_states
from rc_core.losses import vanilla
from rc_core.losses._base import AnyLoss
from rc_core.memory import NowAndThen, give_back
from rc_core.train_step import TrainStep

Precision = str  # "fp32" or "bf16"; "auto" is resolved before training starts.


@dataclass(frozen=True)
class FitPoint:
    """Where training stands at the end of a rung.

    Attributes:
        rung: 1-based.
        step: optimizer steps done.
        progress: share of all steps done, in (0, 1].
        train_loss: mean training loss since the last point.
        seconds: spent in training steps so far; evaluation between rungs is not counted.
        samples: training samples seen so far.
        state: returns what a checkpoint needs besides the weights. Call it before training goes on.
            At the end of training it no longer holds the optimizer's moments.
    """

    rung: int
    step: int
    progress: float
    train_loss: float
    seconds: float
    samples: int
    state: Callable[[], dict[str, Any]]


def num_steps(num_samples: int, training: TrainingConfig) -> int:
    """Return the number of optimizer steps of a training run (at least 1)."""
    return max(1, round(training.epochs * math.ceil(num_samples / training.batch_size)))


def rung_steps(total: int, rungs: int) -> list[int]:
    """Return the increasing steps at which rungs end; the last one is `total`."""
    return sorted({max(1, round(total * rung / rungs)) for rung in range(1, rungs + 1)})


def batches(
    encoded: Encoded, training: TrainingConfig, device: torch.device, *, first_step: int = 0
) -> Iterator[Batch]:
    """Yield training batches forever, in the order that `training.seed` fixes.

    Apart from the seed, the order depends only on the samples' lengths in tokens (a batch holds
    samples of similar length), so configurations with the same tokenizer and `max_length` are
    compared on the same order.

    Args:
        encoded: the training set.
        first_step: optimizer step to start from, after a resume.
    """
    feed = feed_of(encoded, device)
    return (feed.batch(rows) for rows in _batch_rows(encoded, training, first_step))


def _batch_rows(
    encoded: Encoded, training: TrainingConfig, first_step: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of each batch's samples in the training set, (B,) int64 each, forever."""
    per_epoch = math.ceil(len(encoded.labels) / training.batch_size)
    epoch, skip = divmod(first_step, per_epoch)
    while True:
        generator = np.random.default_rng([training.seed, epoch])
        order = length_bucketed_batches(encoded.lengths, training.batch_size, generator)
        yield from order[skip:]
        epoch, skip = epoch + 1, 0


def fit(
    model: nn.Module,
    encoded: Encoded,
    loss: AnyLoss,
    training: TrainingConfig,
    *,
    precision: Precision,
    rows: Mapping[str, Tensor] | None = None,
    after_step: Callable[[float], None] | None = None,
    after_backward: Callable[[], object] | None = None,
    groups: Sequence[ParameterGroup] = (),
    teacher: FrozenTeacher | None = None,
    resume: dict[str, Any] | None = None,
    recordable: bool = False,
) -> Generator[FitPoint, None, None]:
    """Train `model` in place, yielding at the end of each rung.

    Frozen parameters get neither gradients nor optimizer state.

    Args:
        model: already on its device.
        encoded: N training samples.
        loss: called with float32 logits (B, C), labels (B,) and the batch's rows; or its
            `on_model`. Its own parameters, if it has any, are trained too.
        training: steps, schedule, seed, rungs.
        precision: "fp32" or "bf16".
        rows: tensors with N rows each that the loss asked for (see `Loss.rows`).
        after_step: called with the progress after every optimizer step.
        after_backward: called in every step once gradients exist, before they are clipped. With it,
            a GPU replays no steps.
        groups: parameters with their own learning rate or weight decay.
        teacher: the model that `on_model` may run; released at the end of training.
        resume: what `FitPoint.state` returned; the weights must be loaded already.
        recordable: whether all steps run the same operations and differ only in tensor values, so
            that a GPU may record and replay them (`rc_core.cuda_steps`). No effect on a CPU.

    Raises:
        DivergedError: the training loss is no longer finite.
        TrialError: the loss returned something other than a scalar that depends on the logits,
            never ran the model, or used what its `needs` do not name; `groups` holds parameters
            that are not trained; or parameters became trainable after the first step.
    """
    total = num_steps(len(encoded.labels), training)
    train_step = TrainStep(
        model,
        loss,
        training,
        precision=precision,
        rows=rows or {},
        after_backward=after_backward,
        groups=groups,
        teacher=teacher,
        resume=resume,
    )
    step, seconds, samples = 0, 0.0, 0
    if resume is not None:
        step, seconds, samples = resume["step"], resume["seconds"], resume["samples"]
    row_batches = _batch_rows(encoded, training, step)
    before_step = getattr(loss, "before_step", None)
    device = next(model.parameters()).device
    run_step = train_step.on_rows(feed_of(encoded, device), training.batch_size, record=recordable)
    give_back_now_and_then = NowAndThen()
    for rung, end in enumerate(rung_steps(total, training.rungs), start=1):
        if end <= step:
            continue
        model.train()
        started, first = time.perf_counter(), step
        train_step.loss_sum.zero_()
        with fast_steps(model), _last_block(model, loss), own_stream(device):
            for rows_of_batch in islice(row_batches, end - step):
                train_step.set_rate(schedule(step, total, training.warmup))
                if step + 1 == end:
                    # Before the last step, not after it: `after_step` at the end of training may
                    # replace parameters to give the model its final structure.
                    train_step.check_trained()
                if before_step is not None:
                    before_step(step / total)
                run_step(rows_of_batch)
                step += 1
                samples += len(rows_of_batch)
                if after_step is not None:
                    after_step(step / total)
                give_back_now_and_then()
        # The loop itself waits for the device only here, once per rung.
        train_loss = float(train_step.loss_sum) / (step - first)
        seconds += time.perf_counter() - started
        if not math.isfinite(train_loss):
            raise DivergedError(f"is {train_loss} between steps {first} and {step}")
        if step == total:
            # The caller may keep the last point while it evaluates, and needs the memory.
            train_step.release()
            give_back()
        state = partial(train_step.state, step=step, seconds=seconds, samples=samples)
        yield FitPoint(rung, step, step / total, train_loss, seconds, samples, state)


def _last_block(model: nn.Module, loss: AnyLoss) -> AbstractContextManager[None]:
    """Compute the last block for the first token only, unless the loss sees its hidden states."""
    return nullcontext() if sees_hidden_states(loss) else first_token_only(model)


def fit_vanilla(
    model: nn.Module,
    encoded: Encoded,
    training: TrainingConfig,
    *,
    precision: Precision,
    after_step: Callable[[float], None] | None = None,
) -> Iterator[FitPoint]:
    """Train with plain cross-entropy, as the dense reference is trained; see `fit`."""
    loss = vanilla.Loss(vanilla.Config(name="vanilla"))
    return fit(
        model,
        encoded,
        loss,
        training,
        precision=precision,
        after_step=after_step,
        recordable=True,
    )


@torch.no_grad()
def predict(
    model: nn.Module, encoded: Encoded, *, precision: Precision = "fp32"
) -> NDArray[np.float32]:
    """Return log-probabilities, (N, C) float32, in the order of `encoded`.

    Batches are large and sorted by length. Dropout is off; the model's mode is restored afterwards.
    Full evaluations use fp32, so that a saved model reproduces them.
    """
    device = next(model.parameters()).device
    # Tokens of a batch: enough to fill a GPU, whose memory several trials may share.
    budget = 4_096 if device.type == "cpu" else 32_768
    was_training = model.training
    model.eval()
    parts, order = [], length_sorted_batches(encoded.lengths, budget)
    feed = feed_of(encoded, device)
    with first_token_only(model):
        for rows in order:
            batch = feed.batch(rows)
            with autocast(device, precision):
                logits = model(**batch.inputs).logits
            parts.append(F.log_softmax(logits.float(), dim=-1))
    model.train(was_training)
    result = torch.cat(parts).cpu().numpy()
    unsorted = np.empty_like(result)
    unsorted[np.concatenate(order)] = result
    return unsorted


def schedule(step: int, total: int, warmup: float) -> float:
    """Return the share of the peak learning rate at `step`: linear warm-up, then linear decay to 0.

    Args:
        step: optimizer steps done before this one, in [0, total).
        total: number of optimizer steps.
        warmup: share of the steps over which the rate rises, in [0, 1].
    """
    warmup_steps = warmup * total
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return (total - step) / max(total - warmup_steps, 1.0)
