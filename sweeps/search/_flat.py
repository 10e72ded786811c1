"""A conditional space for samplers that only support flat ones, with all parameters always set.

Each study trial has a value for every parameter. An inactive parameter gets its canonical value
(the middle of its range, the first choice), whatever the sampler drew: equal configurations then
have equal encodings, so values without effect cannot mislead a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from sweeps.config import SweepConfig
from sweeps.search._optuna import StudyProposals, distribution, suggest
from sweeps.space import Point, Space

_CONTINUOUS = ("uniform", "log_uniform")


class FlatProposals(StudyProposals):
    """Proposals of a sampler that draws in a flat space."""

    def __init__(self, sweep: SweepConfig, study_file: Path | None, sampler: BaseSampler) -> None:
        super().__init__(sweep, study_file, FlatSampler(sampler, sweep.space))

    def propose(self, trial_id: str, point: Point | None = None) -> Point | None:
        if point is not None and self._space.contains(point):
            # Obtained by `ask` like others, so that a genetic sampler counts it in a generation.
            self._study.enqueue_trial(self._encoded(point))
            point = None
        return super().propose(trial_id, point)

    def _drawn(self, trial: Trial) -> Point:
        # Sample even if the point is given, so that it belongs to a generation.
        _ = trial.relative_params
        # Suggest all, so that every study trial has the same parameters.
        return self._decoded({p.key: suggest(trial, p) for p in self._space.parameters})

    def _encoded(self, point: Point) -> dict[str, Any]:
        return {p.key: point.get(p.key, p.middle) for p in self._space.parameters}

    def _decoded(self, params: dict[str, Any]) -> Point:
        return self._space.sample(lambda parameter: params[parameter.key])


class FlatSampler(BaseSampler):
    """Wraps a sampler so that it draws in the whole flat space from the first trial on."""

    def __init__(self, inner: BaseSampler, space: Space) -> None:
        """Store what is given.

        Args:
            inner: any sampler.
            space: the conditional space.
        """
        self._inner = inner
        self._space = space

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        del study, trial
        every = {p.key: distribution(p) for p in self._space.parameters}
        return {key: values for key, values in every.items() if not values.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        drawn = self._inner.sample_relative(study, trial, search_space)
        flat: dict[str, Any] = {}
        point: Point = {}
        for parameter in self._space.parameters:
            key = parameter.key
            if not parameter.active(point, self._space.base):
                flat[key] = parameter.middle
                continue
            value = drawn.get(key)
            # A range's canonical value comes from a parent in which the parameter was inactive.
            asleep = parameter.kind in _CONTINUOUS and value == parameter.middle
            if key not in search_space:
                value = parameter.low
            elif key not in drawn or asleep:
                values = search_space[key]
                value = self._inner.sample_independent(study, trial, key, values)
            flat[key] = point[key] = value
        return flat

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._inner.after_trial(study, trial, state, values)
