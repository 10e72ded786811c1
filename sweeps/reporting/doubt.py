"""Reasons not to take any model of a sweep: its reference or the choice learned nothing."""

from __future__ import annotations

from sweeps.floors import best_line, did_not_learn, no_better, standing
from sweeps.reporting.facts import Facts
from sweeps.shown_values import percent

NO_REFERENCE = "no dense reference has finished: there is nothing to compare with"


def doubts(facts: Facts) -> list[str]:
    """Return reasons not to take the chosen model yet, empty if there are none.

    The health check has them among its worst findings, with what to do.
    """
    found = []
    if facts.reference is None:
        found.append(NO_REFERENCE)
    elif (reason := did_not_learn(facts.reference.id_accuracy, facts.lines)) is not None:
        found.append(reason)
    line = best_line(facts.lines, "ood_dev")
    if line is not None and facts.chosen is not None:
        outside = facts.measured(facts.chosen).outside
        if standing(outside, line) == "no better than":
            found.append(no_better(f"the choice's {percent(outside)} OOD", line))
    return found
