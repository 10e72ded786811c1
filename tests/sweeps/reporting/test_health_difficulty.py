"""A pruned level that answers one label only is no sub-network to read difficulty from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from rc_core.record import TrialRecord
from sweeps.reporting.facts import Facts
from sweeps.reporting.health_difficulty import difficulty_checks


def trial(number: int, key: str | None, accuracies: dict[float, float]) -> TrialRecord:
    levels = [{"level": level, "id_dev_accuracy": a} for level, a in accuracies.items()]
    shares = {f"{level:g}": 1 / len(accuracies) for level in accuracies}
    return TrialRecord(
        id=f"t{number:04d}",
        status="finished",
        config={},
        fingerprint="",
        started=0.0,
        artifacts={} if key is None else {"difficulty": key},
        loss={} if key is None else {"difficulty": {"levels": levels, "variance_share": shares}},
    )


def facts_of(*records: TrialRecord, lines: Any = None) -> Facts:
    given = {"id_dev": {"majority": 0.52}} if lines is None else lines
    dense = SimpleNamespace(id_accuracy=0.9)
    return cast(Facts, SimpleNamespace(records=records, lines=given, reference=dense))


def test_a_level_at_the_majority_is_told_once_for_each_estimate() -> None:
    records = [
        trial(0, None, {}),
        trial(1, "a", {0.2: 0.88, 0.85: 0.55}),
        # Another loss on the same estimate.
        trial(2, "a", {0.2: 0.88, 0.85: 0.55}),
        trial(3, "b", {0.2: 0.87, 0.85: 0.53}),
        # Above 0.52 by a quarter of 0.38.
        trial(4, "c", {0.2: 0.87, 0.85: 0.62}),
    ]
    # The same estimate, scored in another way, read last: its variance is known all the same.
    other = trial(5, "b", {0.2: 0.87, 0.85: 0.53})
    del other.loss["difficulty"]["variance_share"]
    records.append(other)
    (check,) = difficulty_checks(facts_of(*records))
    assert check.level == "warn"
    assert check.found == (
        "the majority class is right on 52.0 %, dense on 90.0 %; level 0.85 is right on "
        "53.0 % to 55.0 % of id_dev in 2 of 3 estimates and holds 50.0 % of the loss variance"
    )
    assert "difficulty.epochs" in check.action


def test_levels_that_know_the_task_are_not_mentioned() -> None:
    good = trial(1, "a", {0.2: 0.88, 0.85: 0.63})
    assert not [*difficulty_checks(facts_of(good))]
    assert not [*difficulty_checks(facts_of(trial(1, None, {})))]
    assert not [*difficulty_checks(facts_of(trial(1, "a", {0.2: 0.5}), lines={}))]
