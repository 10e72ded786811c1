"""What the data of a sweep may have lost."""

from __future__ import annotations

from collections.abc import Iterator

from rc_core.data._cuts import against_cuts, cut_texts
from sweeps.reporting.check import Check
from sweeps.reporting.facts import Facts


def data_checks(facts: Facts) -> Iterator[Check]:
    """Yield what is found of texts that were cut; nothing where hardly any was."""
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
            f"{against_cuts(record.data, asked)}; a step costs more then",
        )
