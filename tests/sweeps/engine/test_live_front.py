"""The gain that is kept up, against the fronts of all records; and the limits of a sweep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rc_core.record import TrialRecord
from sweeps.engine.budget import Budget, Usage
from sweeps.engine.live_front import LiveFront
from sweeps.pareto import hypervolume
from sweeps.rows import front_json
from sweeps.settings import BudgetConfig, StallConfig

OBJECTIVES = {"id_dev/accuracy": "max", "footprint/parameters": "min"}
PLAIN = {"compression": {"name": "magnitude"}, "loss": {"name": "vanilla"}}


def record(number: int, *values: float, objectives: Any = OBJECTIVES, **keys: Any) -> TrialRecord:
    settings: dict[str, Any] = {"status": "finished", "reference": number == 0} | keys
    return TrialRecord(
        id=f"t{number:04d}",
        config=PLAIN,
        fingerprint=str(number),
        started=0.0,
        metrics=dict(zip(objectives, values, strict=True)),
        **settings,
    )


def gain_between(before: Mapping[str, Any], now: Mapping[str, Any]) -> float | None:
    """Return what front.json has gained since an earlier one, both measured from where now is."""
    front = [[entry["values"][name] for name in OBJECTIVES] for entry in before["front"]]
    measured = [now["hypervolume_reference"], list(OBJECTIVES.values())]
    volume = hypervolume(front, *measured) if front else 0.0
    return 1 - volume / now["hypervolume"] if now["hypervolume"] > 0 else None


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("constraints", [(), ("id_dev/accuracy >= reference - 0.3",)])
def test_the_gain_is_that_between_the_fronts_of_all_records_then_and_now(
    seed: int, constraints: tuple[str, ...], window: int
) -> None:
    random = np.random.default_rng(seed)
    live = LiveFront(OBJECTIVES, constraints, window=window)
    found: list[TrialRecord] = []
    documents: list[Mapping[str, Any]] = []
    gains = 0
    for number in range(40):
        status = "finished" if number % 7 else ("finished" if number == 0 else "stopped")
        values = (float(random.integers(0, 9) / 10), float(random.integers(1, 9)))
        if number % 11 == 5:
            values = (float("nan"), values[1])
        found.append(record(number, *values, status=status))
        live.add(found[-1])
        documents.append(front_json(found, OBJECTIVES, sweep="s", constraints=constraints))
        if number < window:
            assert live.gain() is None
            continue
        # Before the first trial there is nothing: the dense reference is none.
        before = documents[number - window] if number > window else {"front": []}
        expected = gain_between(before, documents[-1])
        assert live.gain() == (None if expected is None else pytest.approx(expected))
        gains += bool(expected)
    assert gains


def accuracies(number: int, value: float, **keys: Any) -> TrialRecord:
    return record(number, value, value, objectives=dict.fromkeys(("a/accuracy", "b/accuracy")),
                  **keys)  # fmt: skip


def test_gain_is_what_the_last_trials_added() -> None:
    live = LiveFront({"a/accuracy": "max", "b/accuracy": "max"}, window=3)
    for number, value in ((0, 0.5), (1, 0.5), (2, 0.4)):
        live.add(accuracies(number, value))
    assert live.gain() is None, "two trials besides the reference"
    live.add(accuracies(3, 0.6))
    assert live.gain() == pytest.approx(1.0), "before the first trial there was nothing"
    live.add(accuracies(4, 0.1))
    assert live.gain() == pytest.approx(1 - 0.25 / 0.36)
    for number in (5, 6):
        live.add(accuracies(number, 0.2, status="stopped"))
    assert live.gain() == 0.0


def test_limits_are_an_or_and_say_which_was_reached(tmp_path: Path) -> None:
    clock = [0.0]
    usage = Usage(tmp_path / "usage.json", gpu=0.5, clock=lambda: clock[0])
    front = LiveFront({"a/accuracy": "max", "b/accuracy": "max"}, window=2)
    stall = StallConfig(trials=2, gain=0.01)
    config = BudgetConfig(hours=2.0, accelerator_hours=0.5, stall=stall)
    budget = Budget(config, usage, front)
    assert budget.reached() is None
    usage.started("t0001")
    usage.started("t0002")
    clock[0] = 1800
    assert usage.accelerator_hours == pytest.approx(0.5), "two trials, half a GPU, half an hour"
    assert "accelerator_hours (0.5 h of GPU)" in str(budget.reached())
    usage.ended("t0001")
    usage.ended("t0001")
    usage.ended("t0002")
    clock[0] = 7200
    assert usage.accelerator_hours == pytest.approx(0.5), "nothing runs"
    assert "budget.hours (2 h)" in str(budget.reached())
    only_stall = Budget(BudgetConfig(stall=stall), usage, front)
    for number, value in enumerate((0.5, 0.8, 0.2)):
        front.add(accuracies(number, value))
    assert only_stall.reached() is None
    front.add(accuracies(3, 0.3))
    assert "the last 2 trials added 0 % to the hypervolume" in str(only_stall.reached())
    assert Budget(BudgetConfig(), usage, front).reached() is None


def test_each_trial_counts_from_its_own_start(tmp_path: Path) -> None:
    """By hand, a quarter of a GPU each: an hour and a half of each of two."""
    clock, path = [36_000.0], tmp_path / "usage.json"
    usage = Usage(path, gpu=0.25, clock=lambda: clock[0])
    clock[0] += 1800
    usage.started("t0001")
    clock[0] += 3600
    usage.started("t0002")
    # One that holds its resources already does not begin anew.
    usage.started("t0001")
    clock[0] += 1800
    assert usage.hours == pytest.approx(2.0)
    assert usage.accelerator_hours == pytest.approx(0.25 * 2.0)
    usage.ended("t0001")
    usage.ended("t0009")
    clock[0] += 3600
    assert usage.accelerator_hours == pytest.approx(0.25 * (1.5 + 1.5))
    usage.ended("t0002")
    assert usage.accelerator_hours == pytest.approx(0.25 * (1.5 + 1.5))


def test_usage_is_written_again_once_it_is_old_enough(tmp_path: Path) -> None:
    clock, path = [500.0], tmp_path / "usage.json"
    usage = Usage(path, gpu=1.0, clock=lambda: clock[0])

    def written() -> float:
        return float(json.loads(path.read_text())["hours"]) * 3600

    usage.save(every=5.0)
    for later, expected in ((504.0, 0.0), (505.0, 5.0), (509.0, 5.0), (510.0, 10.0)):
        clock[0] = later
        usage.save(every=5.0)
        assert written() == pytest.approx(expected)
    clock[0] = 511.0
    usage.save()
    assert written() == pytest.approx(11.0)
    path.write_text('{"hours": 2.5}')
    assert Usage(path, gpu=1.0, clock=lambda: 0.0).accelerator_hours == 0.0
    path.write_text('{"accelerator_hours": 2.5}')
    assert Usage(path, gpu=1.0, clock=lambda: 0.0).hours == 0.0


def test_a_resumed_sweep_goes_on_counting(tmp_path: Path) -> None:
    clock = [0.0]
    path = tmp_path / "usage.json"
    first = Usage(path, gpu=1.0, clock=lambda: clock[0])
    first.started("t0001")
    clock[0] = 3600
    first.save()
    clock[0] = 9000
    second = Usage(path, gpu=1.0, clock=lambda: clock[0])
    clock[0] = 10800
    assert second.hours == pytest.approx(1.5), "the time between the drivers is not counted"
    assert second.accelerator_hours == pytest.approx(1.0)
