"""Proposals from an Optuna study, stored in a file of which the driver is the only writer.

Final states: finished -> COMPLETE; stopped -> PRUNED, with its rung values as attributes (a pruned
trial may carry no values in a multi-objective study); failed or NaN -> FAIL.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from sweeps.config import SweepConfig
from sweeps.search._base import Known, Outcome
from sweeps.search._internals import end_unasked, enter_running, open_trial
from sweeps.search._storage import study_storage
from sweeps.space import Parameter, Point

_ID = "rc.trial_id"
_WARM = "rc.warm_start"
_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
optuna.logging.set_verbosity(optuna.logging.WARNING)
# Choices may be lists and sections (difficulty.levels, loss.expert), which the journal stores as
# JSON. Optuna would warn whenever it reads one.
warnings.filterwarnings("ignore", "Choices for a categorical distribution", UserWarning)


class StudyProposals:
    """A study that proposes points; trials are known by our ids."""

    exhaustive = False
    choose: Callable[[Sequence[str]], str | None] | None = None
    # System attributes that the sampler expects, set on trials of earlier sweeps too.
    _attributes_of_known: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, sweep: SweepConfig, study_file: Path | None, sampler: BaseSampler) -> None:
        """Store what is given.

        Args:
            sweep: its space and objectives.
            study_file: its journal, created if missing; optuna-dashboard can read it live. None:
                the study is kept only in memory (simulations).
            sampler: any Optuna sampler.
        """
        self._space = sweep.space
        self._objectives = dict(sweep.settings.objectives)
        self._study = optuna.create_study(
            storage=None if study_file is None else study_storage(study_file),
            study_name="sweep",
            sampler=sampler,
            directions=[_DIRECTIONS[direction] for direction in self._objectives.values()],
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            # Marked experimental since Optuna 3.2.
            warnings.simplefilter("ignore", ExperimentalWarning)
            self._study.set_metric_names(list(self._objectives))
        # Study trials that are open: asked for, but not told of yet.
        self._open: dict[str, Trial] = {}
        self._warm: set[str] = set()
        known = self._study.get_trials(deepcopy=False)
        if known:
            # A resumed sampler with its first seed would propose its first points again.
            sampler.reseed_rng()
        for trial in known:
            if _WARM in trial.user_attrs:
                self._warm.add(trial.user_attrs[_WARM])
            elif not trial.state.is_finished():
                if _ID in trial.user_attrs:
                    self._open[trial.user_attrs[_ID]] = open_trial(self._study, trial)
                else:
                    end_unasked(self._study, trial)

    def propose(self, trial_id: str, point: Point | None = None) -> Point | None:
        """Ask the sampler, or enter the given point; one outside the space is not entered."""
        if point is not None:
            if self._space.contains(point):
                self._enter(trial_id, point)
            return point
        trial = self._study.ask()
        found = self._drawn(trial)
        # Set last: a trial without our id was interrupted while being drawn, and never handed out.
        trial.set_user_attr(_ID, trial_id)
        self._open[trial_id] = trial
        return found

    def _enter(self, trial_id: str, point: Point) -> None:
        """Enter a given point into the study, in one transaction."""
        entered = create_trial(
            state=TrialState.RUNNING,
            params=dict(point),
            distributions=self._distributions(point),
            user_attrs={_ID: trial_id},
        )
        self._open[trial_id] = enter_running(self._study, entered)

    def tell(self, trial_id: str, outcome: Outcome) -> None:
        trial = self._open.pop(trial_id, None)
        if trial is None:
            return
        for name, value in outcome.violations.items():
            if math.isfinite(value):
                trial.set_constraint(name, value)
        if outcome.status == "stopped":
            trial.set_user_attr("rungs", dict(outcome.rungs))
            self._study.tell(trial, state=TrialState.PRUNED)
            return
        values = [outcome.values.get(name, math.nan) for name in self._objectives]
        # A trial with a constraint that cannot be checked is off the front, so it is not a success.
        measured = all(map(math.isfinite, [*values, *outcome.violations.values()]))
        if outcome.status == "finished" and measured:
            self._study.tell(trial, values)
        else:
            self._study.tell(trial, state=TrialState.FAIL)

    def discard(self, trial_id: str) -> None:
        """Take back a proposal that is not run (a duplicate): its trial ends as FAIL."""
        trial = self._open.pop(trial_id, None)
        if trial is not None:
            self._study.tell(trial, state=TrialState.FAIL)

    def unfinished(self) -> dict[str, Point]:
        return {trial_id: self._decoded(trial.params) for trial_id, trial in self._open.items()}

    def know(self, known: Known) -> None:
        """Enter an earlier sweep's trial as a finished one, unless it was entered already."""
        if known.source in self._warm:
            return
        self._warm.add(known.source)
        point = self._encoded(known.point)
        self._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                params=point,
                distributions=self._distributions(point),
                values=[known.values[name] for name in self._objectives],
                constraints=dict(known.violations),
                user_attrs={_WARM: known.source},
                system_attrs=dict(self._attributes_of_known),
            )
        )

    def trials(self) -> Sequence[FrozenTrial]:
        """Return the study's trials, in order."""
        return self._study.get_trials(deepcopy=False)

    def _distributions(self, keys: Container[str]) -> dict[str, BaseDistribution]:
        return {p.key: distribution(p) for p in self._space.parameters if p.key in keys}

    def _drawn(self, trial: Trial) -> Point:
        """Draw a new trial's point: by default parameter by parameter, the active ones only."""
        return self._space.sample(lambda parameter: suggest(trial, parameter))

    def _encoded(self, point: Point) -> dict[str, Any]:
        """Return the study's parameters for a point."""
        return dict(point)

    def _decoded(self, params: dict[str, Any]) -> Point:
        """Return the point that the study's parameters stand for."""
        return dict(params)


def distribution(parameter: Parameter) -> BaseDistribution:
    """Return Optuna's distribution for a parameter."""
    if parameter.kind == "choice":
        return CategoricalDistribution(parameter.values)
    if parameter.kind == "int":
        return IntDistribution(parameter.low, parameter.high)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.kind == "log_uniform")


def suggest(trial: Trial, parameter: Parameter) -> Any:
    """Draw one parameter of a trial."""
    if parameter.kind == "choice":
        return trial.suggest_categorical(parameter.key, parameter.values)
    if parameter.kind == "int":
        return trial.suggest_int(parameter.key, parameter.low, parameter.high)
    log = parameter.kind == "log_uniform"
    return trial.suggest_float(parameter.key, parameter.low, parameter.high, log=log)
