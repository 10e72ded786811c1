"""Independent random draws from the space; the baseline every other search must beat."""

from __future__ import annotations

from pathlib import Path

from optuna.samplers import RandomSampler

from sweeps.config import SweepConfig
from sweeps.search._optuna import StudyProposals


def proposals(sweep: SweepConfig, study_file: Path | None) -> StudyProposals:
    """Return proposals drawn uniformly (log-uniformly where the space says so)."""
    return StudyProposals(sweep, study_file, RandomSampler(seed=sweep.settings.search.seed))
