"""Who gets the next seed: first the noise, then where the decision is open, then nobody."""

from __future__ import annotations

import numpy as np

from sweeps.search.race import Row, open_rows, probabilities

BOTH = ("max", "max")


def row(mean: tuple[float, float], *, certain: bool = False, contender: bool = True) -> Row:
    return Row(searched=mean, certain=certain, contender=contender)


def run(
    truth: list[tuple[float, float]], noise: float, most: int, certain: int
) -> tuple[list[Row], int]:
    """Race simulated configurations to the end; return the rows and the trainings it took."""
    rng = np.random.default_rng(0)
    rows = [row(mean, certain=i < certain) for i, mean in enumerate(truth)]
    trainings = 0
    while waiting := open_rows(rows, BOTH, most):
        chosen = rows[waiting[0]]
        chosen.found[chosen.handed] = tuple(rng.normal(truth[waiting[0]], noise))
        chosen.handed += 1
        trainings += 1
    return rows, trainings


def test_the_front_gets_two_seeds_before_anything_is_decided() -> None:
    rows = [row((0.9, 0.6), certain=True), row((0.8, 0.8), certain=True), row((0.5, 0.5))]
    assert open_rows(rows, BOTH, 5) == [0, 1]
    assert probabilities(rows, BOTH, draws=100) is None
    rows[0].handed = 2
    assert open_rows(rows, BOTH, 5) == [1]


def test_clear_losers_get_no_seed_and_clear_winners_no_more_than_two() -> None:
    truth = [(0.90, 0.60), (0.80, 0.80), (0.50, 0.50), (0.55, 0.40)]
    rows, trainings = run(truth, noise=0.002, most=5, certain=2)
    assert [len(each.found) for each in rows[2:]] == [0, 0]
    assert trainings <= 7


def test_twins_get_all_their_seeds() -> None:
    truth = [(0.80, 0.80), (0.80, 0.80), (0.40, 0.40)]
    rows, _ = run(truth, noise=0.01, most=6, certain=1)
    assert len(rows[0].found) == len(rows[1].found) == 6
    assert len(rows[2].found) == 0


def test_what_noise_may_have_hidden_is_tried() -> None:
    """A row just behind the front, by less than the noise, gets seeds although it lost."""
    truth = [(0.80, 0.80), (0.81, 0.79), (0.30, 0.30)]
    rows = [row(truth[0], certain=True), row((0.795, 0.785)), row(truth[2])]
    rng = np.random.default_rng(1)
    for seed in range(2):
        rows[0].found[seed] = tuple(rng.normal(truth[0], 0.02))
        rows[0].handed += 1
    assert 1 in open_rows(rows, BOTH, 5)
    assert 2 not in open_rows(rows, BOTH, 5)


def test_the_reference_gets_as_many_seeds_as_those_compared_with_it() -> None:
    rows = [row((0.8, 0.8), certain=True), row((0.8, 0.8)), row((0.9, 0.9), contender=False)]
    for seed, value in enumerate((0.78, 0.82)):
        rows[0].found[seed] = (value, value)
        rows[0].handed += 1
    waiting = open_rows(rows, BOTH, 4)
    assert 2 in waiting and waiting[0] in (1, 2)


def test_no_row_gets_more_seeds_than_asked_for() -> None:
    rows, trainings = run([(0.8, 0.8)] * 4, noise=0.05, most=3, certain=4)
    assert all(each.handed == 3 for each in rows) and trainings == 12
