"""The lease of a sweep's driver, so that two machines do not run one sweep at once.

    <address>/<sweep>/lease.json   {"mirror", "host", "pid", "attempt", "heard"}

There is no lock that every service supports. So a driver writes its lease, waits a moment and reads
it back: of two drivers that start together, the one that wrote last continues. It renews the lease
while it lives; a lease not renewed for three minutes has expired. On one machine the file lock is
exact.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rc_core.errors import StorageError
from sweeps.json_files import read_json
from sweeps.remote.files import LEASE, is_locked
from sweeps.remote.mirror import Mirror
from sweeps.storages import command_at

# Clocks of two machines may differ by some seconds; see rc-sweep doctor.
LEASE_SECONDS = 180.0
# Enough for another driver that started at the same moment to have written its lease.
SETTLE_SECONDS = 1.0


def other_driver(mirror: Mirror, sweep: Path) -> str | None:
    """Return who runs a sweep elsewhere, as of the newest pull: `host, process 12`; or None."""
    found = read_json(
        sweep / LEASE,
        lambda raw: {key: raw[key] for key in ("mirror", "host", "pid", "heard")},
        what="who runs the sweep",
        advice="remove it: it is fetched again",
    )
    if found is None or not _is_alive(found, mirror, holding=not is_locked(sweep)):
        return None
    return _shown(found)


def check_free(mirror: Mirror, sweep: Path, *, holding: bool = False) -> None:
    """Check that nobody else runs a sweep.

    Args:
        mirror: of its storage.
        sweep: its folder.
        holding: whether this process holds the folder's lock, so no other one here runs it.

    Raises:
        StorageError: somebody does.
    """
    found = _read(mirror, sweep.name)
    if found is not None and _is_alive(found, mirror, holding=holding or not is_locked(sweep)):
        raise _refusal(found, mirror, sweep.name)


def take(mirror: Mirror, sweep: Path, attempt: int, *, over: bool) -> None:
    """Take the lease; the caller holds the folder's lock. A previous holder finds out on renewal.

    Args:
        mirror: of the sweep's storage.
        sweep: its folder.
        attempt: number of this driver.
        over: take it even from a driver that seems to be alive.

    Raises:
        StorageError: another driver has it, or took it at the same moment.
    """
    if not over:
        check_free(mirror, sweep, holding=True)
    renew(mirror, sweep.name, attempt)
    time.sleep(SETTLE_SECONDS)
    check_free(mirror, sweep, holding=True)


def renew(mirror: Mirror, name: str, attempt: int) -> None:
    """Write the lease with the current time."""
    content = {
        "mirror": mirror.identity,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "attempt": attempt,
        "heard": time.time(),
    }
    mirror.objects.write(f"{name}/{LEASE}", json.dumps(content, indent=1).encode())


def lost_to(mirror: Mirror, name: str) -> str | None:
    """Return who took this process's lease, None while it is ours."""
    found = _read(mirror, name)
    if found is None or (found["mirror"], found["pid"]) == (mirror.identity, os.getpid()):
        return None
    return _shown(found)


def release(mirror: Mirror, name: str) -> None:
    """Remove the lease, unless another driver has it."""
    if lost_to(mirror, name) is None:
        mirror.objects.delete(f"{name}/{LEASE}")


def release_dead(mirror: Mirror, sweep: Path) -> None:
    """Remove the lease of a dead driver that ran in this folder."""
    found = _read(mirror, sweep.name)
    if found is not None and not is_locked(sweep) and not _is_alive(found, mirror, holding=True):
        mirror.objects.delete(f"{sweep.name}/{LEASE}")


def _read(mirror: Mirror, name: str) -> dict[str, Any] | None:
    content = mirror.objects.read(f"{name}/{LEASE}")
    found: dict[str, Any] | None = json.loads(content) if content else None
    return found


def _is_alive(found: Mapping[str, Any], mirror: Mirror, *, holding: bool) -> bool:
    """Return whether another driver is alive.

    Args:
        found: the lease.
        mirror: of the storage.
        holding: whether no other process holds the lock of the folder here; a driver that ran in
            it is gone then, however recent its lease.
    """
    if (found["mirror"], found["host"]) == (mirror.identity, socket.gethostname()) and holding:
        return False
    return time.time() - float(found["heard"]) < LEASE_SECONDS


def _shown(found: Mapping[str, Any]) -> str:
    return f"{found['host']}, process {found['pid']}"


def _refusal(found: Mapping[str, Any], mirror: Mirror, name: str) -> StorageError:
    ago = max(0.0, time.time() - float(found["heard"]))
    return StorageError(
        f"sweep '{name}' of {mirror.uri} is being run by another machine ({_shown(found)}, last "
        f"heard of {ago:.0f} s ago); watch it with: "
        f"{command_at(mirror.root, name, 'status', '--watch')}; if that process is dead, its claim "
        f"ends {LEASE_SECONDS:.0f} s after it was last heard of, or go on at once with: "
        f"{command_at(mirror.root, name, 'resume', '--take-over')}"
    )
