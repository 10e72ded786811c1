"""What needs no model (majority class, chance, bag of words), in words."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rc_core.metrics._floors import NAMES
from sweeps.shown_values import share


def floor_lines(lines: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return what needs no model as text, a line for each: `bag of words: ID 76.5 %, OOD 60.9 %`.

    Args:
        lines: as `sweeps.rows.reference_lines` gives them.
    """
    names = dict.fromkeys(name for line in lines.values() for name in line)
    found = []
    for name in names:
        inside, outside = (
            share(lines.get(role, {}).get(name, math.nan)) for role in ("id_dev", "ood_dev")
        )
        found.append(f"{NAMES.get(name, name)}: ID {inside} %, OOD {outside} %")
    return found
