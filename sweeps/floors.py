"""What needs no model (majority class, chance, bag of words), and who is no better, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from rc_core.metrics._floors import NAMES
from sweeps.shown_values import percent, share

# An accuracy that is above a line by no more may be so by the choice of samples alone.
_NEAR = 0.02
Standing = Literal["no better than", "hardly above", "above"]


def standing(accuracy: float, line: tuple[str, float]) -> Standing:
    """Return how an accuracy stands to what needs no model: the rule of report and export.

    Args:
        accuracy: in [0, 1]; NaN is no better.
        line: as `best_line` gives it.
    """
    if accuracy > line[1] + _NEAR:
        return "above"
    return "hardly above" if accuracy > line[1] else "no better than"


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


def best_line(lines: Mapping[str, Mapping[str, float]], role: str) -> tuple[str, float] | None:
    """Return name and accuracy of the best line of a role that needs no model, None without any."""
    found = lines.get(role, {})
    if not found:
        return None
    best = max(found, key=lambda name: found[name])
    return NAMES.get(best, best), found[best]


def needs_no_model(line: tuple[str, float]) -> str:
    """Return `what needs no model (bag of words: 76.5 %)` of a line as `best_line` gives it."""
    return f"what needs no model ({line[0]}: {percent(line[1])})"


def no_better(what: str, line: tuple[str, float]) -> str:
    """Return the objection to an accuracy, such as `60.0 % ID`, that does not beat a line."""
    return f"{what} is no better than {needs_no_model(line)}"


def did_not_learn(id_accuracy: float, lines: Mapping[str, Mapping[str, float]]) -> str | None:
    """Return the objection to a dense reference that knows nothing, None where it knows something.

    Args:
        id_accuracy: of the reference on the ID dev role, in [0, 1].
        lines: as `sweeps.rows.reference_lines` gives them; without any, None.
    """
    line = best_line(lines, "id_dev")
    if line is None or standing(id_accuracy, line) != "no better than":
        return None
    found = no_better(f"{percent(id_accuracy)} ID", line)
    return f"the dense reference did not learn the task: {found}"
