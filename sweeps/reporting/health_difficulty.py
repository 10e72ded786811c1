"""Health of the difficulty estimates: do the sub-networks behind them know the task?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from sweeps.reporting.check import Check
from sweeps.reporting.facts import Facts
from sweeps.shown_values import percent

# Share of the dense reference's gain over the majority class; with less, a sub-network hardly
# predicts any other label.
_LEAST = 0.25


def difficulty_checks(facts: Facts) -> Iterator[Check]:
    """Yield a warning if pruned levels that know next to nothing contribute to the difficulty.

    The loss of such a level shows how far a sample is from the majority class, not how hard it is.
    """
    majority = facts.lines.get("id_dev", {}).get("majority", math.nan)
    dense = math.nan if facts.reference is None else facts.reference.id_accuracy
    if math.isnan(majority) or math.isnan(dense):
        return
    least = majority + _LEAST * (dense - majority)
    # Trials of one seed share an estimate, which is counted once. If it is scored in two ways, only
    # one of them may state the levels' shares of the variance.
    estimates: dict[str, dict[str, Any]] = {}
    for record in facts.records:
        found = record.loss.get("difficulty", {})
        if "difficulty" in record.artifacts and found.get("levels"):
            known = estimates.setdefault(record.artifacts["difficulty"], {})
            estimates[record.artifacts["difficulty"]] = {**found, **known}
    dead: dict[float, list[float]] = {}
    shares: dict[float, list[float]] = {}
    for found in estimates.values():
        for row in found["levels"]:
            level, accuracy = row["level"], row["id_dev_accuracy"]
            if accuracy < least:
                dead.setdefault(level, []).append(accuracy)
                share = found.get("variance_share", {}).get(f"{level:g}")
                shares.setdefault(level, []).append(math.nan if share is None else share)
    if not dead:
        return
    parts = []
    for level, accuracies in sorted(dead.items()):
        text = (
            f"{level:g} is right on {_range(accuracies)} of id_dev in {len(accuracies)} of "
            f"{len(estimates)} estimates"
        )
        if not any(map(math.isnan, shares[level])):
            text += f" and holds {_range(shares[level])} of the loss variance"
        parts.append(text)
    yield Check(
        "warn",
        "Do the pruned levels behind the difficulty know the task?",
        f"the majority class is right on {percent(majority)}, dense on {percent(dense)}; "
        f"level {'; '.join(parts)}",
        "train levels longer (difficulty.epochs, or mode: independent), leave the level out of "
        "difficulty.levels, or spread the degrees by rank (loss.normalisation: rank)",
    )


def _range(values: list[float]) -> str:
    low, high = percent(min(values)), percent(max(values))
    return low if low == high else f"{low} to {high}"
