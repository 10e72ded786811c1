"""Every point of a space of choices and whole numbers, once, in the order of the YAML."""

from __future__ import annotations

from pathlib import Path

from optuna.samplers import RandomSampler

from sweeps.config import SweepConfig
from sweeps.search._optuna import StudyProposals
from sweeps.space import Point

LOOKS_AT_RESULTS = False


class GridProposals(StudyProposals):
    """Enters the grid's points one by one, without using a sampler."""

    exhaustive = True

    def __init__(self, sweep: SweepConfig, study_file: Path | None) -> None:
        super().__init__(sweep, study_file, RandomSampler(seed=0))
        self._points = sweep.space.grid()

    def propose(self, trial_id: str, point: Point | None = None) -> Point | None:
        if point is None:
            # Points tried before (first points, an earlier driver) come again; the assignments skip
            # such duplicates.
            point = next(self._points, None)
        return None if point is None else super().propose(trial_id, point)


def proposals(sweep: SweepConfig, study_file: Path | None) -> GridProposals:
    """Return proposals that enumerate the grid."""
    return GridProposals(sweep, study_file)
