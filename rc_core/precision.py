"""Which precision `auto` means: bf16 if this machine trains faster in it, else fp32."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from rc_core.config import TrainingConfig
from rc_core.data._encoding import Encoded
from rc_core.losses import vanilla
from rc_core.training import FitPoint, Precision, fit

# If bf16 is this many times slower than fp32 on two samples, the processor emulates it.
EMULATED = 3.0
# bf16 must be at least this much faster (ratio of times) to be worth its rounding.
_CLEARLY_FASTER = 0.95


def cuda_precision() -> Precision:
    """Return "bf16" if the GPU supports it in hardware: it is faster there without timing it."""
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def timed_precision(
    model: nn.Module, encoded: Encoded, training: TrainingConfig, *, repeats: int = 5
) -> Precision:
    """Return "bf16" if a training step takes clearly less processor time in it, else "fp32".

    It is timed because processors that list bf16 differ tenfold in how fast they run it. Steps of
    `fit` on the same batches alternate between the precisions, and the median of their ratios
    counts, so that other load on the machine affects both alike. One thread is used: on shared
    cores, several spend processor time waiting for each other. Two samples are tried first, because
    a step of a whole batch takes half a minute where bf16 is emulated.

    Args:
        model: on the CPU; trained in place, at a learning rate close to zero.
        encoded: the training set.
        training: as in a trial.
        repeats: number of timed steps in each precision.
    """
    two = training.model_copy(update={"batch_size": 2})
    with _one_thread():
        if _ratio(model, encoded, two, 1) > EMULATED:
            return "fp32"
        return "bf16" if _ratio(model, encoded, training, repeats) < _CLEARLY_FASTER else "fp32"


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _ratio(model: nn.Module, encoded: Encoded, training: TrainingConfig, repeats: int) -> float:
    """Return the median of bf16's time over fp32's; the first step of each is not counted."""
    runs = [_single_steps(model, encoded, training, each, repeats + 1) for each in ("fp32", "bf16")]
    ratios = []
    for _ in range(repeats + 1):
        fp32, bf16 = (_processor_seconds(run) for run in runs)
        ratios.append(bf16 / max(fp32, 1e-9))
    return statistics.median(ratios[1:])


def _single_steps(
    model: nn.Module, encoded: Encoded, training: TrainingConfig, precision: Precision, count: int
) -> Iterator[FitPoint]:
    per_epoch = -(-len(encoded.labels) // training.batch_size)
    # A rate that moves nothing: with the configured one, training might diverge.
    steps = {"epochs": count / per_epoch, "rungs": count, "learning_rate": 1e-12}
    loss = vanilla.Loss(vanilla.Config(name="vanilla"))
    return fit(model, encoded, loss, training.model_copy(update=steps), precision=precision)


def _processor_seconds(run: Iterator[FitPoint]) -> float:
    """Return the processor time of the next step, over all threads; waiting does not count."""
    start = time.process_time()
    next(run)
    return time.process_time() - start
