"""A trial's folder in a mirror: its model and predictions are brought when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rc_core.record import TrialFolder, TrialRecord, read_record
from sweeps.remote.mirror import Mirror


class MirroredTrial(TrialFolder):
    """Of a sweep that nobody drives from this folder."""

    def __init__(self, path: Path, mirror: Mirror, *, fence: Callable[[], int]) -> None:
        super().__init__(path, fence=fence)
        self._mirror = mirror
        self._sweep = path.parents[1].name

    @property
    def model(self) -> Path:
        path = super().model
        # Nothing is asked for where all of it is here; a part may be, of a command that was killed.
        self._mirror.bring(self._sweep, path.name, trial=self.path.name)
        return path

    def predictions(self, role: str, suite: str) -> Path:
        path = super().predictions(role, suite)
        if not path.is_file():
            # Who reads one reads those of many trials.
            self._mirror.bring(self._sweep, "predictions")
        return path

    def tested_splits(self) -> dict[str, str] | None:
        if not self._test_stamp.is_file():
            self._mirror.bring(self._sweep, "predictions")
        return super().tested_splits()


def begin_anew(sweep: Path) -> list[TrialRecord]:
    """Take their rungs from unfinished trials whose checkpoint is on another machine.

    They start from their first step; a scheduler must not count their rungs twice.
    """
    changed = []
    for path in sorted(sweep.glob("trials/*/record.json")):
        record = read_record(path)
        folder = TrialFolder(path.parent)
        if record.status == "running" and record.rungs and not folder.has_checkpoint():
            changed.append(record.model_copy(update={"rungs": ()}))
            folder.commit(changed[-1])
    return changed
