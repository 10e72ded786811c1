"""The sentence on whether new seeds show a difference from the dense reference."""

from __future__ import annotations

import math

from sweeps.objectives import OOD_KEY
from sweeps.reporting.facts import Facts
from sweeps.selection.confirmed import ConfirmedRow, cannot_be_told_apart
from sweeps.selection.statistics import detectable_difference


def against(facts: Facts, own: ConfirmedRow) -> str:
    """Say whether a configuration's seeds show that it differs from the dense reference.

    Args:
        facts: of a sweep with a confirmation, or with seeds of its own.
        own: the configuration, over its seeds.
    """
    found, difference = facts.confirmation, own.against_reference
    reference = next((row for row in facts.confirmed_rows if row.reference), None)
    if found is None or reference is None or difference is None or difference.n < 2:
        return f"The dense reference lacks the two {facts.seeds_are} that a comparison needs."
    numbers = (
        f"{difference.mean:+z.1f} OOD points{points_interval(difference.low, difference.high)}, "
        f"paired over {difference.n} seeds"
    )
    if own.one_start:
        return (
            "All its seeds start from one dense model and share its luck, so they show no "
            f"difference from the dense reference: {numbers}."
        )
    if not cannot_be_told_apart(found, own, reference, OOD_KEY):
        return f"A difference from the dense reference is shown: {numbers}."
    deviation, df = found.noise.pairs[OOD_KEY], found.noise.pairs_df[OOD_KEY]
    shown = 0.0
    if not math.isnan(deviation):
        shown = 100 * detectable_difference(deviation, difference.n, df=df)
    least = f"; {difference.n} seeds can show {shown:.1f} points" if 0 < shown < math.inf else ""
    return f"A difference from the dense reference is not shown: {numbers}{least}."


def interval(low: float, high: float) -> str:
    """Return an interval of shares in percent, in brackets; empty if unknown."""
    return "" if math.isnan(low) else f" (95 % interval {100 * low:.1f} to {100 * high:.1f})"


def points_interval(low: float, high: float) -> str:
    """Return an interval of points, in brackets; empty if unknown."""
    return "" if math.isnan(low) else f" (95 % interval {low:+z.1f} to {high:+z.1f})"
