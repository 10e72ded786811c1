"""How far a sweep's folder and its address are in step: `<sweep>/.steps.json`.

Per key what the object was and what the file was when both were the same. A file that has another
stamp now was changed here, an object that has another one was changed by another machine.

Several commands may look at one sweep at once, and the trials of a node upload side by side: each
saves what it has seen itself, and leaves what others have. What one forgot of another's would seem
changed here, would hide what is newer there, and be uploaded over it.
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
    """What was in step, and the newest known listing of the address; threads may share it."""

    def __init__(self, sweep: Path) -> None:
        self._path = sweep / _FILE
        self._sweep = sweep
        self._lock = threading.Lock()
        # key -> (object's stamp, file's stamp), when both had the same content.
        self._same, other = self._read()
        self.listed = {key: there for key, (there, _) in self._same.items()} | other
        # Of these the own word counts, of all others that of the file.
        self._seen: set[str] = set()
        self._gone: set[str] = set()

    def changed_here(self, key: str) -> bool:
        """Tell whether the file is there and not what was last in step."""
        stamp = stamp_of(self._sweep / key)
        return stamp is not None and (key not in self._same or self._same[key][1] != stamp)

    def changed_there(self, key: str) -> bool:
        """Tell whether the object is there and not what was last in step."""
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
            # What is new there is not gone: another one may have seen it since.
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
        """Return what the file says was in step, and what else was listed."""
        # Written often and not flushed to the disk: without it, what differs is compared anew.
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
    """Return a file's stamp, None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _pair(values: list[int]) -> Stamp:
    size, when = values
    return size, when
