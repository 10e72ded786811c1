"""Who gets the next seed: first the noise, then where the decision is open, then nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rc_core.config import seedless
from sweeps.pareto import pareto_front, pareto_fronts
from sweeps.search._base import Outcome
from sweeps.search.race import RaceProposals, Row, open_rows, probabilities
from sweeps.selection.statistics import mean_interval, pooled_covariance
from sweeps.verification.confirm import _merged, confirmation
from tests.sweeps.reporting._made import made_sweep, write_record

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


def test_a_row_that_was_asked_for_gets_all_its_seeds_and_the_reference_with_it() -> None:
    truth = [(0.90, 0.60), (0.80, 0.80), (0.50, 0.50)]
    rows = [row(point, certain=i < 2) for i, point in enumerate(truth)]
    rows[2].asked = True
    rows.append(row((0.95, 0.95), certain=True, contender=False))
    rng = np.random.default_rng(0)
    while waiting := open_rows(rows, BOTH, 5):
        chosen = rows[waiting[0]]
        chosen.found[chosen.handed] = tuple(rng.normal([*truth, (0.95, 0.95)][waiting[0]], 0.002))
        chosen.handed += 1
    assert [each.handed for each in rows] == [2, 2, 5, 5]


def test_no_row_gets_more_seeds_than_asked_for() -> None:
    rows, trainings = run([(0.8, 0.8)] * 4, noise=0.05, most=3, certain=4)
    assert all(each.handed == 3 for each in rows) and trainings == 12


def test_raced_rows_are_honest_where_equal_ones_were_searched() -> None:
    """Sixteen equal configurations: all that the search calls good is luck, and the race says so.

    Seeds go where the decision is open, so their number depends on what they showed: intervals must
    cover the truth all the same, and the planted optimism must be found.
    """
    noise, num, repeats = 0.03, 16, 16
    rng = np.random.default_rng(3)
    covered, rows_seen, optimism = 0, 0, []
    for _ in range(repeats):
        searched = rng.normal(0.8, noise, (num, 2))
        on_front = pareto_front(searched, BOTH)
        rows = [row(tuple(p), certain=bool(f)) for p, f in zip(searched, on_front, strict=True)]
        while waiting := open_rows(rows, BOTH, 4):
            chosen = rows[waiting[0]]
            chosen.found[chosen.handed] = tuple(rng.normal(0.8, noise, 2))
            chosen.handed += 1
        groups = [list(each.found.values()) for each in rows if each.found]
        covariance, df = pooled_covariance(groups)
        deviation = float(np.sqrt(covariance[1, 1]))
        for group in groups:
            found = mean_interval([p[1] for p in group], deviation=deviation, df=df)
            covered += found.low <= 0.8 <= found.high
            rows_seen += 1
        optimism += [
            each.searched[1] - float(np.mean([*each.values.values()], axis=0)[1])
            for each, chosen in zip(rows, on_front, strict=True)
            if chosen
        ]
    planted = np.mean(optimism)
    # The mean of what is on the front of that many equal points, by simulation without any race.
    free = np.random.default_rng(4).normal(0.8, noise, (4_000, num, 2))
    masks = pareto_fronts(free, BOTH)
    assert planted == pytest.approx(free[..., 1][masks].mean() - 0.8, abs=0.01)
    assert covered / rows_seen > 0.92


@pytest.mark.parametrize("shared", [0.0, 0.04])
def test_what_the_race_says_of_the_front_is_calibrated(shared: float) -> None:
    """Of the configurations that a finished race gives about p, about p are truly on the front.

    Also where a seed moves all of them, the search's seed too, by more than it moves one alone.
    """
    rng = np.random.default_rng(5)
    said, true, trainings = [], [], 0
    for _ in range(40):
        truth = [tuple(point) for point in rng.uniform(0.6, 0.7, (8, 2))]
        seeds = rng.normal(0.0, shared, (5, 2))
        searched = rng.normal(truth, 0.015) + seeds[4]
        certain = pareto_front(searched, BOTH)
        rows = [row(tuple(p), certain=bool(f)) for p, f in zip(searched, certain, strict=True)]
        while waiting := open_rows(rows, BOTH, 4):
            chosen = rows[waiting[0]]
            moved = rng.normal(truth[waiting[0]], 0.015) + seeds[chosen.handed]
            chosen.found[chosen.handed] = tuple(moved)
            chosen.handed += 1
            trainings += 1
        chances = probabilities(rows, BOTH, draws=500)
        assert chances is not None
        said += [chances[i] for i in range(8)]
        true += pareto_front(truth, BOTH).tolist()
    p, on_front = np.array(said), np.array(true)
    for low, high in ((0.0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1.01)):
        inside = (p >= low) & (p < high)
        assert inside.sum() > 20
        assert on_front[inside].mean() == pytest.approx(p[inside].mean(), abs=0.15)
    # The rest of the seeds went to none: what a seed does to all is no open decision.
    assert trainings / 40 < 25


def test_a_confirmation_that_goes_on_with_fewer_seeds_cuts_no_row(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=6)
    asked = sweep.records[1]
    before = confirmation(sweep, seeds=5, also=[asked.id])
    config = {**asked.config, "loss": {"name": "focal", "gamma": 2.0}}
    more = asked.model_copy(update={"id": "t0006", "config": config})
    write_record(sweep.folder, more)
    merged = _merged(before.as_dict(), confirmation(sweep, seeds=2))
    race = RaceProposals(merged, sweep.records)
    left, given = list(merged.first_trials()), []
    assert len(left) == 6 * 5 + 2
    while (trial_id := race.choose(left)) is not None:
        left.remove(trial_id)
        given.append(seedless(merged.trial(merged.first_trials()[trial_id]).as_dict()))
        values = {"id_dev/accuracy": 0.9, "ood_dev/accuracy": 0.6 + 0.001 * len(given)}
        race.tell(trial_id, Outcome("finished", values, {}, {}))
    assert given.count(seedless(asked.config)) == 5
