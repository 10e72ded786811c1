"""Training steps on a GPU without the cost of launching them.

A step of a small encoder is some hundred kernels of microseconds; launching them one by one from
Python takes several times as long as running them. Here a step is recorded once for each padded
length (a CUDA graph: forward, loss, backward, clipping and optimizer) and replayed with other rows.
Replays draw the random numbers that the same steps would draw one by one, but for bf16 batches in
which nothing is padded: these take another attention kernel there, which draws others.

What Python decides in a step is decided while recording. So only what says of itself that its steps
differ in nothing but tensors is recorded: losses and compressions with `recordable = True`.
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
    """Work on a stream of one's own inside, which recording needs; on a CPU do nothing."""
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
    """One for all trainings of a process: memory that one stream has freed no other may use."""
    return torch.cuda.Stream(device)


class RecordedSteps:
    """Runs training steps, replaying those whose shape has been seen before.

    The first step of a shape runs as it is, the second is recorded and replayed. Steps with fewer
    samples than `batch_size` (the last of an epoch) always run as they are. Where recording fails,
    all steps do from then on, and a warning says why.
    """

    def __init__(
        self,
        step: Callable[[Batch], None],
        feed: DeviceFeed,
        model: nn.Module,
        batch_size: int,
    ) -> None:
        """Take what is to be run.

        Args:
            step: one whole training step; reads the batch and tensors that stay where they are.
            feed: makes the batches.
            model: whose parameters must stay where they are while recordings are used; recordings
                are made anew where they do not.
            batch_size: samples of an ordinary step.
        """
        self._step, self._feed, self._parameters = step, feed, list(model.parameters())
        self._rows = torch.zeros(batch_size, dtype=torch.int64, device=self._parameters[0].device)
        self._seen: set[int] = set()
        self._recordings: dict[int, torch.cuda.CUDAGraph] = {}
        self._recorded_with: Sequence[tuple[int, bool]] = ()
        self._pool: Any = None
        self._failed = False
        # While recording torch cannot give back what it keeps of evaluations and of trainings
        # before, and another trial's process may need it now.
        torch.cuda.empty_cache()

    def __call__(self, rows: NDArray[np.int64]) -> None:
        """Run the step of some samples."""
        width = self._feed.width(rows)
        if self._failed or len(rows) != len(self._rows) or width not in self._seen:
            if len(rows) == len(self._rows):
                self._seen.add(width)
            self._step(self._feed.batch(rows))
            return
        self._rows.copy_(torch.from_numpy(rows).pin_memory(), non_blocking=True)
        found = [(each.data_ptr(), each.requires_grad) for each in self._parameters]
        if found != self._recorded_with:
            self._recordings.clear()
            self._pool = None  # gone with its last user
            self._recorded_with = found
        if width not in self._recordings:
            recording = self._record(width)
            if recording is None:
                self._step(self._feed.batch(rows))
                return
            self._recordings[width] = recording
        self._recordings[width].replay()

    def _record(self, width: int) -> torch.cuda.CUDAGraph | None:
        """Record a step of one padded length; nothing is computed. None where that fails."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        recording = torch.cuda.CUDAGraph()
        device = self._rows.device
        random = torch.cuda.default_generators[device.index or 0]
        spare = random.clone_state()
        # A collection in the midst of it could free what another recording uses.
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
            # A recording that broke off leaves the generator waiting for its end.
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
    """Put the groups' learning rates into tensors, which recorded steps read; return their setter.

    Args:
        optimizer: with its state.
        peaks: of each group; those with the same one share a tensor.
        device: where to.
    """
    rates = {peak: torch.zeros((), device=device) for peak in peaks}
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        # A checkpoint written on a CPU says otherwise of the second.
        group["lr"], group["capturable"] = rates[peak], True

    def set_rates(share: float) -> None:
        for peak, rate in rates.items():
            rate.fill_(peak * share)

    return set_rates
