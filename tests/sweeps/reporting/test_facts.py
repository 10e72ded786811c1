"""What a report computes, each against a plain reference or made data with a known answer."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance
from sklearn.model_selection import KFold

from rc_core.record import RungRecord, TrialRecord
from sweeps.pareto import hypervolume
from sweeps.reporting.cost import cost, timeline
from sweeps.reporting.facts import Facts, most_common_reason, varied
from sweeps.reporting.importance import LEAST_TRIALS, importance
from sweeps.selection.options import pick
from sweeps.views.watch import mean_seconds
from tests.sweeps.reporting._made import confirm_made, made_sweep


def record(number: int, started: float, seconds: float, **changes: Any) -> TrialRecord:
    return TrialRecord(
        id=f"t{number:04d}",
        status="finished",
        config={},
        fingerprint="",
        started=started,
        finished=started + seconds,
        seconds={"prepare": 1.0, "train": seconds - 3, "evaluate": 1.0, "total": seconds},
    ).model_copy(update=changes)


def test_cost_counts_stages_trials_at_once_and_leaves_pauses_out() -> None:
    # Two at once for 10 s, a night, one more for 20 s: 50 s of trials in 40 s.
    records = [record(1, 0.0, 20.0), record(2, 10.0, 10.0), record(3, 9_000.0, 20.0)]
    found = cost(records, {"resources": {"cpu": 2, "gpu": 0}})
    assert found.stages == {"prepare": 3.0, "train": 41.0, "evaluate": 3.0, "other": 3.0}
    assert (found.trial_seconds, found.busy_seconds, found.most) == (50.0, 40.0, 2)
    assert found.concurrent == pytest.approx(50 / 40)
    assert (found.device_seconds, found.unit) == (100.0, "CPU core")
    assert cost(records, {"resources": {"cpu": 2, "gpu": 0.5}}).device_seconds == 25.0


def test_what_early_stopping_saved_is_the_rest_at_the_trials_own_pace() -> None:
    rung = RungRecord(step=10, progress=0.25, seconds=30.0, metrics={})
    stopped = record(1, 0.0, 40.0, status="stopped", rungs=(rung,))
    unknown = record(2, 0.0, 40.0, status="stopped", rungs=())
    assert cost([stopped, unknown], {}).saved_seconds == pytest.approx(90.0)
    assert math.isnan(cost([unknown], {}).saved_seconds)
    assert cost([record(3, 0.0, 9.0)], {}).saved_seconds == 0.0


def test_a_trial_that_was_paused_before_it_was_sealed_costs_what_it_trained() -> None:
    rung = RungRecord(step=10, progress=0.25, seconds=30.0, metrics={})
    parked = record(1, 0.0, 9_000.0, status="stopped", rungs=(rung,))
    parked = parked.model_copy(update={"seconds": {}})
    found = cost([parked], {})
    assert (found.trial_seconds, found.busy_seconds) == (30.0, 30.0)
    assert (found.stages["train"], found.stages["other"]) == (30.0, 0.0)
    assert mean_seconds([parked]) == 30.0
    lost = record(2, 0.0, 40.0, status="failed").model_copy(update={"seconds": {}})
    assert cost([lost], {}).trial_seconds == 40.0, "nothing else is known of it"


def test_nothing_recorded_costs_nothing() -> None:
    found = cost([], {})
    assert (found.trial_seconds, found.busy_seconds, found.concurrent) == (0.0, 0.0, 0.0)


def test_the_timeline_is_the_hypervolume_of_all_trials_so_far() -> None:
    """Reference: the volume computed anew from all points after each trial."""
    rng = random.Random(0)
    records = [record(i, 10.0 * i, 10.0) for i in range(30)]
    points = {r.id: [rng.random(), rng.random()] for r in records}
    points["t0007"] = [math.nan, 0.9]
    del points["t0008"]
    steps = timeline(records, {}, points, [0.0, 0.0], ["max", "max"])
    assert [step.ended for step in steps] == list(range(1, 31))
    for n, step in enumerate(steps, start=1):
        so_far = [points[r.id] for r in records[:n] if r.id in points]
        assert step.volume == pytest.approx(hypervolume(so_far, [0, 0], ["max", "max"]))
        assert (step.wall, step.device) == (pytest.approx(10.0 * n), pytest.approx(10.0 * n))


def test_importance_finds_the_setting_that_made_the_values() -> None:
    rng = random.Random(0)
    strength = [rng.random() for _ in range(120)]
    name = [rng.choice(["a", "b", "c"]) for _ in strength]
    noise = [rng.random() for _ in strength]
    # Only "a" has it, and there it does nothing: its absence must not make it important.
    only_a = [rng.random() if n == "a" else None for n in name]
    values = [s + (0.5 if n == "a" else 0.0) for s, n in zip(strength, name, strict=True)]
    settings: dict[str, Sequence[Any]] = {
        "noise": noise,
        "strength": strength,
        "name": name,
        "only_a": only_a,
        "same": [1] * 120,
    }
    found = importance(settings, values)
    assert found.problem is None and found.explained > 0.8
    assert list(found.shares)[:2] == ["strength", "name"]
    assert found.shares["noise"] < 0.05 and found.shares["only_a"] < 0.05
    assert "same" not in found.shares


def test_importance_is_what_shuffling_adds_to_the_error() -> None:
    """Reference: scikit-learn's permutation importance of forests on held-out fifths."""
    rng = np.random.default_rng(0)
    table = rng.random((150, 3))
    # More than a quarter of the variance is noise, which no shuffled setting is to blame for.
    values = 2 * table[:, 0] + table[:, 1] + rng.normal(0, 0.5, 150)
    lost = np.zeros(3)
    for fitted, held in KFold(5, shuffle=True, random_state=1).split(table):
        forest = RandomForestRegressor(60, min_samples_leaf=2, random_state=0)
        forest.fit(table[fitted], values[fitted])
        lost += permutation_importance(
            forest,
            table[held],
            values[held],
            scoring="neg_mean_squared_error",
            n_repeats=5,
            random_state=0,
        ).importances_mean
    expected = np.maximum(lost, 0) / np.maximum(lost, 0).sum()
    found = importance(dict(zip("abc", table.T.tolist(), strict=True)), values.tolist())
    assert [found.shares[key] for key in "abc"] == pytest.approx(expected.tolist(), abs=0.05)
    assert found.shares["a"] > 0.6 and 0.2 < found.explained < 0.75


@pytest.mark.parametrize(
    ("settings", "values", "why"),
    [
        ({"x": list(range(5))}, [0.1] * 5, f"needs {LEAST_TRIALS}"),
        ({"x": [1] * 20}, [i / 20 for i in range(20)], "same settings"),
        ({"x": list(range(20))}, [0.5] * 20, "same value"),
        ({"x": list(range(20))}, [math.nan] * 20, f"needs {LEAST_TRIALS} compressed models"),
        ({"x": [1, 2] * 40}, [random.Random(i).random() for i in range(80)], "too little"),
    ],
)
def test_importance_says_why_it_says_nothing(
    settings: dict[str, list[Any]], values: list[float], why: str
) -> None:
    found = importance(settings, values)
    assert found.shares == {} and found.problem is not None and why in found.problem


def test_settings_that_vary_are_found_by_their_dotted_names() -> None:
    one = record(
        1, 0, 9, config={"compression": {"name": "a", "levels": [1]}, "loss": {"name": "x"}}
    )
    two = record(
        2, 0, 9, config={"compression": {"name": "b", "levels": [2]}, "loss": {"name": "x"}}
    )
    assert varied([one, two]) == {
        "compression.name": ["a", "b"],
        "compression.levels": ["[1]", "[2]"],
    }


def test_failures_of_one_kind_are_counted_together() -> None:
    errors = ["diverged at step 3\ntraceback", "diverged at step 41", "disk full"]
    failed = [record(i, 0, 9, status="failed", error=e) for i, e in enumerate(errors)]
    assert most_common_reason(failed) == "2 of them such as: diverged at step 3"
    assert most_common_reason(failed[2:]) == "disk full"
    assert "no reason" in most_common_reason([record(1, 0, 9, status="failed")])


def test_commands_find_the_sweep_and_are_quoted_for_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = Facts.read(made_sweep(tmp_path, trials=2, name="plain-1"))
    monkeypatch.setenv("RC_STORAGE", str(tmp_path))
    assert facts.export_command("t0001") == (
        "rc-sweep export plain-1 --pick t0001 --out plain-1-t0001"
    )
    monkeypatch.setenv("RC_STORAGE", str(tmp_path / "a b; rm"))
    assert facts.command("resume") == f"rc-sweep resume plain-1 --storage {tmp_path}"
    odd = made_sweep(tmp_path / "a b; rm", trials=2)
    monkeypatch.delenv("RC_STORAGE")
    assert f"--storage '{tmp_path}/a b; rm'" in Facts.read(odd).command("confirm")


def test_the_choice_is_the_knee_and_after_a_confirmation_one_that_it_left(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=30, name="found")
    before = Facts.read(sweep)
    assert before.chosen is not None and before.chosen.id == sweep_knee(before)
    assert before.measured(before.chosen).seeds == 1
    confirm_made(sweep, rows=3)
    after = Facts.read(sweep)
    assert after.chosen is not None
    assert after.chosen.id in {row.id for row in after.confirmed_rows}
    assert after.chosen.id == pick(sweep, "knee")
    own = next(row for row in after.confirmed_rows if row.id == after.chosen.id)
    found = after.measured(after.chosen)
    values = [r.metric("ood_dev/accuracy") for r in own.trials.values()]
    assert found.outside == pytest.approx(sum(values) / len(values)) and found.seeds == 3


def sweep_knee(facts: Facts) -> str:
    """By hand: scale the front to [0, 1], take the largest sum."""
    front = facts.candidates
    columns = list(zip(*[[row.values[n] for n in facts.objectives] for row in front], strict=True))
    scaled = [
        [(v - min(c)) / ((max(c) - min(c)) or 1) if max(c) > min(c) else 1.0 for v in c]
        for c in columns
    ]
    sums = [round(sum(values), 12) for values in zip(*scaled, strict=True)]
    best = [i for i, total in enumerate(sums) if total == max(sums)]
    return front[max(best, key=lambda i: min(column[i] for column in scaled))].id
