"""What speaks against taking any model of a sweep: its reference or the choice knows nothing."""

from __future__ import annotations

from sweeps.reporting.facts import Facts, best_line
from sweeps.shown_values import percent


def doubts(facts: Facts) -> list[str]:
    """Return why the chosen model should not be taken yet, nothing where nothing speaks against it.

    The health check says the same of these as its gravest findings; see there for what to do.
    """
    found = []
    if facts.reference is None:
        found.append("no dense reference has finished to compare it with")
    elif (reason := did_not_learn(facts)) is not None:
        found.append(reason)
    line = best_line(facts.lines, "ood_dev")
    if line is not None and facts.chosen is not None:
        outside = facts.measured(facts.chosen).outside
        if not outside > line[1]:
            found.append(
                f"out of distribution the choice ({percent(outside)}) does not beat what needs no "
                f"model ({line[0]}: {percent(line[1])})"
            )
    return found


def did_not_learn(facts: Facts) -> str | None:
    """Return that the dense reference is no better than what needs no model, None where it is."""
    line = best_line(facts.lines, "id_dev")
    if facts.reference is None or line is None or facts.reference.id_accuracy > line[1]:
        return None
    return (
        f"the dense reference did not learn the task ({percent(facts.reference.id_accuracy)} ID; "
        f"what needs no model reaches {percent(line[1])})"
    )
