"""Which trials or means over seeds are excluded from a front, and why: the only such rule.

No torch, Ray or MLflow here: `rc-sweep pareto` uses it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rc_core.record import TrialRecord
from sweeps.constraints import Constraint, Interval
from sweeps.shown_values import metric_text, number, scaled

# Trial -> metric -> interval.
Intervals = Mapping[str, Mapping[str, Interval]]

# What the reason says where a measurement is too rough for its constraint.
UNDECIDED = "cannot be decided"


@dataclass(frozen=True)
class Figures:
    """The figures by which a trial, or a configuration over its seeds, is judged.

    Attributes:
        metrics: key -> value.
        paired: own figures and the dense reference's, for comparison with it; for a configuration
            over the seeds that both have.
        undefined: metric -> why it is NaN.
        unpaired: the message if the reference has no such figure.
        spread: metric -> interval, for metrics measured with one: own and the reference's.
    """

    metrics: Mapping[str, float]
    paired: tuple[Mapping[str, float], Mapping[str, float]]
    undefined: Mapping[str, str] = field(default_factory=dict)
    unpaired: str = "the dense reference has no value for it"
    spread: tuple[Mapping[str, Interval], Mapping[str, Interval]] = ({}, {})


def exclusion(
    record: TrialRecord,
    objectives: Mapping[str, str],
    constraints: Sequence[Constraint],
    base: Mapping[str, float],
    spread: tuple[Mapping[str, Interval], Mapping[str, Interval]] = ({}, {}),
) -> str | None:
    """Return why a trial is excluded from the front, None if it is not.

    Args:
        record: of any trial.
        objectives: metric -> "max" or "min".
        constraints: the sweep's.
        base: the dense reference's metrics, for constraints relative to it.
        spread: as in `Figures`.
    """
    figures = Figures(record.metrics, (record.metrics, base), record.undefined, spread=spread)
    return unfinished(record) or missed(figures, objectives, constraints)


def unfinished(record: TrialRecord) -> str | None:
    """Return why a trial has no figures, None if it has."""
    if record.status == "running":
        # The records do not say whether it is still running.
        return "not finished"
    if record.status != "finished":
        return record.status if record.error is None else f"{record.status}: {record.error}"
    return None


def missed(
    figures: Figures, objectives: Mapping[str, str], constraints: Sequence[Constraint]
) -> str | None:
    """Return why figures are excluded from a front: a missing objective or a missed constraint.

    The same rule for a trial's own figures and for means over seeds.

    Args:
        figures: of a trial or a configuration.
        objectives: metric -> "max" or "min".
        constraints: of the sweep, of the user.
    """
    for name in objectives:
        if math.isnan(figures.metrics.get(name, math.nan)):
            why = figures.undefined.get(name)
            return f"{name} was not measured" if why is None else f"{name} is undefined: {why}"
    for constraint in constraints:
        key = constraint.metric
        ours, base = figures.paired if constraint.factor else (figures.metrics, {})
        violation = constraint.violation(ours, base)
        if math.isnan(violation):
            if math.isnan(figures.metrics.get(key, math.nan)):
                return constraint.unmeasured()
            return f"{constraint.text} cannot be checked: {figures.unpaired}"
        around, reference = figures.spread
        if key in around and constraint.undecided(around[key], reference.get(key, around[key])):
            return _undecided(constraint, figures.metrics[key], around[key])
        if violation > 0:
            # In the same unit as the value beside it: accuracies in percent.
            amount = number(scaled(key, violation), ".3g")
            unit = f" point{'s' * (amount != '1')}" if key.endswith("accuracy") else ""
            return (
                f"misses {constraint.text}: has {metric_text(key, ours[key])}, by "
                f"{amount}{unit} too {'little' if constraint.at_least else 'much'}"
            )
    return None


def _undecided(constraint: Constraint, value: float, around: Interval) -> str:
    """Return the message that a measurement is too uncertain to judge a constraint."""
    key = constraint.metric
    ends = [metric_text(key, each) for each in around]
    known = (
        "too few rounds for an interval"
        if any(map(math.isnan, around))
        else f"95 % interval {ends[0]} to {ends[1]}"
    )
    return (
        f"{constraint.text} {UNDECIDED}: has {metric_text(key, value)}, {known}; measure "
        "again, with more --rounds or while nothing else runs"
    )
