"""What needs no model (majority class, chance, bag of words), as a sweep's records have it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rc_core.metrics._floors import NAMES
from rc_core.record import TrialRecord


def reference_lines(records: Sequence[TrialRecord]) -> dict[str, dict[str, float]]:
    """Return role -> line -> accuracy of what needs no model, empty where it was not measured."""
    reference = next((record for record in records if record.reference), None)
    lines: dict[str, dict[str, float]] = reference.data.get("floors", {}) if reference else {}
    return lines


def floor_lines(lines: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return what needs no model as text, a line for each: `bag of words: ID 76.5 %, OOD 60.9 %`.

    Args:
        lines: as `reference_lines` gives them.
    """
    names = dict.fromkeys(name for line in lines.values() for name in line)
    found = []
    for name in names:
        inside, outside = (
            _percent(lines.get(role, {}).get(name, math.nan)) for role in ("id_dev", "ood_dev")
        )
        found.append(f"{NAMES.get(name, name)}: ID {inside} %, OOD {outside} %")
    return found


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"
