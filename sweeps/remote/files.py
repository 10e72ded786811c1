"""What of a sweep's folder goes to its address, under which keys, and what stays on this machine.

    <address>/artifacts/<kind>/<key>/...        artifact.json last
    <address>/<sweep>/sweep.yaml front.json study.journal report.html test.json ...
    <address>/<sweep>/lease.json                who runs it; see sweeps/remote/lease.py
    <address>/<sweep>/trials/<id>/model/...     then predictions/, files.json, record.json

`files.json` has the checksums of a trial's files. A record goes up last, so one that has ended
means that its files are there. What only a running driver needs stays here: checkpoints, the
outbox, mlflow.db, Ray's files. A key is relative to the sweep's folder.
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
    """Tell whether a driver on this machine holds a sweep's lock now."""
    try:
        # Only read, and shared: who looks need not be able to write.
        with (sweep / ".lock").open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def lock(stream: IO[str]) -> None:
    """Take the lock of a sweep, whose file this is; closing that gives it back.

    Who looks whether it is held holds it for a moment (`is_locked`), which is no driver.

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
    """Return the number of the newest driver that is known here; 0 before the first.

    Raises:
        StorageError: attempt.json is damaged.
    """
    return _newest(sweep)[0]


def driven_here(sweep: Path) -> int:
    """Return the newest attempt that this folder has the files of: a later one may be elsewhere."""
    attempt, lost = _newest(sweep)
    return attempt - int(lost)


def _newest(sweep: Path) -> tuple[int, bool]:
    """Return the number of the newest attempt, and whether another machine took it over."""
    found = read_json(
        sweep / ATTEMPT,
        lambda raw: (int(raw["attempt"]), bool(raw.get("lost", False))),
        what="the number of the sweep's newest driver",
        advice='write {"attempt": N} in it, N being the highest "attempt" in trials/*/record.json',
    )
    return found or (0, False)


def views(sweep: Path) -> list[str]:
    """Return the keys of what lies beside the trials and goes to the address."""
    return sorted(
        path.name
        for path in sweep.glob("*")
        if path.is_file()
        and not path.name.startswith(".")
        # The study's lock is a file beside it, for a moment.
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
    """Tell whether a key lies beside the trials."""
    return "/" not in key


def is_record(key: str) -> bool:
    """Tell whether a key is that of a trial's record."""
    return key.count("/") == 2 and key.endswith("/record.json")


def part_of(key: str) -> tuple[str, str]:
    """Return trial and part of a trial's file (`t0001`, `model`); of any other key nothing."""
    names = key.split("/")
    return (names[1], names[2]) if len(names) > 3 and names[0] == "trials" else ("", "")
