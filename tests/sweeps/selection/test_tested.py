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
