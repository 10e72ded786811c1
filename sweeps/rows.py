"""Trials compared with each other and with the dense reference: the rows of every table.

No torch, Ray or MLflow here: `rc-sweep pareto` uses it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from rc_core.metrics.footprint import NONZERO, has_rounded, packed_bytes
from rc_core.metrics.robustness import difference_in_points, guarded_relative_bias
from rc_core.record import TrialRecord
from sweeps.constraints import parse
from sweeps.exclusion import Intervals, exclusion
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.pareto import hypervolume, pareto_front, pareto_ranks
from sweeps.shown_values import null

SCHEMA_VERSION = 1
# Units in a front as JSON, by key; accuracies have the same unit everywhere.
UNITS = {
    "accuracy": "share from 0 to 1, for every metric whose name ends in accuracy",
    "ood_difference": "points: 100 times this OOD accuracy minus the dense reference's",
    "relative_bias": "ratio, 1 for the dense reference",
    "nonzero_parameters": "parameters",
    "packed_parameters": "non-zero parameters of 32 bits, rounded ones by their bits",
    "hypervolume": "product of the objectives' own units",
    "reference_lines": "share from 0 to 1",
}
# Note on sizes if weights are rounded.
ROUNDED = "a rounded weight counts by its bits"
_BIAS, _DIFFERENCE = "ood_dev/relative_bias", "ood_dev/difference"


@dataclass(frozen=True)
class Row:
    """One trial, compared with the others and with the dense reference.

    Attributes:
        id: the trial's.
        name: short label of what differs from the defaults.
        status: the record's.
        compression: plugin name.
        loss: plugin name.
        reference: whether this is the dense reference.
        values: objective -> value, NaN if not measured.
        id_accuracy: share on id_dev.
        ood_accuracy: share on ood_dev.
        ood_difference: points on ood_dev, this minus the reference.
        relative_bias: guarded F_bias; NaN if undefined.
        bias_reason: why it is undefined.
        rank: 0 on the front; None if excluded.
        candidate: whether it is on the front of the trials without the dense reference, which often
            beats every compressed model on both accuracies; candidates are what to choose from.
        excluded: why it is excluded (not finished, a constraint), else None.
        parameters: non-zero parameters, NaN if not measured.
        seconds: duration of the trial.
        size: like parameters, but rounded weights, zeros included, count by their bits.
        rounded: whether it has rounded weights.
    """

    id: str
    name: str
    status: str
    compression: str
    loss: str
    reference: bool
    values: Mapping[str, float]
    id_accuracy: float
    ood_accuracy: float
    ood_difference: float
    relative_bias: float
    bias_reason: str | None
    rank: int | None
    candidate: bool
    excluded: str | None
    parameters: float
    seconds: float
    size: float
    rounded: bool

    @property
    def on_front(self) -> bool:
        return self.rank == 0

    @property
    def drawn(self) -> bool:
        """Whether pictures show it: it is not excluded, or it is the finished dense reference.

        The reference may miss a constraint (usually those of size) and so be excluded from the
        front, but everything is compared with it.
        """
        if self.rank is not None:
            return True
        return self.reference and self.status == "finished" and not self.without_value

    @property
    def without_value(self) -> bool:
        """Whether an objective has no value."""
        return any(math.isnan(value) for value in self.values.values())


def rows(
    records: Sequence[TrialRecord],
    objectives: Mapping[str, str],
    *,
    constraints: Sequence[str] = (),
    intervals: Intervals = MappingProxyType({}),
) -> list[Row]:
    """Return one row per record, in order.

    Args:
        records: all of a sweep.
        objectives: metric -> "max" or "min".
        constraints: as in the YAML; a trial that misses one is excluded from the front.
        intervals: trial -> metric -> interval, for metrics measured with one.
    """
    reference = next((record for record in records if record.reference), None)
    base = dict(reference.metrics) if reference is not None else {}
    around = intervals.get(reference.id, {}) if reference is not None else {}
    bounds = [parse(text) for text in constraints]
    reasons = [
        exclusion(record, objectives, bounds, base, (intervals.get(record.id, {}), around))
        for record in records
    ]
    points = [
        [math.nan if reason else record.metric(name) for name in objectives]
        for record, reason in zip(records, reasons, strict=True)
    ]
    directions = list(objectives.values())
    ranks = pareto_ranks(points, directions)
    alone = [
        [math.nan] * len(objectives) if record.reference else point
        for record, point in zip(records, points, strict=True)
    ]
    candidates = pareto_front(alone, directions)
    return [
        _row(record, objectives, base, reason, int(rank), bool(candidate))
        for record, reason, rank, candidate in zip(records, reasons, ranks, candidates, strict=True)
    ]


def reference_point(
    points: Sequence[Sequence[float]], objectives: Mapping[str, str]
) -> list[float]:
    """Return the point from which a front's hypervolume is measured.

    0 for shares (accuracies), the worst value among the trials for any other objective; with such
    objectives volumes are comparable only within one sweep.

    Args:
        points: objective values of all trials that are not excluded.
        objectives: metric -> "max" or "min".
    """
    columns = zip(*points, strict=True) if points else [()] * len(objectives)
    return [
        0.0
        if direction == "max" and name.endswith("accuracy")
        else (min if direction == "max" else max)(column, default=0.0)
        for column, (name, direction) in zip(columns, objectives.items(), strict=True)
    ]


def reference_lines(records: Sequence[TrialRecord]) -> dict[str, dict[str, float]]:
    """Return role -> trivial baseline -> accuracy, empty where none was measured."""
    reference = next((record for record in records if record.reference), None)
    lines: dict[str, dict[str, float]] = reference.data.get("floors", {}) if reference else {}
    return lines


def front_json(
    records: Sequence[TrialRecord],
    objectives: Mapping[str, str],
    *,
    sweep: str,
    constraints: Sequence[str] = (),
    means: Sequence[Row] = (),
    intervals: Intervals = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the front as plain JSON values (NaN as null), trials by id.

    The document does not depend on the order of the records, which differs while a sweep runs. The
    hypervolume is measured from `reference_point`.

    Args:
        records: all of a sweep.
        objectives: metric -> "max" or "min".
        sweep: its name.
        constraints: as for `rows`.
        means: for a design over seeds, the means of its configurations; then these are compared,
            and the trials' own figures are under `trials`.
        intervals: as for `rows`.
    """
    records = sorted(records, key=lambda record: record.id)
    trials = rows(records, objectives, constraints=constraints, intervals=intervals)
    found = means or trials
    directions = list(objectives.values())
    taking_part = [row for row in found if row.rank is not None]
    out = [row for row in found if row.excluded]
    if means:
        # Trials in no mean: failed or unfinished ones.
        out += [row for row in trials if row.status != "finished"]
    points = [[row.values[name] for name in objectives] for row in taking_part]
    worst = reference_point(points, objectives)
    volume = hypervolume(points, worst, directions) if points else 0.0
    return {
        "schema_version": SCHEMA_VERSION,
        "sweep": sweep,
        "units": dict(UNITS),
        "objectives": dict(objectives),
        "constraints": list(constraints),
        "reference": next((row.id for row in found if row.reference), None),
        "reference_lines": reference_lines(records),
        "front_is_of": "means over seeds" if means else "trials",
        "front": [_entry(row) for row in found if row.on_front],
        "front_without_reference": [row.id for row in found if row.candidate],
        "dominated": [_entry(row) for row in found if row.rank is not None and row.rank > 0],
        "excluded": [{"id": row.id, "why": row.excluded} for row in out],
        "hypervolume": volume,
        "hypervolume_reference": worst,
        **({"trials": [_own_entry(row) for row in trials]} if means else {}),
    }


def _row(
    record: TrialRecord,
    objectives: Mapping[str, str],
    base: Mapping[str, float],
    reason: str | None,
    rank: int,
    candidate: bool,
) -> Row:
    accuracies = (record.metric(ID_KEY), record.metric(OOD_KEY))
    references = (base.get(ID_KEY, math.nan), base.get(OOD_KEY, math.nan))
    if _BIAS in record.metrics:
        bias, bias_reason = record.metric(_BIAS), record.undefined.get(_BIAS)
    else:
        bias, bias_reason = guarded_relative_bias(*accuracies, *references)
    return Row(
        id=record.id,
        name=record.name,
        status=record.status,
        compression=record.config["compression"]["name"],
        loss=record.config["loss"]["name"],
        reference=record.reference,
        values={name: record.metric(name) for name in objectives},
        id_accuracy=accuracies[0],
        ood_accuracy=accuracies[1],
        # The record's own value if it has one, as seeds of a design may have a teacher each.
        ood_difference=record.metrics.get(
            _DIFFERENCE, difference_in_points(accuracies[1], references[1])
        ),
        relative_bias=bias,
        bias_reason=bias_reason,
        rank=None if reason else rank,
        candidate=candidate,
        excluded=reason,
        parameters=record.metric(NONZERO),
        seconds=record.seconds.get("total", math.nan),
        size=packed_bytes(record.metrics) / 4,
        rounded=has_rounded(record.metrics),
    )


class Sized(Protocol):
    """Anything with a size that may need a note."""

    @property
    def rounded(self) -> bool:
        """Whether weights count by their bits."""
        ...


def size_note(found: Iterable[Sized]) -> list[str]:
    """Return the note on sizes if some rows have rounded weights: one line, or none."""
    if not any(row.rounded for row in found):
        return []
    return [f"non-zero: {ROUNDED}, one of 8 bits as a quarter"]


def _entry(row: Row) -> dict[str, Any]:
    return {"id": row.id, "name": row.name, "rank": row.rank, **_figures(row)}


def _own_entry(row: Row) -> dict[str, Any]:
    """Return the entry of a trial of a design over seeds, which has no rank of its own."""
    return {"id": row.id, "name": row.name, "status": row.status, **_figures(row)}


def _figures(row: Row) -> dict[str, Any]:
    return {
        "values": {name: null(value) for name, value in row.values.items()},
        "ood_difference": null(row.ood_difference),
        "relative_bias": null(row.relative_bias),
        "nonzero_parameters": null(row.parameters),
        "packed_parameters": null(row.size),
    }
