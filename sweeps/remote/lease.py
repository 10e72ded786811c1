"""Who runs a sweep: an object beside it, so that two machines do not run one sweep at once.

    <address>/<sweep>/lease.json   {"mirror", "host", "pid", "attempt", "heard"}

A bucket has no lock that every service knows. So a lease is written, left a moment and read back:
of two drivers that start together the one that wrote last goes on. It is written anew while its
driver lives; one that was not for three minutes is over. On one machine the file lock is exact.
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
# In which another driver that started in the same moment has written its own.
SETTLE_SECONDS = 1.0


def other_driver(mirror: Mirror, sweep: Path) -> str | None:
    """Return who runs a sweep elsewhere, as far as the newest pull knows: `host, pid 12`."""
    found = read_json(
        sweep / LEASE,
        lambda raw: {key: raw[key] for key in ("mirror", "host", "pid", "heard")},
        what="who runs the sweep",
        advice="remove it: it is brought anew",
    )
    if found is None or not _is_alive(found, mirror, holding=not is_locked(sweep)):
        return None
    return _shown(found)


def check_free(mirror: Mirror, sweep: Path, *, holding: bool = False) -> None:
    """Check that nobody else runs a sweep.

    Args:
        mirror: of its storage.
        sweep: its folder.
        holding: this process holds the folder's lock, so no other one on this machine runs it.

    Raises:
        StorageError: somebody does.
    """
    found = _read(mirror, sweep.name)
    if found is not None and _is_alive(found, mirror, holding=holding or not is_locked(sweep)):
        raise _refusal(found, mirror, sweep.name)


def take(mirror: Mirror, sweep: Path, attempt: int, *, over: bool) -> None:
    """Take the lease, holding the folder's lock; who held it before finds out when renewing it.

    Args:
        mirror: of the sweep's storage.
        sweep: its folder.
        attempt: number of this driver.
        over: also where another driver seems to be alive.

    Raises:
        StorageError: another driver has it, or took it in the same moment.
    """
    if not over:
        check_free(mirror, sweep, holding=True)
    renew(mirror, sweep.name, attempt)
    time.sleep(SETTLE_SECONDS)
    check_free(mirror, sweep, holding=True)


def renew(mirror: Mirror, name: str, attempt: int) -> None:
    """Write the lease with the present time."""
    content = {
        "mirror": mirror.identity,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "attempt": attempt,
        "heard": time.time(),
    }
    mirror.objects.write(f"{name}/{LEASE}", json.dumps(content, indent=1).encode())


def lost_to(mirror: Mirror, name: str) -> str | None:
    """Return who took the lease of this process, None while it is ours."""
    found = _read(mirror, name)
    if found is None or (found["mirror"], found["pid"]) == (mirror.identity, os.getpid()):
        return None
    return _shown(found)


def release(mirror: Mirror, name: str) -> None:
    """Give the lease back, unless another driver has it."""
    if lost_to(mirror, name) is None:
        mirror.objects.delete(f"{name}/{LEASE}")


def release_dead(mirror: Mirror, sweep: Path) -> None:
    """Give back the lease of a driver that ran in this folder and could not do so itself."""
    found = _read(mirror, sweep.name)
    if found is not None and not is_locked(sweep) and not _is_alive(found, mirror, holding=True):
        mirror.objects.delete(f"{sweep.name}/{LEASE}")


def _read(mirror: Mirror, name: str) -> dict[str, Any] | None:
    content = mirror.objects.read(f"{name}/{LEASE}")
    found: dict[str, Any] | None = json.loads(content) if content else None
    return found


def _is_alive(found: Mapping[str, Any], mirror: Mirror, *, holding: bool) -> bool:
    """Tell whether another driver lives.

    Args:
        found: the lease.
        mirror: of the storage.
        holding: no other process holds the lock of the folder here, so that a driver which ran in
            this folder is gone, however young its lease is.
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
