"""All uses of Optuna's private API, and why there is no other way.

    Trial(study, FrozenTrial._trial_id)     tells a resumed study of its open trials; `ask` only
                                            makes new ones
    Study._storage, Study._study_id         `tell` refuses a trial that was not asked for, and
                                            `add_trial` takes only finished trials
    NSGAIISampler._get_generation_key       only trials of a generation become parents

tests/sweeps/search/test_internals.py tests each, and fails if Optuna changes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState


def open_trial(study: Study, trial: FrozenTrial) -> Trial:
    """Return an unfinished trial of a study as `ask` returned it before the study was resumed."""
    return Trial(study, trial._trial_id)


def end_unasked(study: Study, trial: FrozenTrial) -> None:
    """End a trial that was entered, not asked for, as FAIL; `tell` would refuse it."""
    study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)


def enter_running(study: Study, entered: FrozenTrial) -> Trial:
    """Put a running trial with given parameters into a study, in one transaction."""
    number = study._storage.create_new_trial(study._study_id, template_trial=entered)
    return Trial(study, number)


def of_first_generation() -> Mapping[str, Any]:
    """Return the system attributes of a parent of NSGA-II's first children."""
    return {NSGAIISampler._get_generation_key(): 0}
