"""The front, updated trial by trial, against the one computed from all records at once."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pytest

from rc_core.record import TrialRecord
from sweeps.report import rows
from sweeps.running_front import RunningFront

CONFIG = {"compression": {"name": "magnitude"}, "loss": {"name": "vanilla"}}
OBJECTIVES = {"id_dev/accuracy": "max", "ood_dev/accuracy": "max", "footprint/bytes": "min"}


def record(number: int, values: Iterable[float], status: str = "finished") -> TrialRecord:
    return TrialRecord(
        id=f"t{number:04d}",
        status=status,
        config=CONFIG,
        fingerprint=str(number),
        reference=number == 0,
        started=0.0,
        metrics=dict(zip(OBJECTIVES, values, strict=False)),
    )


def draw(rng: random.Random, objectives: int) -> list[float]:
    # On a grid, so that ties and equal points come up.
    values = [rng.randrange(12) / 12 for _ in range(objectives)]
    return [math.nan if rng.random() < 0.05 else value for value in values]


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("constraints", [(), ("id_dev/accuracy >= reference - 0.5",)])
@pytest.mark.parametrize("reference_at", [0, 20, None])
def test_both_fronts_are_those_of_all_records(
    objectives: int, constraints: tuple[str, ...], reference_at: int | None
) -> None:
    rng = random.Random(objectives)
    wanted = dict(list(OBJECTIVES.items())[:objectives])
    front = RunningFront(wanted, constraints)
    seen: list[TrialRecord] = []
    before: set[str] = set()
    for step in range(60):
        number = 0 if step == reference_at else step + 1
        status = rng.choice(["finished"] * 9 + ["failed"])
        new = record(number, [0.7, 0.4, 0.5] if number == 0 else draw(rng, objectives), status)
        seen.append(new)
        changed = front.add(new)
        known = any(each.reference for each in seen)
        if constraints and not known:
            assert not changed
            continue
        found = rows(seen, wanted, constraints=constraints)
        expected = {row.id for row in found if row.on_front or row.candidate}
        got = {row.id for row in rows(front.records(), wanted, constraints=constraints)
               if row.on_front or row.candidate}  # fmt: skip
        assert got == expected
        assert changed or expected == before
        before = expected
    again = RunningFront(wanted, constraints, seen)
    assert again.records() == front.records()


def test_a_trial_that_is_beaten_changes_nothing() -> None:
    front = RunningFront({"id_dev/accuracy": "max", "ood_dev/accuracy": "max"})
    assert front.add(record(1, [0.9, 0.5]))
    assert not front.add(record(2, [0.9, 0.4]))
    assert front.add(record(3, [0.9, 0.5])), "equal points are all on the front"
    assert front.add(record(4, [0.9, 0.6]))
    assert [each.id for each in front.records()] == ["t0004"]
