"""Orders kept up as candidates arrive, against the same orders computed at once."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from sweeps.engine.ranking import AnyMetricRanking, MetricRanking, ParetoRanking, epsilon_net
from sweeps.pareto import pareto_ranks


def points(seed: int, n: int, k: int = 2, levels: int = 8) -> np.ndarray:
    """Few levels, so that there are ties and equal points."""
    return np.random.default_rng(seed).integers(0, levels, size=(n, k)).astype(float)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [1, 2, 3])
def test_layers_are_the_ranks_of_all_points_whatever_the_order_of_arrival(
    seed: int, k: int
) -> None:
    costs = points(seed, 60, k)
    ranking = ParetoRanking(k)
    for i, cost in enumerate(costs):
        ranking.add(str(i), cost)
        ranks = pareto_ranks(costs[: i + 1], ["min"] * k)
        for rank in range(ranks.max() + 1):
            expected = {str(j) for j in np.flatnonzero(ranks <= rank)}
            assert set(ranking.best(len(expected))) == expected


@pytest.mark.parametrize("count", [0, 1, 3, 10, 20, 99])
def test_the_best_are_whole_ranks_and_then_a_net_of_the_next(count: int) -> None:
    costs = points(1, 20)
    ranking = ParetoRanking(2)
    for i, cost in enumerate(costs):
        ranking.add(str(i), cost)
    best = ranking.best(count)
    assert len(best) == len(set(best)) == min(count, 20)
    assert {key for key in map(str, range(20)) if ranking.among_best(key, count)} == set(best)
    ranks = pareto_ranks(costs, ["min", "min"])
    left = [ranks[i] for i in range(20) if str(i) not in best]
    assert all(ranks[int(key)] <= min(left, default=99) for key in best)


@pytest.mark.parametrize("first", [0, "compromise"])
def test_a_net_does_not_depend_on_the_units_of_the_costs(first: Any) -> None:
    """A front of one rank: a size in bytes must not drown an accuracy, nor the other way round."""
    angle = np.sort(np.random.default_rng(3).uniform(0, np.pi / 2, 12))
    front = np.column_stack([1 - np.cos(angle), 1 - np.sin(angle)])
    front = (front - front.min(axis=0)) / np.ptp(front, axis=0)
    expected = [str(i) for i in epsilon_net(front, 6, first=0 if first == 0 else None)]
    for units, shift in (([1.0, 1.0], 0.0), ([1.0, 1e6], 5.0), ([1e-3, 1.0], -2.0)):
        ranking = ParetoRanking(2, first=first)
        for i, cost in enumerate(front * units + shift):
            ranking.add(str(i), cost)
        assert ranking.best(6) == expected


def test_a_net_of_a_line_takes_the_middle_then_the_ends_then_the_gaps() -> None:
    line = np.array([[x, 1 - x] for x in np.linspace(0, 1, 9)])
    assert epsilon_net(line, 5, first=0)[:3] == [0, 8, 4]
    bent = line + np.array([[0, -0.1 if i == 4 else 0] for i in range(9)])
    assert epsilon_net(bent, 5)[0] == 4
    assert set(epsilon_net(bent, 3)) == {4, 0, 8}


def test_equal_points_come_last_in_a_net() -> None:
    twice = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    assert epsilon_net(twice, 4, first=0) == [0, 2, 3, 1]
    assert epsilon_net(twice[:2], 2) == [0, 1]
    assert epsilon_net(np.empty((0, 2)), 3) == [] == epsilon_net(twice, 0)


def test_each_prefix_of_a_net_is_nearly_the_best_cover() -> None:
    """Reference: every subset tried; farthest-point order is at most twice as far (Gonzalez)."""
    cloud = np.random.default_rng(3).random((9, 2))
    order = epsilon_net(cloud, 9)
    for size in (2, 3, 4):
        radius = _radius(cloud, order[:size])
        optimal = min(_radius(cloud, c) for c in itertools.combinations(range(9), size))
        assert radius <= 2 * optimal + 1e-12


def _radius(cloud: np.ndarray, chosen: object) -> float:
    taken = cloud[list(chosen)]  # type: ignore[call-overload]
    return float(np.linalg.norm(cloud[:, None] - taken[None], axis=2).min(axis=1).max())


def test_one_metric_is_a_plain_sort_and_earlier_is_better() -> None:
    ranking = MetricRanking(1)
    for key, cost in (("a", 2.0), ("b", 1.0), ("c", 2.0), ("d", 0.0)):
        ranking.add(key, [9.0, cost])
    assert ranking.best(9) == ["d", "b", "a", "c"]
    assert [ranking.among_best(key, 3) for key in "abcd"] == [True, True, False, True]


def test_any_metric_keeps_what_is_good_somewhere() -> None:
    ranking = AnyMetricRanking(2)
    for key, cost in (("id", [0, 9]), ("ood", [9, 0]), ("middle", [2, 2]), ("bad", [9, 9])):
        ranking.add(key, [float(value) for value in cost])
    assert [ranking.among_best(key, 1) for key in ("id", "ood", "middle", "bad")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert ranking.best(1) == ["id", "ood"]


@pytest.mark.parametrize("k", [2, 3])
def test_with_ties_what_is_as_good_as_one_of_the_best_is_among_them(k: int) -> None:
    """Reference: the best are named first, then everything that equals one of them."""
    costs = points(4, 40, k, levels=4)
    keys = [str(i) for i in range(len(costs))]
    makers: list[tuple[Any, list[int]]] = [
        (lambda: MetricRanking(1), [1]),
        (lambda: ParetoRanking(k), list(range(k))),
        (lambda: ParetoRanking(k, "compromise"), list(range(k))),
    ]
    for make, counted in makers:
        ranking = make()
        for key, cost in zip(keys, costs, strict=True):
            ranking.add(key, cost)
        for count in (1, 4, 13, 30):
            best = {tuple(costs[int(key)][counted]) for key in ranking.best(count)}
            expected = {key for key in keys if tuple(costs[int(key)][counted]) in best}
            found = {key for key in keys if ranking.among_best(key, count, ties=True)}
            assert found == expected and len(found) >= count


def test_any_metric_counts_ties_on_each() -> None:
    ranking = AnyMetricRanking(2)
    for key, cost in (("a", [0, 1]), ("b", [0, 2]), ("c", [1, 2])):
        ranking.add(key, [float(value) for value in cost])
    assert [ranking.among_best(key, 1) for key in "abc"] == [True, False, False]
    assert [ranking.among_best(key, 1, ties=True) for key in "abc"] == [True, True, False]
