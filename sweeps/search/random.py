"""Independent random draws from the space; the baseline every other search must beat."""

from __future__ import annotations

from pathlib import Path
from random import Random

from optuna.samplers import RandomSampler

from sweeps.config import SweepConfig
from sweeps.search._optuna import StudyProposals
from sweeps.space import Point

LOOKS_AT_RESULTS = False


class RandomProposals(StudyProposals):
    """Draws points itself and enters each as a whole, which is much faster than a sampler."""

    def __init__(self, sweep: SweepConfig, study_file: Path | None) -> None:
        seed = sweep.settings.search.seed
        super().__init__(sweep, study_file, RandomSampler(seed=seed))
        # A resumed sweep must not repeat the points it began with.
        self._rng = Random(f"{seed}/{len(self.trials())}")

    def propose(self, trial_id: str, point: Point | None = None) -> Point | None:
        return super().propose(trial_id, self._space.draw(self._rng) if point is None else point)


def proposals(sweep: SweepConfig, study_file: Path | None) -> RandomProposals:
    """Return proposals drawn uniformly (log-uniformly if the space says so)."""
    return RandomProposals(sweep, study_file)
