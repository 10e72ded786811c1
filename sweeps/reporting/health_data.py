"""Health of the data and the training: texts that were cut, too few steps."""

from __future__ import annotations

from collections.abc import Iterator

from rc_core.data._cuts import against_cuts, cut_texts
from rc_core.record import TrialRecord
from sweeps.reporting.check import Check
from sweeps.reporting.facts import Facts
from sweeps.short_training import remedy, too_few


def data_checks(facts: Facts) -> Iterator[Check]:
    """Yield findings on too few steps and on texts that were cut."""
    if facts.reference is not None:
        yield from _few_steps(next(r for r in facts.records if r.id == facts.reference.id))
    record = next((each for each in facts.records if each.data), None)
    if record is None:
        return
    asked = record.config["training"]["max_length"]
    lines = cut_texts(record.data, asked)
    if lines:
        yield Check(
            "note",
            "Were texts cut?",
            "; ".join(lines),
            f"{against_cuts(record.data, asked)}; each step then costs more",
        )


def _few_steps(reference: TrialRecord) -> Iterator[Check]:
    steps = reference.steps.get("own", 0)
    if steps and (found := too_few(steps)):
        advice = f"{remedy(steps, reference.config['training'])}, in a sweep of its own"
        yield Check("warn", "Was it trained long enough?", f"the dense reference's {found}", advice)
