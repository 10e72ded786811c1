"""A trial's folder in a mirror, which fetches its model and predictions on demand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rc_core.record import TrialFolder, TrialRecord, read_record
from sweeps.remote.mirror import Mirror


class MirroredTrial(TrialFolder):
    """A trial of a sweep that is not driven from this folder."""

    def __init__(self, path: Path, mirror: Mirror, *, fence: Callable[[], int]) -> None:
        super().__init__(path, fence=fence)
        self._mirror = mirror
        self._sweep = path.parents[1].name

    @property
    def model(self) -> Path:
        path = super().model
        # Always called, as a killed command may have fetched a part; no request if all is here.
        self._mirror.bring(self._sweep, path.name, trial=self.path.name)
        return path

    def predictions(self, role: str, suite: str) -> Path:
        path = super().predictions(role, suite)
        if not path.is_file():
            # Of all trials: a caller that reads one usually reads many.
            self._mirror.bring(self._sweep, "predictions")
        return path

    def tested_splits(self) -> dict[str, str] | None:
        if not self._test_stamp.is_file():
            self._mirror.bring(self._sweep, "predictions")
        return super().tested_splits()


def begin_anew(sweep: Path) -> list[TrialRecord]:
    """Drop the rungs of unfinished trials whose checkpoints are not here; return their records.

    They start from their first step, and a scheduler must not count their rungs twice.
    """
    changed = []
    for path in sorted(sweep.glob("trials/*/record.json")):
        record = read_record(path)
        folder = TrialFolder(path.parent)
        if record.status == "running" and record.rungs and not folder.has_checkpoint():
            changed.append(record.model_copy(update={"rungs": ()}))
            folder.commit(changed[-1])
    return changed
