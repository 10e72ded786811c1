"""Checks of a storage: of its folder, and of its URI (list, write, read, delete)."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
import uuid
from pathlib import Path

from rc_core.errors import StorageError
from sweeps.doctor.services import Finding
from sweeps.remote.mirror import Mirror

# Drivers on two machines compare times that are minutes apart; see sweeps/remote/lease.py.
_MOST_SKEW = 30.0
_WRITABLE = "name a writable folder: --storage DIR, or RC_STORAGE"


def nearest_folder(root: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(path for path in (root, *root.parents) if path.is_dir())


def check_place(root: Path) -> None:
    """Check that a storage is, or can become, a writable folder.

    Raises:
        StorageError: a file is in its place, or nothing can be made there.
    """
    problem = _unfit(root)
    if problem is not None:
        raise StorageError(f"{problem}; {_WRITABLE}")


def _unfit(root: Path) -> str | None:
    there = next(path for path in (root, *root.parents) if os.path.lexists(path))
    if not there.is_dir():
        return f"the storage must be a folder, but {there} is a file"
    try:
        tempfile.TemporaryDirectory(prefix=".rc-doctor-", dir=there).cleanup()
    except OSError as error:
        return f"{root} must be writable: {error.strerror}"
    return None


def check_folder(root: Path) -> Finding:
    """Try on the storage what records, locks and models need, then clean up."""
    advice, problem = _WRITABLE, _unfit(root)
    if problem is not None:
        return "problem", problem, advice
    place = nearest_folder(root)
    found = str(root) if place == root else f"{root} (will be made in {place})"
    try:
        with tempfile.TemporaryDirectory(prefix=".rc-doctor-", dir=place) as folder:
            first, second = Path(folder) / "a", Path(folder) / "b"
            with first.open("w") as stream:
                stream.write("x")
                stream.flush()
                os.fsync(stream.fileno())
            second.write_text("y")
            first.replace(second)
            if second.read_text() != "x":
                advice = "records need atomic renames; use another file system"
                return "problem", f"{found}: a rename was not seen", advice
            advice = "locks must work there: mount it with them, or use a local folder"
            if not _locks(second):
                return "problem", f"{found}: two processes could hold one lock", advice
    except OSError as error:
        return "problem", f"{found}: {error.strerror}", advice
    return "ok", f"{found}: writes, renames and locks work", ""


def _locks(path: Path) -> bool:
    """Return whether a second holder of a file's lock is refused."""
    with path.open("a") as first, path.open("a") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def with_address(root: Path, local: Finding) -> Finding:
    """Return the finding on a storage's folder, joined with that on its URI if it has one.

    Args:
        root: the storage's folder.
        local: the finding on the folder.
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
        return "problem", f"{mirror.uri} does not return what was written", "use another storage"
    found = f"{mirror.uri} lists, writes, reads and deletes; here it is {local[1]}"
    if abs(skew) > _MOST_SKEW:
        advice = "keep machines on NTP: leases compare their clocks"
        return "note", f"{found}; its clock differs by {skew:+.0f} s", advice
    return "ok", found, ""
