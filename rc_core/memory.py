"""Memory that is free, given back to the system: between trials, and now and then within one."""

from __future__ import annotations

import ctypes
import sys
import time

# Giving back costs tenths of a second at the most (what is used again is mapped anew), so this
# often it costs about a hundredth of the time.
_SECONDS = 20.0


def give_back() -> None:
    """Return to the system what is freed but kept by the C library, where that is glibc.

    It keeps freed memory for its own next use, and small things that stay (a trial's results) leave
    holes in it, so that a worker's memory grows from trial to trial to a multiple of what a trial
    needs (measured: tests/benchmarks/RESULTS.md). Takes milliseconds. Other C libraries have no
    such function, and nothing is done.
    """
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class NowAndThen:
    """Gives memory back when it is called, but not more often than every 20 seconds.

    Batches of many lengths leave holes of many sizes, and within one training the C library came to
    hold twice what a step needs at its peak.
    """

    def __init__(self) -> None:
        self._next = time.monotonic() + _SECONDS

    def __call__(self) -> None:
        """Give back, if it is time."""
        if time.monotonic() >= self._next:
            give_back()
            self._next = time.monotonic() + _SECONDS
