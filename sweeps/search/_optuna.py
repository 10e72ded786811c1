"""Proposals from an Optuna study, kept durably in SQLite; the driver's process is its only writer.

Endings: finished -> COMPLETE; stopped -> PRUNED, with its rung values as attributes (a pruned
trial may carry no values in a multi-objective study); failed or NaN -> FAIL.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from sweeps.config import SweepConfig
from sweeps.search._base import Outcome
from sweeps.space import Parameter, Point

_ID = "rc.trial_id"
_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
optuna.logging.set_verbosity(optuna.logging.WARNING)
_logger = logging.getLogger(__name__)


class StudyProposals:
    """A study that proposes points; trials are known by our ids."""

    exhaustive = False
    choose = None

    def __init__(self, sweep: SweepConfig, study_file: Path, sampler: BaseSampler) -> None:
        """Store what is given.

        Args:
            sweep: its space and objectives.
            study_file: SQLite file, made where there is none; optuna-dashboard can read it live.
            sampler: any Optuna sampler.
        """
        self._space = sweep.space
        self._objectives = dict(sweep.settings.objectives)
        self._study = optuna.create_study(
            storage=f"sqlite:///{study_file}",
            study_name="sweep",
            sampler=sampler,
            directions=[_DIRECTIONS[direction] for direction in self._objectives.values()],
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            # Marked experimental since Optuna 3.2.
            warnings.simplefilter("ignore", ExperimentalWarning)
            self._study.set_metric_names(list(self._objectives))
        self._numbers: dict[str, int] = {}
        if self._study.get_trials(deepcopy=False):
            # A resumed sampler with its first seed would propose its first points again.
            sampler.reseed_rng()
        for trial in self._study.get_trials(deepcopy=False):
            if _ID in trial.user_attrs:
                self._numbers[trial.user_attrs[_ID]] = trial.number
            elif not trial.state.is_finished():
                self._study.tell(trial.number, state=TrialState.FAIL)

    def propose(self, trial_id: str, point: Point | None = None) -> Point | None:
        """Ask the sampler, or enter the given point; one outside the space is not entered."""
        if point is not None:
            if not self._space.contains(point):
                return point
            self._study.enqueue_trial(point)
        trial = self._study.ask()
        found = self._space.sample(lambda parameter: _suggest(trial, parameter))
        # Last: a trial without our id was cut short while it was drawn; it is not handed out.
        trial.set_user_attr(_ID, trial_id)
        self._numbers[trial_id] = trial.number
        return found

    def tell(self, trial_id: str, outcome: Outcome) -> None:
        number = self._numbers.get(trial_id)
        if number is None or self._state(number).is_finished():
            return
        trial = Trial(self._study, self._study.get_trials(deepcopy=False)[number]._trial_id)
        for name, value in outcome.violations.items():
            if math.isfinite(value):
                trial.set_constraint(name, value)
        if outcome.status == "stopped":
            trial.set_user_attr("rungs", dict(outcome.rungs))
            self._study.tell(number, state=TrialState.PRUNED)
            return
        values = [outcome.values.get(name, math.nan) for name in self._objectives]
        if outcome.status == "finished" and all(math.isfinite(value) for value in values):
            self._study.tell(number, values)
        else:
            self._study.tell(number, state=TrialState.FAIL)

    def discard(self, trial_id: str) -> None:
        """Take back a proposal that is not run (a duplicate): its trial ends as FAIL."""
        number = self._numbers.pop(trial_id, None)
        if number is None:
            return
        self._study.tell(number, state=TrialState.FAIL)

    def unfinished(self) -> dict[str, Point]:
        return {
            trial.user_attrs[_ID]: dict(trial.params)
            for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if _ID in trial.user_attrs
        }

    def states(self) -> Sequence[str]:
        """Return the name of every study trial's state, in order."""
        return [trial.state.name for trial in self._study.get_trials(deepcopy=False)]

    def _state(self, number: int) -> TrialState:
        return self._study.get_trials(deepcopy=False)[number].state


def _suggest(trial: Trial, parameter: Parameter) -> Any:
    if parameter.kind == "choice":
        return trial.suggest_categorical(parameter.key, parameter.values)
    if parameter.kind == "int":
        return trial.suggest_int(parameter.key, parameter.low, parameter.high)
    log = parameter.kind == "log_uniform"
    return trial.suggest_float(parameter.key, parameter.low, parameter.high, log=log)
