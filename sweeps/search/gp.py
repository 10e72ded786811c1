"""Gaussian processes and expected hypervolume improvement (Optuna), on a flat encoding.

Suited to few, expensive trials: a proposal takes about a second, and longer with more trials.
Trials that a scheduler stopped have no values, so the model ignores them.
"""

from __future__ import annotations

from pathlib import Path

from optuna.samplers import GPSampler

from sweeps.config import SweepConfig
from sweeps.search._flat import FlatProposals


def proposals(sweep: SweepConfig, study_file: Path | None) -> FlatProposals:
    """Return proposals of a Gaussian process, after 4 to 10 random ones."""
    search = sweep.settings.search
    sampler = GPSampler(
        seed=search.seed,
        n_startup_trials=min(10, max(4, search.trials // 3)),
        warn_independent_sampling=False,
    )
    return FlatProposals(sweep, study_file, sampler)
