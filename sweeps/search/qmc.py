"""Quasi-random draws (scrambled Sobol; Optuna), which cover the space more evenly than random.

On a flat encoding, so conditional parameters are even too among the trials where they are active.
It ignores results. The coverage is most even at powers of two.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import QMCSampler

from sweeps.config import SweepConfig
from sweeps.search._flat import FlatProposals

LOOKS_AT_RESULTS = False


def proposals(sweep: SweepConfig, study_file: Path | None) -> FlatProposals:
    """Return proposals from one Sobol sequence; a resumed sweep continues it."""
    with warnings.catch_warnings():
        # Marked experimental since Optuna 3.0.
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = QMCSampler(
            scramble=True, seed=sweep.settings.search.seed, warn_independent_sampling=False
        )
    return FlatProposals(sweep, study_file, sampler)
