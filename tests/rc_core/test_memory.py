"""What is freed goes back to the system."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from rc_core.memory import give_back

_PIECES, _SIZE = 4_000, 65_536


def resident() -> int:
    """Return the bytes of this process that are in memory and in no file."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is freed")
def test_what_was_freed_below_something_that_stays_goes_back() -> None:
    pieces = [bytearray(_SIZE) for _ in range(_PIECES)]
    stays = bytearray(_SIZE)
    full = resident()
    pieces.clear()
    give_back()
    assert full - resident() > 0.8 * _PIECES * _SIZE
    assert len(stays) == _SIZE
