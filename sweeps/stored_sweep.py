"""A sweep on disk: configuration, records, rows, front.

What a user does with one (choose, confirm, test, export) is in sweeps/api.py, which builds on the
modules that read this. No torch, Ray or MLflow here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from rc_core.record import TrialRecord
from sweeps.ending import confirmed_by
from sweeps.folder import SweepFolder
from sweeps.remote.mirror import CONFIRM_SUFFIX
from sweeps.rows import Row, rows
from sweeps.storages import storage_root

_T = TypeVar("_T")


class StoredSweep:
    """The content of a sweep's folder."""

    def __init__(self, folder: SweepFolder) -> None:
        self.folder = folder
        self._values = folder.read_config()
        # What a still copy has read so far; None if everything is read anew each time.
        self._once: dict[str, Any] | None = None

    @classmethod
    def load(cls, path: str | Path, *, storage: str | Path | None = None) -> Self:
        """Return the sweep at a path, or by its name under the storage. Raises StorageError."""
        return cls(SweepFolder.find(str(path), storage_root(storage)))

    def still(self) -> Self:
        """Return a copy that reads its records only once, when they are first needed.

        Trials of a running sweep begin and end between two reads, so results of the two would not
        match. It also saves reading hundreds of files again. A still copy returns itself.
        """
        if self._once is not None:
            return self
        found = copy.copy(self)
        found._once = {}
        return found

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, plain values."""
        return self._values

    @property
    def objectives(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self._values["objectives"]
        return found

    @property
    def constraints(self) -> tuple[str, ...]:
        return tuple(self._values.get("constraints", ()))

    @property
    def running(self) -> bool:
        """Whether a driver runs it; for a still copy, just before the records were read."""
        return self._known("running", self.folder.is_running)

    @property
    def records(self) -> list[TrialRecord]:
        """All records, ordered by id; read anew each time, so a running sweep can be watched."""
        return list(self._known("records", self._read))

    @property
    def confirmation(self) -> Self | None:
        """The sweep that holds this one's new seeds (`rc-sweep confirm`), None before that."""
        return self._known("confirmation", self._find_confirmation)

    @property
    def searched(self) -> Self:
        """The sweep that was searched: this one, or the one whose new seeds this one holds."""
        folder = confirmed_by(self.folder, self.config)
        if folder is self.folder:
            return self
        found = type(self)(folder)
        return found if self._once is None else found.still()

    @property
    def rows(self) -> list[Row]:
        """One row per record, with rank, difference to the reference, relative bias."""
        return list(self._known("rows", self._compare))

    def _known(self, what: str, read: Callable[[], _T]) -> _T:
        """Return what `read` returns; a still copy calls it only once per `what`."""
        if self._once is None:
            return read()
        if what not in self._once:
            self._once[what] = read()
        found: _T = self._once[what]
        return found

    def _read(self) -> list[TrialRecord]:
        if self._once is not None:
            # Asked before reading: without a driver, open trials count as interrupted, so a driver
            # that ends in between must still count as running.
            self._known("running", self.folder.is_running)
        return self.folder.records()

    def _compare(self) -> list[Row]:
        return rows(self.records, self.objectives, constraints=self.constraints)

    def _find_confirmation(self) -> Self | None:
        path = self.path.with_name(self.name + CONFIRM_SUFFIX)
        if not (path / "sweep.yaml").is_file():
            return None
        found = type(self)(SweepFolder(path))
        return found if self._once is None else found.still()
