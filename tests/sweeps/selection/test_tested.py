"""The opened test's verdicts, on planted answers whose truth is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from rc_core.record import TrialRecord
from sweeps.selection import compared
from sweeps.selection.tested import Group, summary
from tests.sweeps.selection._planted import Planted, whole

# One cluster each: intervals are over seeds alone.
ROLES = {"id_test": np.zeros(1_000), "ood_test": np.zeros(1_000)}


def shown(deviation: float, seeds: int, df: int) -> float:
    """Return the difference that a t-test of so many df finds four times out of five."""
    critical = stats.t.ppf(0.975, df)
    shift = optimize.brentq(lambda x: stats.nct.sf(critical, df, x) - 0.8, 0.1, 90.0)
    return float(deviation * shift / math.sqrt(seeds))


def group(planted: Planted, name: str, **roles: Any) -> Group:
    trials = planted.row(name, **roles)
    keys = {seed: f"{name}/{seed}" for seed in trials}
    return Group(name, name, name == "dense", False, keys, trials, {})


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("times", "told"), [(0.96, False), (1.04, True)])
def test_a_verdict_asks_for_what_so_many_seeds_can_show(
    monkeypatch: pytest.MonkeyPatch, sign: int, times: float, told: bool
) -> None:
    """Three rows of three seeds: 6 df, worth 4 beside the same dense row. ID the other way."""
    planted = Planted(monkeypatch, ROLES)
    noise = np.array([-0.02, 0.0, 0.02])
    # Squares of 0, 4 + 4 and 4 + 4 points: a deviation of sqrt(16 / 6) points.
    deviation = math.sqrt(16 / 6)
    needed = shown(deviation, 3, 4)
    assert needed * 0.96 > 1.03 * shown(deviation, 3, 6), "all 6 df would ask for less"
    seen = round(times * needed, 1)
    outside: dict[str, Any] = {
        "dense": [0.5] * 3,
        "steady": [0.5 + sign * seen / 100] * 3,
        "noisy": 0.5 + noise,
        "other": 0.52 + noise[::-1],
    }
    inside = {"steady": [0.9 - sign * 0.09] * 3}
    groups = [
        group(planted, name, id_test=whole(inside.get(name, [0.9] * 3)), ood_test=whole(each))
        for name, each in outside.items()
    ]
    found = summary(groups, planted.reader())
    rows = {row["id"]: row for row in found["rows"]}
    assert found["pair_deviation"] == pytest.approx(deviation)
    assert rows["steady"]["ood_difference"]["mean"] == pytest.approx(sign * seen)
    assert rows["steady"]["id_difference"]["mean"] == pytest.approx(-sign * 9.0)
    expected = ("better" if sign > 0 else "worse") if told else "open"
    assert rows["steady"]["verdict"] == expected
    assert rows["noisy"]["verdict"] == rows["other"]["verdict"] == "open"
    assert rows["dense"]["verdict"] is None
    # Seeds that all start from one dense model have its luck: they show no difference from dense.
    for teachers in (1, 3):
        records = {
            seed: TrialRecord(
                id=f"t{seed}",
                status="finished",
                config={"compression": {"name": "magnitude", "init": "teacher"}},
                fingerprint="f",
                started=0.0,
                artifacts={"teacher": f"{seed % teachers}"},
            )
            for seed in groups[1].trials
        }
        started = [groups[0], replace(groups[1], records=records), *groups[2:]]
        again = summary(started, planted.reader())
        assert again["rows"][1]["verdict"] == ("open" if teachers == 1 else expected)


def counted(*parts: tuple[int, int]) -> Any:
    """Return one seed's answers: of each part so many of so many hundred are right."""
    return np.concatenate([np.arange(100 * size) < 100 * right for right, size in parts])


def opened(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Group], compared.Reader]:
    """Return dense of three seeds and a chosen model of two, and what reads their answers.

    The OOD test has a suite x of 6 (headline) and 4 hundred samples, and a suite y of 10 hundred.
    """
    headlines = {"x": np.arange(1_000) < 600, "y": np.ones(1_000)}
    sizes = {"id_dev": 1_000, "ood_dev": 1_000, "id_test": 1_000, "ood_test": 2_000}
    planted = Planted(
        monkeypatch,
        {role: np.zeros(size) for role, size in sizes.items()},
        {"ood_test": headlines},
    )
    dense = group(
        planted,
        "dense",
        id_dev=[counted((each, 10)) for each in (9, 9, 1)],
        ood_dev=[counted((each, 10)) for each in (8, 8, 1)],
        id_test=[counted((each, 10)) for each in (9, 8, 1)],
        ood_test=[
            counted((5, 6), (3, 4), (7, 10)),
            counted((3, 6), (2, 4), (7, 10)),
            counted((0, 6), (0, 4), (0, 10)),
        ],
    )
    model = group(
        planted,
        "model",
        id_dev=[counted((each, 10)) for each in (9, 7)],
        ood_dev=[counted((each, 10)) for each in (7, 5)],
        id_test=[counted((each, 10)) for each in (9, 8)],
        ood_test=[counted((4, 6), (1, 4), (6, 10)), counted((2, 6), (0, 4), (4, 10))],
    )
    return [dense, replace(model, selected=True)], planted.reader()


def test_every_figure_of_an_opened_test_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    groups, reader = opened(monkeypatch)
    found = summary(groups, reader)
    dense, model = found["rows"]

    def means(estimates: dict[str, Any]) -> dict[str, float]:
        return {key: each["mean"] for key, each in estimates.items()}

    # OOD is the headline: of 16 hundred 10 and 6 are right; seen are 1 and 0 of 4 hundred.
    assert means(model["accuracy"]) == pytest.approx({"id": 0.85, "ood": 0.5, "ood_seen": 0.125})
    assert means(model["suites"]) == pytest.approx({"x": (0.5 + 0.2) / 2, "y": 0.5})
    assert model["dev"] == pytest.approx({"id": 0.8, "ood": 0.6})
    assert model["drop"] == pytest.approx({"id": -5.0, "ood": 100 * (0.6 - 0.125)})
    assert means(dense["accuracy"])["id"] == pytest.approx(0.6)
    assert model["seeds"] == [0, 1] and model["trials"] == ["model/0", "model/1"]
    # Over the two seeds that both have: dense is right on 12 and 10 of 16 hundred there.
    assert model["id_difference"]["mean"] == pytest.approx(0.0)
    assert model["ood_difference"]["mean"] == pytest.approx(100 * (8 - 11) / 16)
    assert model["ood_difference"]["n"] == 2
    assert dense["id_difference"] is None and dense["ood_difference"] is None
    # Differences of -2 / 16 and -4 / 16.
    assert found["pair_deviation"] == pytest.approx(100 * (2 / 16) / math.sqrt(2))
    # The model falls by -5 ID and 47.5 OOD points, dense by 5 and 80 - 62.5, to seen subcases.
    assert means(found["optimism"]) == pytest.approx({"id": -10.0, "ood": 30.0})


def test_what_was_not_measured_or_not_chosen_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    groups, reader = opened(monkeypatch)
    alone = summary(groups[1:], reader)
    assert alone["optimism"] is None and alone["pair_deviation"] is None
    assert alone["rows"][0]["relative_bias"] is alone["rows"][0]["verdict"] is None
    assert alone["rows"][0]["accuracy"]["id"]["mean"] == pytest.approx(0.85)
    unchosen = [groups[0], replace(groups[1], selected=False)]
    assert summary(unchosen, reader)["optimism"] is None
    without = Planted(monkeypatch, ROLES)
    rows = [group(without, name, ood_test=whole([0.5, 0.6])) for name in ("dense", "model")]
    found = summary([rows[0], replace(rows[1], selected=True)], without.reader())
    assert found["rows"][1]["drop"] == found["rows"][1]["dev"] == {"id": None, "ood": None}
    assert found["rows"][1]["accuracy"] | {"ood": None} == dict.fromkeys(("id", "ood", "ood_seen"))
    assert found["optimism"] == {"id": None, "ood": None}
    assert found["rows"][1]["suites"] == {}


def test_one_seed_has_means_without_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Planted(monkeypatch, {"ood_test": np.arange(1_000) // 10})
    dense = group(planted, "dense", ood_test=whole([0.5]))
    found = summary([dense, group(planted, "model", ood_test=whole([0.6]))], planted.reader())
    estimate = {"mean": pytest.approx(0.6), "low": None, "high": None, "n": 1}
    assert found["rows"][1]["accuracy"]["ood"] == estimate
    assert found["rows"][1]["ood_difference"] == estimate | {"mean": pytest.approx(10.0)}
    assert found["pair_deviation"] is None and found["rows"][1]["verdict"] == "open"


def test_verdicts_are_rarely_wrong_and_mostly_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """50 worlds: four rows as good as dense, and two that differ by five deviations or more."""
    monkeypatch.setattr(compared, "_DRAWS", 200)
    rng = np.random.default_rng(0)
    truths = {"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0, "up": 0.1, "down": -0.12}
    alarms, right = 0, 0
    for _ in range(50):
        # An accuracy of one sample is as good as many samples: only seeds vary.
        planted = Planted(monkeypatch, {"ood_test": np.zeros(1)})
        tables = {
            name: rng.normal(0.6 + each, 0.02 / math.sqrt(2), (4, 1))
            for name, each in {"dense": 0.0, **truths}.items()
        }
        groups = [group(planted, name, ood_test=table) for name, table in tables.items()]
        for row in summary(groups, planted.reader())["rows"][1:]:
            truth = truths[row["id"]]
            if truth == 0:
                alarms += row["verdict"] != "open"
            else:
                right += row["verdict"] == ("better" if truth > 0 else "worse")
    assert alarms / 200 <= 0.06
    assert right / 100 >= 0.95
