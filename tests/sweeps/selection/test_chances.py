"""P(on the front) on simulated data whose answer is known, with and without what seeds share."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sweeps.pareto import pareto_front
from sweeps.selection.chances import SeedNoise, front_probabilities, seed_noise

BOTH = ("max", "max")
OWN = np.array([[0.6, 0.1], [0.1, 0.9]])
# What seeds do to all configurations alike: nothing; or several times what they do to one.
SHARED = {"nothing": np.zeros((2, 2)), "much": np.array([[6.0, 2.0], [2.0, 5.0]])}
Rows = list[dict[int, list[float]]]


def known(covariance: list[list[float]], df: int) -> SeedNoise:
    return SeedNoise(np.array(covariance), df, np.zeros_like(covariance), 1)


def trained(
    rng: np.random.Generator, truth: np.ndarray, shared: np.ndarray, seeds: list[int]
) -> Rows:
    """Train each configuration with the first so many seeds."""
    every = rng.multivariate_normal([0.0, 0.0], shared, max(seeds))
    own = rng.multivariate_normal([0.0, 0.0], OWN, (len(truth), max(seeds)))
    values = truth[:, None] + every + own
    return [{s: [*values[i, s]] for s in range(n)} for i, n in enumerate(seeds)]


def test_the_two_parts_of_the_noise_are_found() -> None:
    """Also where seeds are missing; without a shared part it is about zero."""
    for shared in SHARED.values():
        rng = np.random.default_rng(3)
        found = [
            seed_noise(trained(rng, rng.uniform(0, 9, (6, 2)), shared, [2, 3, 4, 6, 6, 6]))
            for _ in range(600)
        ]
        noises = [each for each in found if each is not None]
        assert len(noises) == 600 and {each.own_df for each in noises} == {27 - 6 - 6 + 1}
        assert {each.shared_df for each in noises} == {5}
        own = np.mean([each.own for each in noises], axis=0)
        assert own == pytest.approx(OWN, rel=0.06, abs=0.02)
        # A covariance has no negative variance: by chance it is above zero where nothing is.
        mean = np.mean([each.shared for each in noises], axis=0)
        assert mean == pytest.approx(shared, rel=0.12, abs=0.2)


def test_too_few_values_tell_no_parts_apart() -> None:
    """By hand: two values 2 apart have variance 2; all of it is then a configuration's own."""
    one = seed_noise([{0: [1.0], 1: [3.0]}, {1: [5.0]}])
    assert one is not None and one.own.tolist() == [[2.0]]
    assert (one.own_df, one.shared.tolist()) == (1, [[0.0]])
    # Two objectives and one degree of freedom: a covariance of rank one.
    two = seed_noise([{0: [1.0, 0.0], 1: [3.0, 2.0]}, {0: [1.0, 3.0], 1: [2.0, 9.0]}])
    assert two is not None and two.own_df == 2 and not two.shared.any()
    # Moved alike by chance, as counts are: that configurations never differ is not known.
    alike = seed_noise([{0: [0.5], 1: [0.75]}, {0: [0.25], 1: [0.5]}])
    assert alike is not None and alike.own.tolist() == [[0.03125]]
    assert seed_noise([{0: [1.0]}, {1: [2.0]}]) is None and seed_noise([]) is None


def test_two_rows_of_two_seeds_are_an_analysis_of_variance_by_hand() -> None:
    """The interaction 1 - 3 - 4 + 10 = 4 leaves +-1 at each of four places: a variance of 4."""
    found = seed_noise([{0: [1.0], 1: [3.0]}, {0: [4.0], 1: [10.0]}])
    assert found is not None
    assert found.own == pytest.approx(np.array([[4.0]])) and found.own_df == 1
    # Of both together (2 + 18) / 2.
    assert found.shared == pytest.approx(np.array([[6.0]])) and found.shared_df == 1


def test_seeds_that_move_nothing_are_no_noise() -> None:
    found = seed_noise([{0: [0.5], 1: [0.5]}])
    assert found is not None and found.own.tolist() == [[0.0]] and found.own_df == 1
    chances = front_probabilities([{0: [0.5], 1: [0.5]}, {0: [0.4], 1: [0.4]}], found, ("max",))
    assert chances.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("df", [1, 2, 4, 30])
def test_of_two_rows_the_chances_are_student_s(df: int) -> None:
    """Reference: scipy.stats.t; the difference of two means of n values has variance 2 own / n."""
    rows: Rows = [{0: [0.70], 1: [0.72], 2: [0.71]}, {0: [0.69], 1: [0.70], 2: [0.68]}]
    found = front_probabilities(rows, known([[0.02**2]], df), ("max",), draws=40_000)
    expected = stats.t.cdf(0.02 / (0.02 * (2 / 3) ** 0.5), df)
    assert found == pytest.approx([expected, 1 - expected], abs=0.01)


def test_where_seeds_are_missing_the_chances_are_those_of_generalised_least_squares() -> None:
    """Reference: the textbook's estimate and its covariance, by inverting that of all values."""
    rng = np.random.default_rng(6)
    shift, own_part = rng.normal(0, 0.05, 5), rng.normal(0, 0.03, (3, 5))
    rows: Rows = [
        {s: [float(0.8 + shift[s] + own_part[i, s])] for s in seeds}
        for i, seeds in enumerate([(0, 1, 2), (2, 3), (0, 3, 4)])
    ]
    own, shared = 0.03**2, 0.05**2
    places = [(i, s) for i, row in enumerate(rows) for s in row]
    design = np.array([[float(i == j) for j in range(3)] for i, _ in places])
    same = np.array([[float(s == t) for _, t in places] for _, s in places])
    inverse = np.linalg.inv(own * np.eye(len(places)) + shared * same)
    covariance = np.linalg.inv(design.T @ inverse @ design)
    means = covariance @ design.T @ inverse @ np.array([rows[i][s][0] for i, s in places])
    drawn = rng.multivariate_normal(means, covariance, 100_000)
    expected = np.bincount(drawn.argmax(axis=1), minlength=3) / 100_000
    assert expected.min() > 0.01, "nothing is certain"
    many = 10_000_000
    noise = SeedNoise(np.array([[own]]), many, np.array([[shared]]), many)
    found = front_probabilities(rows, noise, ("max",), draws=40_000)
    assert found == pytest.approx(expected, abs=0.008)


def test_certain_means_are_certainly_on_the_front_or_off_it() -> None:
    rows: Rows = [dict.fromkeys(range(9), mean) for mean in ([0.9, 0.6], [0.8, 0.8], [0.7, 0.7])]
    found = front_probabilities(rows, known([[1e-8, 0.0], [0.0, 1e-8]], 20), BOTH)
    assert found.tolist() == [1.0, 1.0, 0.0]


def test_equal_twins_share_the_front() -> None:
    rows: Rows = [{s: [0.8] for s in range(3)}] * 2
    found = front_probabilities(rows, known([[1e-4]], 30), ("max",), draws=8_000)
    assert found == pytest.approx([0.5, 0.5], abs=0.03)


def test_an_objective_without_noise_is_compared_as_it_is() -> None:
    rng = np.random.default_rng(0)
    rows: Rows = [{s: [rng.normal(0.8, 0.01), 1e7 + size] for s in range(3)} for size in range(3)]
    noise = seed_noise(rows)
    assert noise is not None and noise.own[1, 1] + noise.shared[1, 1] < 1e-12
    assert noise.own_df == 4, "both parts of the other objective are known"
    found = front_probabilities(rows, noise, ("max", "min"))
    assert found[0] == 1.0 and ((found[1:] > 0.0) & (found[1:] < 1.0)).all()


@pytest.mark.parametrize("size", [17_391_743.0, 0.6000004])
@pytest.mark.parametrize("seeds", [(3, 3, 3), (2, 3, 4)])
def test_of_two_of_one_size_the_worse_is_not_saved_by_rounding(
    size: float, seeds: tuple[int, ...]
) -> None:
    """The size tells nothing apart, so chances are those of the two accuracies alone."""
    rng = np.random.default_rng(1)
    shift = rng.normal(0, 0.01, (4, 2))
    means = ([0.90, 0.70], [0.80, 0.60], [0.89, 0.71])
    two: Rows = [
        {s: [*(np.array(mean) + shift[s] + rng.normal(0, 0.004, 2))] for s in range(n)}
        for mean, n in zip(means, seeds, strict=True)
    ]
    three: Rows = [{s: [*values, size] for s, values in row.items()} for row in two]
    found = []
    for rows, ways in ((two, BOTH), (three, (*BOTH, "min"))):
        noise = seed_noise(rows)
        assert noise is not None
        found.append(front_probabilities(rows, noise, ways))
    assert found[1] == pytest.approx(found[0], abs=0.02)
    assert found[1][1] < 0.01 and found[1][0] > 0.5


def test_a_lucky_seed_that_one_row_lacks_tells_rows_apart_for_nothing() -> None:
    """By hand: the third seed adds 1 to whoever has it; the rows differ by 0.1 where both have."""
    wiggle = np.array([0.00, 0.02, -0.02])
    first = {s: [0.5 + s // 2 + wiggle[s]] for s in range(3)}
    second = {s: [0.6 - wiggle[s]] for s in range(2)}
    third = {s: [0.2 + s // 2 + wiggle[(s + 1) % 3]] for s in range(3)}
    noise = seed_noise([first, second, third])
    assert noise is not None and np.mean([*first.values()]) > np.mean([*second.values()])
    found = front_probabilities([first, second, third], noise, ("max",))
    assert found[1] > 0.9


@pytest.mark.parametrize("seeds", [[4] * 8, [2, 2, 3, 3, 4, 4, 5, 6]], ids=["same", "unlike"])
@pytest.mark.parametrize("shared", SHARED)
def test_the_probability_of_the_front_is_calibrated(shared: str, seeds: list[int]) -> None:
    """Of the configurations given about p, a share of about p is truly on the front."""
    rng = np.random.default_rng(4)
    said, true = [], []
    for trial in range(250):
        truth = rng.uniform(0, 6, (8, 2))
        rows = trained(rng, truth, SHARED[shared], seeds)
        noise = seed_noise(rows)
        assert noise is not None
        said.append(front_probabilities(rows, noise, BOTH, draws=300, seed=trial))
        true.append(pareto_front(truth, BOTH))
    p, on_front = np.concatenate(said), np.concatenate(true)
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 0.7), (0.7, 0.95), (0.95, 1.01)):
        chosen = (p >= low) & (p < high)
        assert chosen.sum() > 50
        assert on_front[chosen].mean() == pytest.approx(p[chosen].mean(), abs=0.08)
    # What seeds do to all alike is no doubt about the front.
    assert ((p >= 0.05) & (p <= 0.95)).mean() < 0.5
