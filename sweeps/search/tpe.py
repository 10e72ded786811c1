"""Multi-objective tree-structured Parzen estimator (Optuna), on the conditional space."""

from __future__ import annotations

import warnings
from pathlib import Path

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler

from sweeps.config import SweepConfig
from sweeps.search._optuna import StudyProposals


def proposals(sweep: SweepConfig, study_file: Path | None) -> StudyProposals:
    """Return proposals of a TPE that models parameters jointly, by groups of the conditional space.

    The first third of the trials (4 to 10) is drawn at random.
    """
    search = sweep.settings.search
    with warnings.catch_warnings():
        # `multivariate` and `group` have been marked experimental for years.
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = TPESampler(
            multivariate=True,
            group=True,
            constant_liar=True,
            n_startup_trials=min(10, max(4, search.trials // 3)),
            seed=search.seed,
        )
    return StudyProposals(sweep, study_file, sampler)
