"""The conditional space: what is active, its corners, its grid, and what is refused."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rc_core.errors import ConfigError
from sweeps.space import Point, Space
from sweeps.space_section import read_space

RAW: dict[str, Any] = {
    "loss.alpha": {"choice": [0.2, 0.5], "when": {"loss.name": "rmc"}},
    "compression.name": {"choice": ["magnitude", "student"]},
    "compression.sparsity": {"uniform": [0.2, 0.8], "when": {"compression.name": "magnitude"}},
    "compression.num_layers": {"int": [2, 4], "when": {"compression.name": "student"}},
    "loss.name": {"choice": ["vanilla", "rmc"]},
    "training.learning_rate": {"log_uniform": [1e-5, 1e-3]},
}


def parse_space(raw: Any, base: Any, *more: Any) -> Space:
    space, problems = read_space(raw, base, *more)
    if problems:
        raise ConfigError(problems)
    return space


def none(key: str) -> Any:
    return {"training.epochs": 2.0}.get(key)


@pytest.fixture
def space() -> Space:
    return parse_space(RAW, none)


def test_a_point_holds_exactly_the_active_parameters(space: Space) -> None:
    for seed in range(50):
        point = space.draw(random.Random(seed))
        assert ("compression.sparsity" in point) == (point["compression.name"] == "magnitude")
        assert ("compression.num_layers" in point) == (point["compression.name"] == "student")
        assert ("loss.alpha" in point) == (point["loss.name"] == "rmc")
        assert space.contains(point)


@pytest.mark.parametrize(
    "change",
    [
        {"compression.sparsity": 0.9},
        {"compression.num_layers": 3},
        {"loss.alpha": 0.3},
        {"compression.name": "heads"},
        {"training.learning_rate": True},
        {"unknown.key": 1},
    ],
)
def test_a_point_outside_is_not_contained(space: Space, change: Point) -> None:
    point = {
        "compression.name": "magnitude",
        "compression.sparsity": 0.5,
        "loss.name": "rmc",
        "loss.alpha": 0.2,
        "training.learning_rate": 1e-4,
    }
    assert space.contains(point)
    assert not space.contains(point | change)


def test_corners_show_every_choice_and_both_ends_of_every_range(space: Space) -> None:
    corners = list(space.corners())
    assert all(space.contains(corner) for corner in corners)
    for parameter in space.parameters:
        seen = {corner[parameter.key] for corner in corners if parameter.key in corner}
        assert set(parameter.ends()) <= seen


def test_structures_are_the_combinations_of_names(space: Space) -> None:
    found = {(p["compression.name"], p["loss.name"]) for p in space.structures()}
    assert found == {(c, name) for c in ("magnitude", "student") for name in ("vanilla", "rmc")}
    assert len(list(space.structures())) == 4


def test_what_is_built_before_the_first_trial_is_in_the_structures() -> None:
    raw = {
        "loss.expert.level": {"choice": [0.5, 0.7]},
        "loss.experts": {"choice": [1, 2]},
        "difficulty.epochs": {"uniform": [1, 2]},
    }
    found = parse_space(raw, none, lambda parameters: {"loss.expert", "difficulty"})
    assert [point["loss.expert.level"] for point in found.structures()] == [0.5, 0.7]
    assert found.continuous_artifact_keys() == ["difficulty.epochs"]


def test_the_grid_is_the_product_of_what_is_active() -> None:
    raw = {
        k: v for k, v in RAW.items() if k not in ("compression.sparsity", "training.learning_rate")
    }
    grid = list(parse_space(raw, none).grid())
    # (magnitude + 3 student sizes) x (vanilla + 2 alphas)
    assert len(grid) == 4 * 3
    assert len({tuple(sorted(point.items())) for point in grid}) == len(grid)


def test_a_grid_over_a_range_is_refused(space: Space) -> None:
    with pytest.raises(ConfigError, match="needs choice or int") as caught:
        list(space.grid())
    assert len(caught.value.problems) == 2


def test_the_center_keeps_what_is_fixed(space: Space) -> None:
    point = space.center({"compression.name": "student"})
    assert point["compression.num_layers"] == 3
    assert point["training.learning_rate"] == pytest.approx(1e-4)


def test_an_empty_space_has_one_point() -> None:
    empty = Space((), none)
    assert list(empty.grid()) == [{}] and list(empty.corners()) == [{}] * 2


@pytest.mark.parametrize(
    ("key", "spec", "expected"),
    [
        ("task.name", {"choice": [1]}, "one task"),
        ("model", {"choice": ["a"]}, "compare encoders with one sweep each"),
        ("teacher.epochs", {"choice": [1]}, "one dense reference"),
        ("trainig.epochs", {"choice": [1]}, "did you mean 'training'"),
        ("loss.alpha", {"unifrom": [0, 1]}, "did you mean 'uniform'"),
        ("loss.alpha", {"uniform": [0, 1], "choice": [1]}, "exactly one"),
        ("loss.alpha", {}, "exactly one"),
        ("loss.alpha", 0.5, "must look like"),
        ("loss.alpha", {"uniform": [1, 0]}, "low < high"),
        ("loss.alpha", {"uniform": [0, float("inf")]}, "low < high"),
        ("loss.alpha", {"uniform": [0, 1, 2]}, "low, high"),
        ("loss.alpha", {"uniform": [False, True]}, "low, high"),
        ("loss.alpha", {"log_uniform": [0, 1]}, "low > 0"),
        ("loss.alpha", {"int": [0.5, 1]}, "whole numbers"),
        ("loss.alpha", {"choice": []}, "must be a list"),
        ("loss.alpha", {"choice": [1, 1]}, "must differ"),
        ("loss.alpha", {"choice": [1], "when": {"loss.nam": "rmc"}}, "must be a searched key"),
        ("loss.alpha", {"choice": [1], "when": 3}, "when must be a mapping"),
    ],
)
def test_a_malformed_parameter_is_refused(key: str, spec: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        parse_space({key: spec}, none)
    assert caught.value.problems[0].where.startswith(f"space.{key}")


def test_conditions_are_checked_against_the_choices() -> None:
    raw = RAW | {"loss.alpha": {"choice": [0.2], "when": {"loss.name": "rcm"}}}
    with pytest.raises(ConfigError, match="did you mean 'rmc'"):
        parse_space(raw, none)


def test_circular_conditions_are_refused() -> None:
    raw = {
        "loss.a": {"choice": [1], "when": {"loss.b": 1}},
        "loss.b": {"choice": [1], "when": {"loss.a": 1}},
    }
    with pytest.raises(ConfigError, match="circular"):
        parse_space(raw, none)


def test_a_condition_may_name_a_key_of_the_base() -> None:
    raw = {"loss.alpha": {"choice": [0.2], "when": {"training.epochs": [1, 2.0]}}}
    assert list(parse_space(raw, none).grid()) == [{"loss.alpha": 0.2}]


NAMES = {"loss.name": {"choice": ["vanilla", "rmc"]}}
LAYERS = {"compression.num_layers": {"int": [2, 4], "when": {"loss.name": "rmc"}}}


@pytest.mark.parametrize(
    ("more", "when", "told"),
    [
        ({}, {"training.epochs": 3.0},
         "training.epochs is not searched, so it is always 2.0, never 3.0; search it "
         "(space.training.epochs: {choice: [2.0, 3.0]}), or leave this parameter out"),
        ({}, {"training.epochs": []}, "never any value"),
        (NAMES | LAYERS, {"compression.num_layers": 5},
         "compression.num_layers is never 5: it is drawn as int: [2, 4]"),
        ({"training.warmup": {"uniform": [0, 1]}}, {"training.warmup": 0.5},
         "training.warmup is never 0.5: it is drawn as uniform: [0.0, 1.0]; conditions need a"),
        (NAMES | LAYERS, {"compression.num_layers": 3, "loss.name": "vanilla"},
         "never holds: no point of the space has {compression.num_layers: 3, loss.name: vanilla}, "
         "because of the conditions of compression.num_layers, loss.name; change one"),
    ],
)  # fmt: skip
def test_a_condition_that_can_never_hold_is_told(
    more: dict[str, Any], when: dict[str, Any], told: str
) -> None:
    _, (problem,) = read_space(more | {"loss.alpha": {"choice": [0.2], "when": when}}, none)
    assert problem.where == "space.loss.alpha.when" and told in problem.message


@pytest.mark.parametrize(
    "when",
    [
        {"compression.num_layers": 4, "loss.name": "rmc"},
        {"compression.num_layers": [3, 9, 9.5], "loss.name": "rmc"},
        # Where vanilla leaves the layers alone they are the base's.
        {"compression.num_layers": 6},
    ],
)
def test_a_condition_that_may_hold_is_left_alone(when: dict[str, Any]) -> None:
    raw = NAMES | LAYERS | {"loss.alpha": {"choice": [0.2], "when": when}}
    space, problems = read_space(raw, {"compression.num_layers": 6}.get)
    # Values beside one that may be are told as what they are.
    assert ["is never 9" in problem.message for problem in problems] == [True] * len(problems)
    assert any(
        "loss.alpha" in point
        for point in space.product(lambda p: range(9) if p.kind == "int" else p.values)
    )


def test_one_malformed_parameter_hides_no_other_and_its_own_faults_come_together() -> None:
    raw = RAW | {
        "loss.name": {"choice": ["rmc", "rmc"], "when": 3},
        "compression.num_layers": {"int": [4, 2], "when": {"compression.name": "studnt"}},
        "loss.lambda": {"choice": [0.5], "when": {"training.epochs": 3}},
    }
    space, problems = read_space(raw, none)
    assert [(p.where, p.message.partition(",")[0].partition(":")[0]) for p in problems] == [
        ("space.compression.num_layers", "int must have low < high"),
        ("space.loss.name", "choices must differ"),
        ("space.loss.name", "when must be a mapping of key"),
        ("space.loss.lambda.when", "never holds"),
    ], "what hangs on a malformed one (loss.alpha) is not judged"
    assert "compression.sparsity" in {p.key for p in space.parameters}
