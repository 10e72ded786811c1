"""Which files of a sweep's folder go to its address, under which keys, and which stay here.

    <address>/artifacts/<kind>/<key>/...        artifact.json last
    <address>/<sweep>/sweep.yaml front.json study.journal report.html test.json ...
    <address>/<sweep>/lease.json                who runs it; see sweeps/remote/lease.py
    <address>/<sweep>/trials/<id>/model/...     then predictions/, files.json, record.json

`files.json` has the checksums of a trial's files. A record is uploaded last, so if it says that the
trial has ended, the trial's files are there. What only a driver needs stays on its machine:
checkpoints, the outbox, mlflow.db, Ray's files. Below, keys are relative to the sweep's folder.
"""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import IO

from sweeps.json_files import read_json

ATTEMPT, LEASE, SUMS, MANIFEST = "attempt.json", "lease.json", "files.json", "artifact.json"
_LOCAL = ("outbox.jsonl", "outbox.offset", LEASE)
_PARTS = ("model", "predictions", "seeds")
_TRIES, _PAUSE = 10, 0.02


def is_locked(sweep: Path) -> bool:
    """Return whether a driver on this machine holds a sweep's lock now."""
    try:
        # A shared lock on a file opened for reading: no permission to write is needed.
        with (sweep / ".lock").open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def lock(stream: IO[str]) -> None:
    """Take the lock of a sweep; closing its file, `stream`, releases it.

    It is tried several times: `is_locked` holds the lock for a moment too.

    Raises:
        BlockingIOError: a driver holds it.
        OSError: the file system has no locks.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            return fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not tries_left:
                raise
            time.sleep(_PAUSE)


def attempt_in(sweep: Path) -> int:
    """Return the number of the newest driver known here; 0 before the first.

    Raises:
        StorageError: attempt.json is damaged.
    """
    return _newest(sweep)[0]


def driven_here(sweep: Path) -> int:
    """Return the newest attempt whose files this folder has; a later one may be elsewhere."""
    attempt, lost = _newest(sweep)
    return attempt - int(lost)


def _newest(sweep: Path) -> tuple[int, bool]:
    """Return the number of the newest attempt, and whether another machine took it over."""
    found = read_json(
        sweep / ATTEMPT,
        lambda raw: (int(raw["attempt"]), bool(raw.get("lost", False))),
        what="the number of the sweep's newest driver",
        advice='write {"attempt": N} to it, with N the highest "attempt" in trials/*/record.json',
    )
    return found or (0, False)


def views(sweep: Path) -> list[str]:
    """Return the keys of files beside the trials that go to the address."""
    return sorted(
        path.name
        for path in sweep.glob("*")
        if path.is_file()
        and not path.name.startswith(".")
        # The study's lock file, which exists only for moments.
        and path.name not in _LOCAL
        and ".lock" not in path.name
    )


def trial_ids(sweep: Path) -> list[str]:
    """Return the ids of the trials that have a record, sorted."""
    return sorted(path.parent.name for path in sweep.glob("trials/*/record.json"))


def record_key(trial: str) -> str:
    """Return the key of a trial's record."""
    return f"trials/{trial}/record.json"


def file_keys(sweep: Path, trial: str) -> list[str]:
    """Return the keys of a trial's files: its model and predictions."""
    found = (path for part in _PARTS for path in (sweep / "trials" / trial / part).rglob("*"))
    return sorted(
        path.relative_to(sweep).as_posix()
        for path in found
        if path.is_file() and not path.name.startswith(".")
    )


def is_view(key: str) -> bool:
    """Return whether a key is of a file beside the trials."""
    return "/" not in key


def is_record(key: str) -> bool:
    """Return whether a key is of a trial's record."""
    return key.count("/") == 2 and key.endswith("/record.json")


def part_of(key: str) -> tuple[str, str]:
    """Return (trial, part) of a trial's file, say (`t0001`, `model`); else two empty strings."""
    names = key.split("/")
    return (names[1], names[2]) if len(names) > 3 and names[0] == "trials" else ("", "")
