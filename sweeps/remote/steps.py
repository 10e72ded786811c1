"""Which files of a sweep's folder are in step with its address: `<sweep>/.steps.json`.

For each key it has the stamps of object and file from when both had the same content. A file with
another stamp was changed here; an object with another stamp was changed by another machine.

Several commands may use one sweep at once, and a node's trials upload in parallel. Each saves the
entries it made itself and keeps those of others: a file whose entry is lost would seem changed
here, hide a newer object, and be uploaded over it.
"""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from rc_core.atomic import write_text
from sweeps.remote.objects import Stamp

_FILE, _LOCK = ".steps.json", ".steps.lock"


class Steps:
    """What was in step, and the newest listing of the address; threads may share it."""

    def __init__(self, sweep: Path) -> None:
        self._path = sweep / _FILE
        self._sweep = sweep
        self._lock = threading.Lock()
        # key -> stamps of object and file from when both had the same content.
        self._same, other = self._read()
        self.listed = {key: there for key, (there, _) in self._same.items()} | other
        # Keys whose entries were made here; entries of all others are taken from the file.
        self._seen: set[str] = set()
        self._gone: set[str] = set()

    def changed_here(self, key: str) -> bool:
        """Return whether the file exists and differs from the one last in step."""
        stamp = stamp_of(self._sweep / key)
        return stamp is not None and (key not in self._same or self._same[key][1] != stamp)

    def changed_there(self, key: str) -> bool:
        """Return whether the object exists and differs from the one last in step."""
        stamp = self.listed.get(key)
        return stamp is not None and (key not in self._same or self._same[key][0] != stamp)

    def is_same(self, key: str, there: Stamp, here: Stamp) -> None:
        with self._lock:
            self._same[key] = (there, here)
            self.listed[key] = there
            self._seen.add(key)

    def set_listing(self, listed: Mapping[str, Stamp]) -> None:
        with self._lock:
            self.listed = dict(listed)
            # Only keys known here can be gone: another process may have added entries since.
            self._gone = {key for key in self._same if key not in listed}
            self._same = {key: each for key, each in self._same.items() if key in listed}

    def save(self) -> None:
        with self._lock, self._alone():
            same = {key: each for key, each in self._same.items() if key in self._seen}
            known, _ = self._read()
            same = {key: each for key, each in known.items() if key not in self._gone} | same
            self._same = same
            other = {k: v for k, v in self.listed.items() if k not in same or same[k][0] != v}
            text = json.dumps({"same": same, "listed": other}, separators=(",", ":"))
            write_text(self._path, text)

    def _read(self) -> tuple[dict[str, tuple[Stamp, Stamp]], dict[str, Stamp]]:
        """Return the file's entries in step, and other listed objects."""
        # Written often and not flushed to disk; if a crash loses it, every file counts as changed.
        with suppress(FileNotFoundError, json.JSONDecodeError):
            raw = json.loads(self._path.read_text(encoding="utf-8"))
            same = {k: (_pair(a), _pair(b)) for k, (a, b) in raw["same"].items()}
            return same, {key: _pair(each) for key, each in raw["listed"].items()}
        return {}, {}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from saving."""
        with (self._sweep / _LOCK).open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def stamp_of(path: Path) -> Stamp | None:
    """Return a file's stamp, None if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _pair(values: list[int]) -> Stamp:
    size, when = values
    return size, when
