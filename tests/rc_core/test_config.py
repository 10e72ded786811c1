"""One schema for everything: strictness, all problems at once, fingerprints, the reference."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from rc_core.config import TrialConfig, decode, fingerprint
from rc_core.errors import ConfigError, StaleAttemptError


def valid(**changes: Any) -> dict[str, Any]:
    return {
        "model": "tiny:bert",
        "compression": {"name": "magnitude", "sparsity": 0.5},
        "loss": {"name": "rmc", "alpha": 0.5, "lambda": 0.9},
        **changes,
    }


def test_defaults_are_filled_in_and_round_trip_through_json() -> None:
    config = decode(valid())
    assert config.training.epochs == 2.0
    assert config.task.name == "shortcut_nli"
    again = decode(json.loads(json.dumps(config.as_dict())))
    assert again == config
    assert again.fingerprint() == config.fingerprint()


@pytest.mark.parametrize(
    ("on", "where", "told"),
    [
        (
            {"name": "student", "num_layer": 2},
            "loss.alpha_on.num_layer",
            "did you mean 'num_layers",
        ),
        ({"name": "magnitud"}, "loss.alpha_on.name", "did you mean 'magnitude'"),
        ({"sparsity": 0.5}, "loss.alpha_on.name", "is required"),
        ({"name": "magnitude", "sparsity": 2.0}, "loss.alpha_on.sparsity", "less than"),
    ],
)
def test_what_alpha_is_judged_on_is_a_compression(
    on: dict[str, Any], where: str, told: str
) -> None:
    loss = {"name": "rmc", "alpha": "auto", "alpha_on": on}
    with pytest.raises(ConfigError) as caught:
        decode(valid(loss=loss, training={"epochs": 0.0}))
    found = {problem.where: problem.message for problem in caught.value.problems}
    assert found.keys() == {where, "training.epochs"} and told in found[where]
    right = {"name": "student", "num_layers": 2}
    kept = decode(valid(loss=loss | {"alpha_on": right})).as_dict()["loss"]["alpha_on"]
    assert kept == right, "as it was given"


def test_all_problems_are_reported_with_their_places() -> None:
    with pytest.raises(ConfigError) as caught:
        decode(
            valid(
                modle="x",
                training={"epochz": 3, "batch_size": "32"},
                compression={"name": "magnitude", "sparsity": 1.0},
                loss={"name": "rcm"},
            )
        )
    found = {problem.where: problem.message for problem in caught.value.problems}
    assert "did you mean 'model'" in found["modle"]
    assert "did you mean 'epochs'" in found["training.epochz"]
    assert "training.batch_size" in found
    assert "compression.sparsity" in found
    assert "did you mean 'rmc'" in found["loss.name"]


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("training", {"seed": True}),
        ("training", {"seed": "3"}),
        ("training", {"epochs": 0}),
        ("training", {"learning_rate": float("nan")}),
        ("training", {"warmup": 1.5}),
        ("training", {"precision": "fp8"}),
        ("compression", {"name": "magnitude", "sparsity": -0.1}),
        ("compression", {"name": "magnitude", "init": "scratch"}),
        ("compression", "magnitude"),
        ("compression", {}),
        ("loss", {"name": "rmc", "alpha": 0.0}),
        ("loss", {"name": 3}),
        ("teacher", {"epoch": 3}),
        ("difficulty", {"name": "loss_variance", "levels": [0.5, 0.2]}),
    ],
)
def test_bad_values_are_config_errors(section: str, values: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(valid(**{section: values}))
    assert all(problem.where.startswith(section) for problem in caught.value.problems)


def test_the_fingerprint_changes_with_any_value() -> None:
    first = decode(valid())
    assert decode(valid(training={"seed": 1})).fingerprint() != first.fingerprint()
    assert decode(valid(compression={"name": "magnitude", "sparsity": 0.4})) != first
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_the_reference_is_dense_vanilla_with_the_teachers_training() -> None:
    config = decode(valid(training={"epochs": 3}, teacher={"epochs": 1.5}))
    reference = config.reference()
    assert (reference.compression.name, reference.loss.name) == ("dense", "vanilla")
    assert reference.training.epochs == 1.5
    assert reference.is_reference() and not config.is_reference()
    assert reference.reference() == reference


def test_labels_name_what_differs_from_the_defaults() -> None:
    config = decode(valid())
    assert config.compression.label() == "magnitude-50"
    assert decode(valid(loss={"name": "rmc", "alpha": 0.3})).loss.label() == "rmc alpha=0.3"


def test_errors_survive_pickling() -> None:
    with pytest.raises(ConfigError) as caught:
        decode({"model": 3, "loss": {"name": "x"}})
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is ConfigError
    assert copy.problems == caught.value.problems and str(copy) == str(caught.value)
    stale = pickle.loads(pickle.dumps(StaleAttemptError("old")))
    assert isinstance(stale, StaleAttemptError) and str(stale) == "old"


def test_a_config_cannot_be_changed() -> None:
    config: TrialConfig = decode(valid())
    with pytest.raises(ValueError, match="frozen"):
        config.training.epochs = 9  # type: ignore[misc]


@pytest.mark.parametrize("section", ["training", "task"])
def test_a_seed_that_a_library_would_refuse_is_refused_first(section: str) -> None:
    given = valid(task={"name": "shortcut_nli"})
    most = {**given, section: {**given.get(section, {}), "seed": 2**32 - 1}}
    assert decode(most).as_dict()[section]["seed"] == 2**32 - 1
    with pytest.raises(ConfigError, match=f"{section}.seed"):
        decode({**given, section: {**given.get(section, {}), "seed": 2**32}})
