"""Training steps on a GPU without the cost of launching their kernels one by one.

A step of a small encoder is a few hundred kernels of some microseconds each; launching them from
Python takes several times as long as running them. Here a step is recorded once per padded length
as a CUDA graph (forward, loss, backward, clipping and optimizer) and replayed with other rows.
Replays draw the same random numbers as the same steps run one by one, except for bf16 batches
without padding: these use another attention kernel there, which draws differently.

Whatever Python decides during a step is fixed when the step is recorded. So a step is recorded only
if its loss and its compression declare (`recordable = True`) that their steps differ in nothing but
tensor values.
"""

from __future__ import annotations

import functools
import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rc_core.compression._base import Batch
from rc_core.feeds import DeviceFeed

_logger = logging.getLogger(__name__)


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Work on a separate stream inside, which recording requires; on a CPU do nothing."""
    if device.type != "cuda":
        yield
        return
    outer, inner = torch.cuda.current_stream(device), _stream(device)
    inner.wait_stream(outer)
    try:
        with torch.cuda.stream(inner):
            yield
    finally:
        outer.wait_stream(inner)


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of all training runs; others could not reuse memory freed on it."""
    return torch.cuda.Stream(device)


class RecordedSteps:
    """Runs training steps, replaying those whose shape has been seen before.

    The first step of a shape runs as usual; the second is recorded and replayed. Steps with fewer
    samples than `batch_size` (the last of an epoch) always run as usual. If a recording fails, so
    do all steps from then on, and a warning gives the reason.
    """

    def __init__(
        self,
        step: Callable[[Batch], None],
        feed: DeviceFeed,
        model: nn.Module,
        batch_size: int,
    ) -> None:
        """Store what is to be run.

        Args:
            step: one whole training step; reads the batch, and tensors that never move.
            feed: makes the batches.
            model: if its parameters move or change `requires_grad`, all recordings are made anew.
            batch_size: number of samples of an ordinary step.
        """
        self._step, self._feed, self._parameters = step, feed, list(model.parameters())
        self._rows = torch.zeros(batch_size, dtype=torch.int64, device=self._parameters[0].device)
        self._seen: set[int] = set()
        self._recordings: dict[int, torch.cuda.CUDAGraph] = {}
        self._recorded_with: Sequence[tuple[int, bool]] = ()
        self._pool: Any = None
        self._failed = False
        # torch cannot release cached memory while it records. Release what earlier evaluations and
        # training runs left in the cache now; another trial's process may need it.
        torch.cuda.empty_cache()

    def __call__(self, rows: NDArray[np.int64]) -> None:
        """Run the training step on these samples.

        Args:
            rows: (B,) positions in the training set.
        """
        width = self._feed.width(rows)
        if self._failed or len(rows) != len(self._rows) or width not in self._seen:
            if len(rows) == len(self._rows):
                self._seen.add(width)
            self._step(self._feed.batch(rows))
            return
        self._rows.copy_(torch.from_numpy(rows).pin_memory(), non_blocking=True)
        state = [(each.data_ptr(), each.requires_grad) for each in self._parameters]
        if state != self._recorded_with:
            self._recordings.clear()
            self._pool = None  # Freed with the last recording that used it.
            self._recorded_with = state
        if width not in self._recordings:
            recording = self._record(width)
            if recording is None:
                self._step(self._feed.batch(rows))
                return
            self._recordings[width] = recording
        self._recordings[width].replay()

    def _record(self, width: int) -> torch.cuda.CUDAGraph | None:
        """Record a step of one padded length without computing anything; None if that fails."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        recording = torch.cuda.CUDAGraph()
        device = self._rows.device
        random = torch.cuda.default_generators[device.index or 0]
        spare = random.clone_state()
        # A garbage collection during the recording could free what another recording uses.
        collecting = gc.isenabled()
        gc.disable()
        try:
            recording.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                self._step(self._feed.cut(self._rows, width))
            finally:
                recording.capture_end()
        except RuntimeError as error:
            self._failed = True
            reason = str(error).splitlines()[0]
            if isinstance(error, torch.OutOfMemoryError):
                reason = "the GPU's memory is full; run fewer trials at once on it"
            _logger.warning("training steps are not recorded, which is slower: %s", reason)
            # An aborted recording leaves the generator in capture mode.
            random.graphsafe_set_state(spare)
            for parameter in self._parameters:
                parameter.grad = None
            return None
        finally:
            if collecting:
                gc.enable()
        return recording


def rates_on_device(
    optimizer: torch.optim.Optimizer, peaks: Sequence[float], device: torch.device
) -> Callable[[float], None]:
    """Put the learning rates into tensors, which recorded steps read; return their setter.

    Args:
        optimizer: with its state loaded.
        peaks: peak learning rate of each of its groups; groups with the same one share a tensor.
        device: where the parameters are.
    """
    rates = {peak: torch.zeros((), device=device) for peak in peaks}
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        # A checkpoint written on a CPU brings `capturable=False`.
        group["lr"], group["capturable"] = rates[peak], True

    def set_rates(share: float) -> None:
        for peak, rate in rates.items():
            rate.fill_(peak * share)

    return set_rates
