"""Dominance against brute force, hypervolume against Monte Carlo and hand-made cases."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from sweeps.pareto import (
    costs_of,
    dominates,
    hypervolume,
    knee,
    pareto_front,
    pareto_fronts,
    pareto_ranks,
)

NAN, INF = math.nan, math.inf


def beats(a: list[float], b: list[float], directions: list[str]) -> bool:
    """The definition: nowhere worse, somewhere better."""
    pairs = [(x, y) if d == "max" else (-x, -y) for x, y, d in zip(a, b, directions, strict=True)]
    return all(x >= y for x, y in pairs) and any(x > y for x, y in pairs)


def brute_force(points: list[list[float]], directions: list[str]) -> list[bool]:
    valid = [p for p in points if not any(math.isnan(v) for v in p)]
    return [p in valid and not any(beats(q, p, directions) for q in valid) for p in points]


@pytest.mark.parametrize("seed", range(30))
def test_the_front_is_what_no_point_dominates(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size, count = int(rng.integers(1, 25)), int(rng.integers(1, 5))
    # Few distinct values: many ties and equal points.
    points = rng.integers(0, 4, size=(size, count)).astype(float)
    points[rng.random(points.shape) < 0.05] = NAN
    points[rng.random(points.shape) < 0.05] = INF
    points[rng.random(points.shape) < 0.05] = -INF
    directions = [("max", "min")[i] for i in rng.integers(2, size=count)]
    found = pareto_front(points, directions)
    assert found.tolist() == brute_force(points.tolist(), directions)
    costs = np.array([costs_of(point, directions) for point in points])
    assert dominates(costs[:, None], costs[None]).tolist() == [
        [beats(a, b, directions) for b in points.tolist()] for a in points.tolist()
    ]
    ranks = pareto_ranks(points, directions)
    assert (ranks == 0).tolist() == found.tolist()
    left = [p for p, r in zip(points.tolist(), ranks, strict=True) if r > 0]
    expected = pareto_front(np.array(left).reshape(-1, count), directions)
    assert expected.tolist() == [r == 1 for r in ranks if r > 0]


@pytest.mark.parametrize(("a", "b"), list(itertools.product([-INF, -1.0, 1.0, INF, NAN], repeat=2)))
def test_two_points_on_one_axis(a: float, b: float) -> None:
    """max: the larger stays, equal ones both stay, NaN never does."""
    expected = [
        not math.isnan(x) and not (not math.isnan(y) and y > x) for x, y in ((a, b), (b, a))
    ]
    assert pareto_front([[a], [b]], ["max"]).tolist() == expected


def test_the_empty_set() -> None:
    assert pareto_front([], ["max", "min"]).shape == (0,)
    assert pareto_ranks(np.empty((0, 2)), ["max", "max"]).shape == (0,)
    assert hypervolume([], [0, 0], ["max", "max"]) == 0.0
    with pytest.raises(ValueError, match="at least one point"):
        knee([[NAN, 1.0]], ["max", "max"])


@pytest.mark.parametrize("directions", [["maximize", "max"], ["max"], [], ["max", "min", "max"]])
def test_bad_directions_are_errors(directions: list[str]) -> None:
    with pytest.raises(ValueError, match=r"directions|shape"):
        pareto_front([[1.0, 2.0]], directions)


@pytest.mark.parametrize(
    ("points", "reference", "directions", "expected"),
    [
        ([[1, 1]], [0, 0], ["max", "max"], 1.0),
        ([[2, 1], [1, 2]], [0, 0], ["max", "max"], 3.0),
        ([[2, 1], [1, 2], [1, 1], [2, 1]], [0, 0], ["max", "max"], 3.0),
        ([[2, 1], [NAN, 9]], [0, 0], ["max", "max"], 2.0),
        ([[2, -1]], [0, 0], ["max", "max"], 0.0),
        ([[0, 5]], [0, 0], ["max", "max"], 0.0),
        ([[2, 1]], [0, 3], ["max", "min"], 4.0),
        ([[3]], [1], ["max"], 2.0),
        ([[1, 1, 1], [2, 2, 0.5]], [0, 0, 0], ["max"] * 3, 1 + 2 * 2 * 0.5 - 0.5),
    ],
)
def test_hypervolume_by_hand(
    points: list[list[float]], reference: list[float], directions: list[str], expected: float
) -> None:
    assert hypervolume(points, reference, directions) == pytest.approx(expected)


def test_hypervolume_agrees_with_monte_carlo() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((12, 2))
    draws = rng.random((200_000, 2))
    share = (draws[:, None, :] <= points[None]).all(-1).any(-1).mean()
    assert hypervolume(points, [0, 0], ["max", "max"]) == pytest.approx(share, abs=0.005)


def test_an_infinite_volume_is_an_error() -> None:
    with pytest.raises(ValueError, match="infinite"):
        hypervolume([[INF, 1]], [0, 0], ["max", "max"])
    with pytest.raises(ValueError, match="finite"):
        hypervolume([[1, 1]], [NAN, 0], ["max", "max"])


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[1.0, 0.0], [0.9, 0.9], [0.0, 1.0]], 1),
        ([[1.0, 0.0], [0.2, 0.2], [0.0, 1.0], [0.7, 0.8]], 3),
        ([[0.5, 0.5]], 0),
        ([[0.1, 0.1], [0.5, 0.5]], 1),
        ([[1.0, 0.0], [0.0, 1.0]], 0),
        ([[NAN, 9.0], [1.0, 1.0]], 1),
        # A middle with the extremes' sum is still the better balanced one.
        ([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], 2),
    ],
)
def test_the_knee(points: list[list[float]], expected: int) -> None:
    assert knee(points, ["max", "max"]) == expected
    flipped = [[-a, b] for a, b in points]
    assert knee(flipped, ["min", "max"]) == expected


@pytest.mark.parametrize("seed", range(10))
def test_the_knee_is_the_same_in_other_units(seed: int) -> None:
    """By the definition: the largest sum of values that are scaled to [0, 1], of the front's."""
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, np.pi / 2, 9))
    shares = np.column_stack([np.cos(angle), np.sin(angle)]) ** rng.uniform(0.5, 2.0)
    best = int(((shares - shares.min(0)) / np.ptp(shares, axis=0)).sum(axis=1).argmax())
    for units in ([1.0, 1.0], [100.0, 1.0], [0.01, 3.0], [1.0, 4e8]):
        points = shares * units + [7.0, -3.0]
        assert knee(points, ["max", "max"]) == best
        assert knee(points * [1, -1], ["max", "min"]) == best


def test_of_points_on_one_line_the_knee_is_the_evenest_whatever_their_rounding() -> None:
    shares = np.array([0.0, 0.1, 0.3, 0.6, 0.7, 0.9, 1.0])
    line = np.column_stack([shares, 1 - shares])
    sums = {float(each) for each in line.sum(axis=1)}
    assert knee(line, ["max", "max"]) == 3
    for scale in (0.1, 0.3, 0.7, 1.1, 3.0):
        points = 0.2 + line * scale
        sums |= {float(each) for each in ((points - 0.2) / scale).sum(axis=1)}
        assert knee(points, ["max", "max"]) == 3
    assert len(sums) > 1, "equal but for rounding"


def test_many_fronts_at_once_are_those_one_by_one() -> None:
    rng = np.random.default_rng(0)
    for directions in (["max", "max"], ["max", "min", "max"], ["min"]):
        # Rounded, so that there are ties and twins.
        points = np.round(rng.uniform(0, 1, (40, 12, len(directions))), 1)
        found = pareto_fronts(points, directions)
        for each, mask in zip(points, found, strict=True):
            assert mask.tolist() == pareto_front(each, directions).tolist()
