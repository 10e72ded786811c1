"""Multi-objective genetic search (NSGA-II, Deb et al. 2002; Optuna), on a flat encoding.

A compression or loss activated by crossover gets random values if no parent had any.
Only finished trials become parents: trials that a scheduler stopped have no values.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import NSGAIISampler
from optuna.samplers.nsgaii import SBXCrossover

from sweeps.config import SweepConfig
from sweeps.search._flat import FlatProposals
from sweeps.search._internals import of_first_generation

# A sweep of encoders has tens of trials; Optuna's default of 50 per generation is for thousands.
_GENERATIONS = 6
_SMALLEST, _LARGEST = 6, 50


class GeneticProposals(FlatProposals):
    """Trials of earlier sweeps are parents from the start."""

    _attributes_of_known: ClassVar[Mapping[str, Any]] = of_first_generation()


def proposals(sweep: SweepConfig, study_file: Path | None) -> GeneticProposals:
    """Return proposals of about six generations, each of 6 to 50 trials; the first is random."""
    search = sweep.settings.search
    size = min(_LARGEST, max(_SMALLEST, search.trials // _GENERATIONS))
    with warnings.catch_warnings():
        # Marked experimental since Optuna 3.0. By default children only swap their parents' values.
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = NSGAIISampler(population_size=size, crossover=SBXCrossover(), seed=search.seed)
    return GeneticProposals(sweep, study_file, sampler)
