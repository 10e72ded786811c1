"""How far a sweep's folder and its address are in step: `<sweep>/.steps.json`.

Per key what the object was and what the file was when both were the same. A file that has another
stamp now was changed here, an object that has another one was changed by another machine.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rc_core.atomic import write_text
from sweeps.remote.objects import Stamp

_FILE = ".steps.json"


class Steps:
    """What was in step, and the newest known listing of the address; threads may share it."""

    def __init__(self, sweep: Path) -> None:
        self._path = sweep / _FILE
        self._sweep = sweep
        self._lock = threading.Lock()
        # key -> (object's stamp, file's stamp), when both had the same content.
        self._same: dict[str, tuple[Stamp, Stamp]] = {}
        self.listed: dict[str, Stamp] = {}
        # Written often and not flushed to the disk: without it, what differs is compared anew.
        with suppress(FileNotFoundError, json.JSONDecodeError):
            raw = json.loads(self._path.read_text(encoding="utf-8"))
            self._same = {k: (_pair(a), _pair(b)) for k, (a, b) in raw["same"].items()}
            self.listed = {key: there for key, (there, _) in self._same.items()}
            self.listed |= {key: _pair(each) for key, each in raw["listed"].items()}

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

    def set_listing(self, listed: Mapping[str, Stamp]) -> None:
        with self._lock:
            self.listed = dict(listed)
            self._same = {key: each for key, each in self._same.items() if key in listed}

    def save(self) -> None:
        with self._lock:
            same = self._same
            other = {k: v for k, v in self.listed.items() if k not in same or same[k][0] != v}
            text = json.dumps({"same": same, "listed": other}, separators=(",", ":"))
            write_text(self._path, text)


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
