"""Each thing that is used of Optuna and that it does not promise: an upgrade must fail here."""

from __future__ import annotations

import inspect

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import NSGAIISampler
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from sweeps.search import _internals


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(directions=["maximize", "maximize"])


def test_what_is_used_is_there(study: optuna.Study) -> None:
    assert isinstance(study._storage, BaseStorage)
    assert study._study_id == study._storage.get_study_id_from_name(study.study_name)
    assert "template_trial" in inspect.signature(BaseStorage.create_new_trial).parameters
    assert {"trial_id", "state"} <= set(
        inspect.signature(BaseStorage.set_trial_state_values).parameters
    )
    study.ask()
    (trial,) = study.get_trials(deepcopy=False)
    assert study._storage.get_trial(trial._trial_id).number == trial.number
    assert isinstance(NSGAIISampler._get_generation_key(), str)


def test_an_open_trial_of_a_resumed_study_is_told_of(study: optuna.Study) -> None:
    study.ask({"x": FloatDistribution(0.0, 1.0)})
    (trial,) = study.get_trials(deepcopy=False)
    again = _internals.open_trial(study, trial)
    assert again.params == trial.params
    study.tell(again, [0.5, 0.6])
    assert study.trials[0].values == [0.5, 0.6]


def test_a_trial_that_was_not_asked_for_is_ended(study: optuna.Study) -> None:
    study.enqueue_trial({"x": 0.5})
    _internals.end_unasked(study, study.get_trials(deepcopy=False)[0])
    assert study.trials[0].state == TrialState.FAIL


def test_a_running_trial_is_entered_and_told_of(study: optuna.Study) -> None:
    space: dict[str, BaseDistribution] = {"x": FloatDistribution(0.0, 1.0)}
    entered = create_trial(state=TrialState.RUNNING, params={"x": 0.25}, distributions=space)
    trial = _internals.enter_running(study, entered)
    assert study.trials[0].state == TrialState.RUNNING and trial.params == {"x": 0.25}
    study.tell(trial, [0.5, 0.6])
    assert study.trials[0].state == TrialState.COMPLETE


def test_a_known_trial_is_of_the_generation_that_the_sampler_looks_for() -> None:
    sampler = NSGAIISampler(population_size=2, seed=0)
    study = optuna.create_study(directions=["maximize", "maximize"], sampler=sampler)
    space: dict[str, BaseDistribution] = {"x": FloatDistribution(0.0, 1.0)}
    for value in (0.1, 0.9):
        study.add_trial(
            create_trial(
                params={"x": value},
                distributions=space,
                values=[value, 1 - value],
                system_attrs=dict(_internals.of_first_generation()),
            )
        )
    trial = study.ask(space)
    assert sampler.get_trial_generation(study, study.trials[trial.number]) == 1, "it is a child"
