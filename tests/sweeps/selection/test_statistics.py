"""Every statistic on simulated data whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rc_core.record import TrialRecord
from sweeps.objectives import OOD_KEY
from sweeps.selection.confirmed import Confirmed, ConfirmedRow, optimism
from sweeps.selection.noise import Noise
from sweeps.selection.statistics import (
    Difference,
    Estimate,
    beside_one_freedom,
    detectable_difference,
    mean_interval,
    pair_freedom,
    pair_noise,
    paired_difference,
    pooled_covariance,
    power_of,
    seeds_needed,
    verdict,
)

RECORD = TrialRecord(id="t0000", status="finished", config={}, fingerprint="f", started=0.0)
# Mean of the largest of 30 standard normal draws, times the noise.
BEST_OF_30 = 0.03 * 2.0428


def told_apart(found: Difference) -> bool:
    return found.low > 0 or found.high < 0


def test_a_mean_interval_is_students() -> None:
    """Reference: scipy.stats.t.interval."""
    values = [0.71, 0.69, 0.74, 0.70]
    found = mean_interval(values)
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.n == 4


def test_one_value_has_no_interval_unless_the_noise_is_known() -> None:
    alone = mean_interval([0.5])
    assert alone.mean == 0.5 and math.isnan(alone.low) and math.isnan(alone.high)
    pooled = mean_interval([0.5], deviation=0.02, df=10)
    assert pooled.half_width == pytest.approx(stats.t.ppf(0.975, 10) * 0.02)
    nothing = mean_interval([math.nan])
    assert math.isnan(nothing.mean) and nothing.n == 0
    assert mean_interval([0.7, math.nan, 0.9, 0.8]) == mean_interval([0.7, 0.9, 0.8])


@pytest.mark.parametrize("n", [3, 5])
def test_intervals_cover_the_truth_as_often_as_they_say(n: int) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2_000):
        found = mean_interval(rng.normal(0.7, 0.03, n))
        covered += found.low <= 0.7 <= found.high
    assert covered / 2_000 == pytest.approx(0.95, abs=0.015)


def test_a_paired_difference_is_the_paired_t_test() -> None:
    """Reference: scipy.stats.ttest_rel."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.70, 0.02, 6), rng.normal(0.68, 0.02, 6)
    found = paired_difference(a, b)
    assert found.p_value == pytest.approx(stats.ttest_rel(a, b).pvalue)
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert told_apart(found) == (found.p_value < 0.05)


def test_pairs_with_a_missing_seed_are_left_out() -> None:
    found = paired_difference([1.0, 2.0, math.nan], [0.5, 1.0, 7.0])
    assert found.n == 2 and found.mean == pytest.approx(0.75)
    alone = paired_difference([1.0, 2.0], [0.5, math.nan])
    assert alone.n == 1 and alone.mean == 0.5
    assert math.isnan(alone.low) and math.isnan(alone.high) and math.isnan(alone.p_value)
    assert paired_difference([1.0], [math.nan]).n == 0
    with pytest.raises(ValueError, match="one shape"):
        paired_difference([1.0], [1.0, 2.0])
    assert paired_difference([0.5, 0.5], [0.5, 0.5]).p_value == 1.0
    # Almost the same difference twice: no warning of lost precision, and no doubt.
    assert paired_difference([50.1, 50.2], [81.1, 81.2]).p_value < 1e-6


def test_paired_tests_raise_no_more_false_alarms_than_they_say() -> None:
    """Seeds shift both configurations together; the truth is no difference."""
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(2_000):
        shared = rng.normal(0, 0.05, 5)
        a, b = (0.7 + shared + rng.normal(0, 0.02, 5) for _ in range(2))
        alarms += told_apart(paired_difference(a, b))
    assert alarms / 2_000 == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize(
    ("rows", "counted"),
    [
        ([[0, 1, 2, 3]] * 5, 12),
        ([[0, 1, 2, 3, 4]] * 2 + [[0, 1, 2]] + [[0, 1]] * 3, 9),
        ([[0, 1, 2], [2, 3, 4], [0, 3], [1, 4], [0, 1, 2, 3, 4]], 6),
        ([[0, 1, 2], [0, 1, 2], [5, 6], [5, 6], [9]], 3),
    ],
)
def test_the_degrees_of_freedom_of_pairs_are_those_that_their_spread_shows(
    rows: list[list[int]], counted: int
) -> None:
    """Of a variance with df degrees its own relative variance is 2 / df, whatever the seeds do."""
    rng = np.random.default_rng(4)
    found = []
    for _ in range(4_000):
        shift = rng.normal(0, 3, 10)
        values = [{seed: shift[seed] + rng.normal() for seed in row} for row in rows]
        deviation, df = pair_noise(values)
        found.append(deviation**2)
    assert np.mean(found) == pytest.approx(2, rel=0.05)
    assert df == pair_freedom(rows) <= counted
    # Rounded down, and what 4,000 draws know of it.
    assert df - 0.5 < 2 * np.mean(found) ** 2 / np.var(found) < df + 1.5


@pytest.mark.parametrize(
    ("rows", "counted"),
    [
        ([[0, 1, 2]], 2),
        ([[0, 1, 2]] * 20, 6),
        ([[0, 1, 2, 3, 4]] * 2 + [[0, 1, 2]] * 3 + [[0], []], 7),
        ([[0, 1, 2], [2, 3, 4], [0, 3], [1, 4]], 5),
    ],
)
def test_the_degrees_of_freedom_beside_one_row_are_those_that_their_spread_shows(
    rows: list[list[int]], counted: int
) -> None:
    """Of a variance with df degrees its own relative variance is 2 / df; of 20 rows not 40."""
    values = np.random.default_rng(5).normal(0, 1, (20_000, 1 + len(rows), 5))
    parts = [
        (values[:, i, seeds] - values[:, 0, seeds]).var(axis=1) * len(seeds)
        for i, seeds in enumerate(rows, start=1)
        if len(seeds) > 1
    ]
    total = np.sum(parts, axis=0)
    shown = 2 * np.mean(total) ** 2 / np.var(total)
    assert beside_one_freedom(rows) == counted
    # Rounded down, and what 20,000 draws know of it.
    assert counted - 0.2 < shown < counted + 1.2


@pytest.mark.parametrize("seeds", range(2, 16))
def test_complete_rows_have_the_degrees_of_freedom_of_the_textbook(seeds: int) -> None:
    """A paired t-test has n - 1, an analysis of variance of blocks (rows - 1) (n - 1)."""
    row = list(range(seeds))
    assert beside_one_freedom([row]) == seeds - 1
    for rows in (2, 3, 4, 7):
        assert pair_freedom([row] * rows) == (rows - 1) * (seeds - 1)


def test_pooled_pairs_raise_no_more_false_alarms_and_find_the_noise() -> None:
    """Eight equal rows of three seeds, a seed shifting all; each is compared with the first."""
    rng = np.random.default_rng(9)
    alarms, deviations, tests = 0, [], 0
    for _ in range(500):
        values = 0.7 + rng.normal(0, 0.05, 3)[None] + rng.normal(0, 0.02, (8, 3))
        rows = [dict(enumerate(row)) for row in values]
        del rows[7][2]
        deviation, df = pair_noise(rows)
        assert df == 12, "one less than its values leave, as one is missing"
        deviations.append(deviation)
        for row in rows[1:]:
            shared = sorted(row)
            found = paired_difference(
                [row[s] for s in shared], [rows[0][s] for s in shared], deviation=deviation, df=df
            )
            alarms += told_apart(found)
            assert told_apart(found) == (found.p_value < 0.05)
            tests += 1
    assert alarms / tests == pytest.approx(0.05, abs=0.015)
    assert np.mean(np.square(deviations)) == pytest.approx(2 * 0.02**2, rel=0.05)
    nothing = pair_noise([{0: 0.5, 1: 0.6}, {2: 0.5}])
    assert math.isnan(nothing[0]) and nothing[1] == 0
    own = paired_difference([1.0, 2.0], [0.0, 0.5], deviation=math.nan, df=0)
    assert own == paired_difference([1.0, 2.0], [0.0, 0.5])


def test_a_verdict_needs_the_interval_and_the_power() -> None:
    shown = detectable_difference(1.0, 5)
    assert verdict(shown + 0.1, 0.5, 3.0, 5, 1.0) == "better"
    assert verdict(-shown - 0.1, -3.0, -0.5, 5, 1.0) == "worse"
    assert verdict(shown - 0.1, 0.5, 3.0, 5, 1.0) == "open", "clear of zero by luck"
    assert verdict(shown + 0.1, -0.5, 5.0, 5, 1.0) == "open"
    enough = detectable_difference(1.0, 2) + 0.1
    assert verdict(enough, 0.5, 2 * enough, 2, 1.0) == "better", "two seeds can show much"
    assert verdict(9.0, 8.0, 10.0, 1, 1.0) == verdict(9.0, math.nan, math.nan, 5, 1.0) == "open"


def test_a_verdict_is_rarely_wrong_and_mostly_found() -> None:
    rng = np.random.default_rng(10)
    for truth, low, high in ((0.0, 0.0, 0.06), (2.0, 0.9, 1.0)):
        told = 0
        for _ in range(200):
            found = paired_difference(rng.normal(truth, 1.0, 6), np.zeros(6))
            told += verdict(found.mean, found.low, found.high, 6, 1.0) != "open"
        assert low <= told / 200 <= high


def test_pooled_covariance_finds_the_noise_of_one_seed() -> None:
    rng = np.random.default_rng(3)
    truth = np.array([[4.0, 1.0], [1.0, 9.0]])
    groups = [rng.multivariate_normal(rng.uniform(0, 100, 2), truth, 3) for _ in range(800)]
    found, df = pooled_covariance([*groups, groups[0][:1]])
    assert df == 1_600
    assert found == pytest.approx(truth, abs=0.5)
    nothing, df = pooled_covariance([groups[0][:1]])
    assert df == 0 and np.isnan(nothing).all()


def search_and_confirm(rng: np.random.Generator, *, best: bool) -> Estimate:
    """Search 30 equal configurations, give ten three new seeds each; return the optimism found.

    Args:
        rng: of all values.
        best: the search chooses the best of the 30; else three, without a look at their values.
    """
    searched, chosen = rng.normal(0.7, 0.03, 30), [3, 5, 8]
    if best:
        searched, chosen = np.sort(searched)[::-1], [0]
    found = rng.normal(0.7, 0.03, (10, 3))
    covariance, df = pooled_covariance([values[:, None] for values in found])
    noise = Noise((OOD_KEY,), covariance, df, {}, {})
    rows = [
        ConfirmedRow(
            id=f"t{i:04d}",
            name="",
            reference=False,
            trials=dict.fromkeys(range(3), RECORD),
            searched={OOD_KEY: float(searched[i])},
            searched_front=i in chosen,
            estimates={OOD_KEY: mean_interval(found[i], deviation=noise.deviation(OOD_KEY), df=df)},
            chance=None,
            confirmed=False,
            against_reference=None,
            bias=mean_interval([]),
            bias_reason=None,
        )
        for i in range(10)
    ]
    return optimism(Confirmed("made", rows, noise, trained=30, everything=30, failed=0), OOD_KEY)


def test_optimism_is_found_where_it_was_planted_and_only_there() -> None:
    """What the best of 30 equal trials owes to luck, new seeds take out again."""
    rng = np.random.default_rng(5)
    planted = [search_and_confirm(rng, best=True) for _ in range(600)]
    assert np.mean([each.mean for each in planted]) == pytest.approx(BEST_OF_30, abs=0.003)
    # The best of many varies less than any one, for which the interval is made.
    assert np.mean([each.low <= BEST_OF_30 <= each.high for each in planted]) >= 0.95
    assert np.mean([each.low > 0 for each in planted]) > 0.3, "and not so wide as to say nothing"
    blind = [search_and_confirm(rng, best=False) for _ in range(2_000)]
    assert np.mean([each.mean for each in blind]) == pytest.approx(0.0, abs=0.002)
    assert np.mean([each.low <= 0 <= each.high for each in blind]) == pytest.approx(0.95, abs=0.015)


def test_power_agrees_with_simulated_tests() -> None:
    rng = np.random.default_rng(8)
    n, deviation = 5, 0.03
    difference = detectable_difference(deviation, n)
    found = [
        told_apart(paired_difference(rng.normal(difference, deviation, n), np.zeros(n)))
        for _ in range(3_000)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.025)
    assert power_of(difference, deviation, n) == pytest.approx(0.8, abs=1e-3)
    # With noise pooled over many rows, three seeds show less than half of what they show alone.
    pooled = detectable_difference(deviation, 3, df=20)
    assert pooled < 0.6 * detectable_difference(deviation, 3)
    known = [
        told_apart(
            paired_difference(
                rng.normal(pooled, deviation, 3),
                np.zeros(3),
                deviation=deviation * math.sqrt(rng.chisquare(20) / 20),
                df=20,
            )
        )
        for _ in range(2_000)
    ]
    assert np.mean(known) == pytest.approx(0.8, abs=0.03)
    assert seeds_needed(pooled * 1.001, deviation, df=20) == 3


def test_more_seeds_show_less_and_the_two_questions_agree() -> None:
    shown = [detectable_difference(1.0, n) for n in (2, 3, 5, 10, 30)]
    assert shown == sorted(shown, reverse=True)
    for n in (3, 5, 10):
        assert seeds_needed(detectable_difference(1.0, n) * 1.001, 1.0) == n
    assert detectable_difference(1.0, 1) == math.inf and power_of(9, 1, 1) == 0.0
    assert seeds_needed(1e-4, 1.0, most=100) is None
    assert seeds_needed(0.1, 0.0) == 2 and detectable_difference(0.0, 3) == 0.0
    # Noise far below the difference must not drive SciPy's distribution into NaN.
    assert power_of(1.0, 1e-12, 3) == 1.0 and seeds_needed(1.0, 1e-12) == 2
