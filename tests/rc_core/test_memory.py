"""What is freed goes back to the system."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import pytest

from rc_core import memory
from rc_core.memory import NowAndThen, give_back

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


def test_now_and_then_is_not_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now, given = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(memory, "give_back", lambda: given.append(now[0]))
    now_and_then = NowAndThen()
    for _ in range(100):
        now[0] += 0.5
        now_and_then()
    assert given == [120.0, 140.0]
