"""Trivial baselines (majority class, chance, bag of words), and which accuracies beat them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from rc_core.metrics._floors import NAMES
from sweeps.shown_values import percent, share

# An accuracy above a baseline by no more than this may be due to the sample of examples.
_NEAR = 0.02
# A baseline this accurate leaves models hardly any room for improvement.
_EASY = 0.97
Standing = Literal["no better than", "hardly above", "above"]


def standing(accuracy: float, line: tuple[str, float]) -> Standing:
    """Return how an accuracy compares with a trivial baseline, the same in report and export.

    Args:
        accuracy: in [0, 1]; NaN counts as no better.
        line: name and accuracy, as from `best_line`.
    """
    if accuracy > line[1] + _NEAR:
        return "above"
    return "hardly above" if accuracy > line[1] else "no better than"


def floor_lines(lines: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the baselines as text, one line each: `bag of words: ID 76.5 %, OOD 60.9 %`.

    Args:
        lines: as from `sweeps.rows.reference_lines`.
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
    """Return the name and accuracy of a role's best baseline, None if it has none."""
    found = lines.get(role, {})
    if not found:
        return None
    best = max(found, key=lambda name: found[name])
    return NAMES.get(best, best), found[best]


def needs_no_model(line: tuple[str, float]) -> str:
    """Return `the best trivial baseline (bag of words: 76.5 %)` for a line from `best_line`."""
    return f"the best trivial baseline ({line[0]}: {percent(line[1])})"


def no_better(what: str, line: tuple[str, float]) -> str:
    """Return the objection to an accuracy, such as `60.0 % ID`, that does not beat a baseline."""
    return f"{what} is no better than {needs_no_model(line)}"


def did_not_learn(id_accuracy: float, lines: Mapping[str, Mapping[str, float]]) -> str | None:
    """Return the objection to a dense reference that learned nothing, None if it learned the task.

    Args:
        id_accuracy: of the reference on the ID dev role, in [0, 1].
        lines: as from `sweeps.rows.reference_lines`; if empty, the result is None.
    """
    line = best_line(lines, "id_dev")
    if line is None or standing(id_accuracy, line) != "no better than":
        return None
    found = no_better(f"{percent(id_accuracy)} ID", line)
    if too_easy(line) and id_accuracy > line[1] - _NEAR:
        # The reference did learn the task, but a trivial baseline solves it as well.
        return f"the dense reference learned nothing beyond a trivial baseline: {found}"
    return f"the dense reference did not learn the task: {found}"


def too_easy(line: tuple[str, float]) -> bool:
    """Return whether a baseline is so accurate that a model can hardly be better."""
    return line[1] >= _EASY
