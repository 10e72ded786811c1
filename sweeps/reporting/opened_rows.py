"""The opened test as rows: means over seeds, and the drop from dev to test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.reporting.facts import Facts


@dataclass(frozen=True)
class OpenedRow:
    """One configuration on the test roles.

    Attributes:
        id: of the searched trial.
        name: of the searched trial.
        selected: whether it was chosen when the test was opened.
        seeds: number of seeds averaged.
        inside: share right on id_test.
        outside: share right on ood_test, on subcases that no dev split has if it separates them.
        half: half the 95 % interval of `outside`, NaN if unknown.
        seen: share right on subcases that ood_dev has too, NaN if they are not separated.
        fall: OOD points lost from dev to test (to the seen subcases, if separated).
        verdict: OOD against the dense reference: `better`, `worse`, `open`; None for itself.
    """

    id: str
    name: str
    selected: bool
    seeds: int
    inside: float
    outside: float
    half: float
    seen: float
    fall: float
    verdict: str | None


def opened_rows(facts: Facts) -> list[OpenedRow]:
    """Return the rows of test.json, empty while the test is sealed."""
    if facts.tested is None:
        return []
    if facts.tested.get("rows"):
        return [_row(each) for each in facts.tested["rows"]]
    known = {row.id: row for row in facts.rows}
    found = []
    for key, trial in facts.tested["trials"].items():
        if key in known:
            outside = _number(trial["metrics"].get("ood_test/accuracy"))
            found.append(
                OpenedRow(
                    id=key,
                    name=str(trial["name"]),
                    selected=key in facts.tested["selection"],
                    seeds=1,
                    inside=_number(trial["metrics"].get("id_test/accuracy")),
                    outside=outside,
                    half=math.nan,
                    seen=math.nan,
                    fall=100 * (known[key].ood_accuracy - outside),
                    verdict=None,
                )
            )
    return found


def _row(raw: Mapping[str, Any]) -> OpenedRow:
    accuracy = raw["accuracy"]
    outside = accuracy.get("ood") or {}
    half = (_number(outside.get("high")) - _number(outside.get("low"))) / 2
    return OpenedRow(
        id=raw["id"],
        name=str(raw["name"]),
        selected=bool(raw["selected"]),
        seeds=len(raw["seeds"]),
        inside=_number((accuracy.get("id") or {}).get("mean")),
        outside=_number(outside.get("mean")),
        half=half,
        seen=_number((accuracy.get("ood_seen") or {}).get("mean")),
        fall=_number(raw["drop"].get("ood")),
        verdict=raw.get("verdict"),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
