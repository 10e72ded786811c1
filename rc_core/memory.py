"""Returning freed memory to the system: between trials, and now and then within one."""

from __future__ import annotations

import ctypes
import sys
import time

# Memory that is used again has to be mapped anew: at this interval that was 6 % of a training's
# processor time (tests/benchmarks/RESULTS.md, "Memory within a trial").
_SECONDS = 20.0


def give_back() -> None:
    """Return freed memory that the C library keeps to the system, if that library is glibc.

    glibc keeps freed memory for reuse, and small objects that stay (a trial's results) leave holes
    in it, so a worker's memory grows from trial to trial to a multiple of what a trial needs
    (measured: tests/benchmarks/RESULTS.md). Takes milliseconds. Other C libraries have no such
    function; then nothing is done.
    """
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class NowAndThen:
    """Returns memory to the system when called, but at most every 20 seconds.

    Batches of many lengths leave holes of many sizes: within one training run, glibc came to hold
    twice what a step needs at its peak.
    """

    def __init__(self) -> None:
        self._next = time.monotonic() + _SECONDS

    def __call__(self) -> None:
        """Return memory if it is time."""
        if time.monotonic() >= self._next:
            give_back()
            self._next = time.monotonic() + _SECONDS
