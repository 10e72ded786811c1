"""The conditional space: what is active, its corners, its grid, and what is refused."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rc_core.errors import ConfigError
from sweeps.space import Point, Space, parse_space

RAW: dict[str, Any] = {
    "loss.alpha": {"choice": [0.2, 0.5], "when": {"loss.name": "rmc"}},
    "compression.name": {"choice": ["magnitude", "student"]},
    "compression.sparsity": {"uniform": [0.2, 0.8], "when": {"compression.name": "magnitude"}},
    "compression.num_layers": {"int": [2, 4], "when": {"compression.name": "student"}},
    "loss.name": {"choice": ["vanilla", "rmc"]},
    "training.learning_rate": {"log_uniform": [1e-5, 1e-3]},
}


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
        ("model", {"choice": ["a"]}, "one encoder"),
        ("teacher.epochs", {"choice": [1]}, "one dense reference"),
        ("trainig.epochs", {"choice": [1]}, "did you mean 'training'"),
        ("loss.alpha", {"unifrom": [0, 1]}, "did you mean 'uniform'"),
        ("loss.alpha", {"uniform": [0, 1], "choice": [1]}, "exactly one"),
        ("loss.alpha", {}, "exactly one"),
        ("loss.alpha", 0.5, "must be like"),
        ("loss.alpha", {"uniform": [1, 0]}, "low < high"),
        ("loss.alpha", {"uniform": [0, float("inf")]}, "low < high"),
        ("loss.alpha", {"uniform": [0, 1, 2]}, "low, high"),
        ("loss.alpha", {"uniform": [False, True]}, "low, high"),
        ("loss.alpha", {"log_uniform": [0, 1]}, "low > 0"),
        ("loss.alpha", {"int": [0.5, 1]}, "whole numbers"),
        ("loss.alpha", {"choice": []}, "must be a list"),
        ("loss.alpha", {"choice": [1, 1]}, "must differ"),
        ("loss.alpha", {"choice": [1], "when": {"loss.nam": "rmc"}}, "must be a key"),
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
    raw = {"loss.alpha": {"choice": [0.2], "when": {"training.epochs": 3.0}}}
    assert list(parse_space(raw, none).grid()) == [{}]
