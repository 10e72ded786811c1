"""Memory that is free, given back to the system by processes that run one trial after another."""

from __future__ import annotations

import ctypes
import sys


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
