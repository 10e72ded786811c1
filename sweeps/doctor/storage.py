"""What `rc-sweep doctor` asks of a storage at a URI: that it lists, writes, reads and deletes."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from rc_core.errors import StorageError
from sweeps.doctor.services import Finding
from sweeps.remote.mirror import Mirror

# Drivers on two machines compare times that are minutes apart; see sweeps/remote/lease.py.
_MOST_SKEW = 30.0


def with_address(root: Path, local: Finding) -> Finding:
    """Return what was found of a storage's folder, together with what its URI says, if it has one.

    Args:
        root: the storage's folder.
        local: what was found of it.
    """
    mirror = Mirror.at(root)
    if mirror is None or local[0] == "problem":
        return local
    key, content = f".rc-doctor-{uuid.uuid4().hex}", b"x" * 16
    try:
        mirror.names()
        mirror.objects.write(key, content)
        try:
            written, (_, when) = mirror.objects.read(key), mirror.objects.of([key])[key]
            skew = when / 1e9 - time.time()
        finally:
            mirror.objects.delete(key)
    except StorageError as error:
        return "problem", str(error), "see docs/storage.md for what a storage at a URI needs"
    if written != content:
        return "problem", f"{mirror.uri} does not give back what was written", "use another one"
    found = f"{mirror.uri} lists, writes, reads and deletes; here it is {local[1]}"
    if abs(skew) > _MOST_SKEW:
        advice = "keep machines on NTP: who runs a sweep is told by times"
        return "note", f"{found}; its clock differs by {skew:+.0f} s", advice
    return "ok", found, ""
