"""Intervals over seeds and clusters, on simulated answers whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from sweeps.selection.bootstrap import (
    Answers,
    accuracy_interval,
    crossed_interval,
    difference_interval,
    gap_interval,
    relative_bias_interval,
)

GROUPS, SIZE = 16, 30
REPEATS = 150
CLUSTERS = np.repeat(np.arange(GROUPS), SIZE)
# Half of the subcases are entailed: answers differ far more between the labels than within.
LABELS = np.repeat(np.arange(GROUPS) % 2, SIZE)


class World:
    """Models whose accuracy varies by seed and by subcase, by known amounts."""

    def __init__(self, rng: np.random.Generator, seeds: int, *, by_seed: float, by_cluster: float):
        self.rng = rng
        self.seeds = seeds
        self.by_seed = by_seed
        self.subcases = rng.normal(0, by_cluster, GROUPS)

    def answers(
        self, rate: float, *, label_effect: float = 0.0, by_seed: float | None = None
    ) -> NDArray[np.bool_]:
        spread = self.by_seed if by_seed is None else by_seed
        shift = self.rng.normal(0, spread, self.seeds)
        labels = label_effect * (1 - 2 * (np.arange(GROUPS) % 2))
        rates = rate + shift[:, None] + self.subcases[None] + labels[None]
        each = np.repeat(np.clip(rates, 0, 1), SIZE, axis=1)
        return self.rng.random((self.seeds, GROUPS * SIZE)) < each


def coverage(
    found: Callable[[World, int], tuple[float, float, float]], seeds: int, **noise: float
) -> tuple[float, float]:
    """Return how often low <= truth <= high, and the mean width."""
    rng = np.random.default_rng(0)
    inside, width = 0, 0.0
    for repeat in range(REPEATS):
        low, high, truth = found(World(rng, seeds, **noise), repeat)
        inside += low <= truth <= high
        width += (high - low) / REPEATS
    return inside / REPEATS, width


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(("by_seed", "by_cluster"), [(0.04, 0.005), (0.005, 0.08), (0.03, 0.08)])
def test_an_interval_covers_whatever_varies(seeds: int, by_seed: float, by_cluster: float) -> None:
    """Seeds, subcases, or both: the truth is the rate of all of them."""

    def found(world: World, repeat: int) -> tuple[float, float, float]:
        answers = Answers([world.answers(0.7)], CLUSTERS)
        each = accuracy_interval(answers, seed=repeat, draws=200)
        return each.low, each.high, 0.7

    share, _ = coverage(found, seeds, by_seed=by_seed, by_cluster=by_cluster)
    assert 0.90 <= share <= 1.0


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("by_cluster", [None, 0.02])
def test_few_seeds_are_covered_with_clusters_and_without(
    seeds: int, by_cluster: float | None
) -> None:
    """Normal effects of seeds, of 16 clusters (or a single one); 1,200 worlds of each."""
    rng = np.random.default_rng(seeds)
    count, spread = (1, 0.0) if by_cluster is None else (16, by_cluster)
    inside = 0
    for repeat in range(1_200):
        rates = 0.7 + rng.normal(0, 0.03, (seeds, 1)) + rng.normal(0, spread, (1, count))
        found = accuracy_interval(Answers([rates], np.arange(count)), seed=repeat, draws=200)
        inside += found.low <= 0.7 <= found.high
    # 0.012: two standard errors of this many worlds.
    assert inside / 1_200 >= 0.95 - 0.012
    assert by_cluster is not None or inside / 1_200 <= 0.95 + 0.018


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_without_clusters_an_interval_is_students(seeds: int) -> None:
    """Reference: scipy.stats.t.interval."""
    values = np.random.default_rng(seeds).normal(0.7, 0.03, (seeds, 1))
    found = accuracy_interval(Answers([values], [0]))
    low, high = stats.t.interval(0.95, seeds - 1, values.mean(), stats.sem(values[:, 0]))
    if seeds == 2:
        assert (found.low, found.high) == pytest.approx((low, high), rel=2e-3)
    assert found.low <= low + 0.05 * (high - low) and found.high >= high - 0.05 * (high - low)
    assert found.half_width < 0.65 * (high - low)


def test_single_sentences_would_promise_too_much() -> None:
    def found(world: World, repeat: int) -> tuple[float, float, float]:
        answers = Answers([world.answers(0.7)], np.arange(GROUPS * SIZE))
        each = accuracy_interval(answers, seed=repeat, draws=100)
        return each.low, each.high, 0.7

    share, _ = coverage(found, 5, by_seed=0.005, by_cluster=0.1)
    assert share < 0.85


def test_labels_are_strata_because_their_shares_were_decided() -> None:
    """A model that leans on the shortcut: 90 % on one label, 50 % on the other."""

    def found(strata: bool) -> Callable[[World, int], tuple[float, float, float]]:
        def each(world: World, repeat: int) -> tuple[float, float, float]:
            correct = world.answers(0.7, label_effect=0.2)
            answers = Answers([correct], CLUSTERS, LABELS if strata else None)
            estimate = accuracy_interval(answers, seed=repeat, draws=200)
            return estimate.low, estimate.high, 0.7

        return each

    share, width = coverage(found(True), 3, by_seed=0.01, by_cluster=0.05)
    _, wide = coverage(found(False), 3, by_seed=0.01, by_cluster=0.05)
    assert 0.90 <= share <= 1.0 and wide > 1.8 * width


def test_differences_raise_no_more_false_alarms_than_they_say() -> None:
    """Subcases are hard for both models alike: what they share is no difference."""

    alone = 0.0

    def found(world: World, repeat: int) -> tuple[float, float, float]:
        nonlocal alone
        pair = [world.answers(0.7), world.answers(0.7)]
        each = difference_interval(Answers(pair, CLUSTERS), seed=repeat, draws=200)
        first = accuracy_interval(Answers(pair[:1], CLUSTERS), seed=repeat, draws=200)
        alone += 200 * first.half_width / REPEATS
        return each.low, each.high, 0.0

    share, width = coverage(found, 4, by_seed=0.005, by_cluster=0.12)
    assert 0.90 <= share < 1.0
    # Of two that share nothing it would be sqrt(2) times as wide as one alone.
    assert width < alone


def test_relative_bias_is_covered_and_is_the_ratio_of_mean_accuracies() -> None:
    """ID 0.9 both, OOD 0.6 against 0.75: the gap is twice as large."""

    def found(world: World, repeat: int) -> tuple[float, float, float]:
        inside = Answers(
            [world.rng.random((4, 600)) < 0.9, world.rng.random((4, 600)) < 0.9], np.zeros(600)
        )
        pair = [world.answers(0.6), world.answers(0.75)]
        outside = Answers(pair, CLUSTERS)
        each = relative_bias_interval(inside, outside, seed=repeat, draws=200)
        rates = [[np.asarray(model).mean() for model in role.correct] for role in (inside, outside)]
        gaps = [1 - rates[1][i] / rates[0][i] for i in (0, 1)]
        assert each.mean == pytest.approx(gaps[0] / gaps[1])
        return each.low, each.high, 2.0

    share, _ = coverage(found, 4, by_seed=0.02, by_cluster=0.04)
    assert 0.90 <= share <= 1.0


def test_a_model_against_itself_has_a_bias_of_one_and_no_width() -> None:
    world = World(np.random.default_rng(1), 3, by_seed=0.02, by_cluster=0.05)
    inside = Answers([np.ones((3, 10))] * 2, np.zeros(10))
    own = world.answers(0.7)
    found = relative_bias_interval(inside, Answers([own, own], CLUSTERS))
    assert (found.mean, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))
    assert difference_interval(Answers([own, own], CLUSTERS)).half_width == pytest.approx(0.0)
    gap = gap_interval(inside, Answers([own, own], CLUSTERS))
    assert gap.mean == pytest.approx(1 - own.mean()) and gap.low < gap.mean < gap.high


def test_one_seed_and_one_cluster_say_nothing() -> None:
    found = accuracy_interval(Answers([np.ones((1, 4))], np.zeros(4)))
    assert found.mean == 1.0 and math.isnan(found.low)
    alone = accuracy_interval(Answers([np.array([[1, 1, 0, 0]])], ["a", "a", "b", "b"]))
    assert alone.mean == 0.5 and alone.low < 0.5 < alone.high


def test_a_reference_without_a_gap_has_no_interval() -> None:
    inside = Answers([np.ones((2, 4))] * 2, np.zeros(4))
    outside = Answers([np.zeros((2, 4)), np.ones((2, 4))], np.zeros(4))
    found = relative_bias_interval(inside, outside)
    assert not math.isfinite(found.mean) and math.isnan(found.low)


def test_a_gap_is_the_first_model_s_unless_another_is_named() -> None:
    inside = Answers([np.ones((2, 4)), [[1, 1, 1, 0]] * 2], np.arange(4))
    outside = Answers([[[1, 0, 0, 0]] * 2, [[1, 1, 0, 0]] * 2], np.arange(4))
    assert gap_interval(inside, outside).mean == pytest.approx(0.75)
    assert gap_interval(inside, outside, model=1).mean == pytest.approx(0.25)


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        accuracy_interval(Answers([np.ones((2, 3)), np.ones((1, 3))], np.zeros(3)))
    with pytest.raises(ValueError, match="one stratum"):
        accuracy_interval(Answers([np.ones((2, 2))], [0, 0], [0, 1]))
    with pytest.raises(ValueError, match="same seeds"):
        crossed_interval(
            [Answers([np.ones((2, 2))], [0, 0]), Answers([np.ones((3, 2))], [0, 0])],
            lambda roles: roles[0][0],
        )
