"""Views of records for people and programs: rows, the front table, front.json.

No torch, Ray or MLflow here: `rc-sweep pareto` uses it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rc_core.metrics._floors import NAMES
from rc_core.metrics.robustness import difference_in_points, guarded_relative_bias
from rc_core.record import TrialRecord
from sweeps.constraints import parse
from sweeps.pareto import hypervolume, pareto_front, pareto_ranks
from sweeps.views.floors import reference_lines

SCHEMA_VERSION = 1
_SHOWN_WHOLE = 20
_ONE_SEED = "One seed each: differences of a few points may be noise."
_ID, _OOD, _BIAS = "id_dev/accuracy", "ood_dev/accuracy", "ood_dev/relative_bias"
_DIFFERENCE = "ood_dev/difference"


@dataclass(frozen=True)
class Row:
    """One trial, compared with the others and with the dense reference.

    Attributes:
        id: the trial's.
        name: short, of what differs from the defaults.
        status: of the record.
        compression: plugin name.
        loss: plugin name.
        reference: whether this is the dense reference.
        values: objective -> value, NaN where not measured.
        id_accuracy: share on id_dev.
        ood_accuracy: share on ood_dev.
        ood_difference: points on ood_dev, this minus the reference.
        relative_bias: guarded F_bias; NaN where undefined.
        bias_reason: why it is undefined.
        rank: 0 on the front; None where it takes no part.
        candidate: on the front that is left without the dense reference. The reference often beats
            every compressed model on both accuracies; these are the ones to choose from.
        excluded: why it takes no part (not finished, a constraint), else None.
        parameters: non-zero parameters, NaN where not measured.
        seconds: of the trial.
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

    @property
    def on_front(self) -> bool:
        return self.rank == 0


def rows(
    records: Sequence[TrialRecord],
    objectives: Mapping[str, str],
    *,
    constraints: Sequence[str] = (),
) -> list[Row]:
    """Return one row per record, in order.

    Args:
        records: all of a sweep.
        objectives: metric -> "max" or "min".
        constraints: as in the YAML; a trial that misses one takes no part in the front.
    """
    reference = next((record for record in records if record.reference), None)
    base = dict(reference.metrics) if reference is not None else {}
    reasons = [_exclusion(record, objectives, constraints, base) for record in records]
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


def front_table(
    found: Sequence[Row],
    objectives: Mapping[str, str],
    *,
    lines: Mapping[str, Mapping[str, float]] | None = None,
    notes: Sequence[str] = (_ONE_SEED,),
) -> Table:
    """Return the front, the front without the dense reference, the reference, the vanilla rows.

    A small sweep is shown whole.

    Accuracies are in percent, differences in points. Lines (`reference_lines`) and notes close the
    table.
    """
    first = next(iter(objectives))
    sign = -1 if objectives[first] == "max" else 1

    def place(row: Row) -> tuple[float, str]:
        return sign * row.values[first], row.id

    front = sorted((row for row in found if row.on_front), key=place)
    candidates = sorted((row for row in found if row.candidate and not row.on_front), key=place)
    finished = [row for row in found if row.status == "finished"]
    # A small sweep is shown whole; of a large one, what everything is compared with.
    whole = len(finished) <= _SHOWN_WHOLE
    shown = [
        row
        for row in finished
        if not (row.on_front or row.candidate) and (whole or row.reference or row.loss == "vanilla")
    ]
    num_finished = len(finished)
    table = Table(
        title=f"Pareto front: {len(front)} of {num_finished} finished trials (* on it, "
        "+ on it but for the dense reference)",
        title_justify="left",
    )
    extra = [name for name in objectives if name not in (_ID, _OOD)]
    for title in ("", "id", "name"):
        table.add_column(title, no_wrap=title != "name")
    for title in ("ID %", "OOD %", *extra, "OOD vs dense", "F_bias", "non-zero M", "s"):
        table.add_column(title, justify="right", no_wrap=True)
    reasons: list[str] = []
    for row in (*front, *candidates, *sorted(shown, key=lambda r: (not r.reference, r.id))):
        role = "dense reference" if row.reference else "vanilla" if row.loss == "vanilla" else ""
        name = f"{row.name} ({role})" if row.reference else row.name
        table.add_row(
            "*" if row.on_front else "+" if row.candidate else "",
            row.id,
            # As it is: brackets in a name are no markup.
            Text(name),
            _percent(row.id_accuracy),
            _percent(row.ood_accuracy),
            *(_or_dash(row.values[key], "g") for key in extra),
            "" if row.reference else _or_dash(row.ood_difference, "+.1f"),
            Text(_bias(row, reasons)),
            "-" if math.isnan(row.parameters) else f"{row.parameters / 1e6:.1f}",
            "-" if math.isnan(row.seconds) else f"{row.seconds:.0f}",
            style="bold" if row.on_front else None,
        )
    _add_lines(table, lines or {}, len(extra))
    excluded = [f"{row.id}: {row.excluded}" for row in found if row.excluded]
    notes_shown = [f"[{i}] F_bias undefined: {why}" for i, why in enumerate(reasons, start=1)]
    notes_shown += ["not on the front: " + "; ".join(excluded)] if excluded else []
    notes_shown += notes
    table.caption, table.caption_justify = Text("\n".join(notes_shown)), "left"
    return table


def _add_lines(table: Table, lines: Mapping[str, Mapping[str, float]], num_extra: int) -> None:
    """Add what needs no model as rows of its own."""
    names = list(dict.fromkeys(name for line in lines.values() for name in line))
    if names:
        table.add_section()
    for name in names:
        values = [
            _percent(lines.get(role, {}).get(name, math.nan)) for role in ("id_dev", "ood_dev")
        ]
        table.add_row("", "", NAMES.get(name, name), *values, *[""] * (num_extra + 4), style="dim")


def render(table: Table, *, width: int = 120) -> str:
    """Return a table as plain text."""
    console = Console(file=io.StringIO(), width=width, no_color=True, highlight=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip()


def front_json(
    records: Sequence[TrialRecord],
    objectives: Mapping[str, str],
    *,
    sweep: str,
    constraints: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the front as plain JSON values (NaN as null), trials by id.

    Records come in the order in which trials ended while a sweep runs, and by id when they are read
    again; the document is the same.

    The hypervolume is measured from 0 for shares (accuracies), and from the worst value among the
    trials for any other objective: with such objectives it compares within one sweep only.
    """
    records = sorted(records, key=lambda record: record.id)
    found = rows(records, objectives, constraints=constraints)
    directions = list(objectives.values())
    taking_part = [row for row in found if row.rank is not None]
    points = [[row.values[name] for name in objectives] for row in taking_part]
    worst = _reference_point(points, objectives)
    volume = hypervolume(points, worst, directions) if points else 0.0
    return {
        "schema_version": SCHEMA_VERSION,
        "sweep": sweep,
        "objectives": dict(objectives),
        "constraints": list(constraints),
        "reference": next((row.id for row in found if row.reference), None),
        "reference_lines": reference_lines(records),
        "front": [_entry(row) for row in found if row.on_front],
        "front_without_reference": [row.id for row in found if row.candidate],
        "dominated": [_entry(row) for row in found if row.rank is not None and row.rank > 0],
        "excluded": [{"id": row.id, "why": row.excluded} for row in found if row.excluded],
        "hypervolume": volume,
        "hypervolume_reference": worst,
    }


def _row(
    record: TrialRecord,
    objectives: Mapping[str, str],
    base: Mapping[str, float],
    reason: str | None,
    rank: int,
    candidate: bool,
) -> Row:
    accuracies = (record.metric(_ID), record.metric(_OOD))
    references = (base.get(_ID, math.nan), base.get(_OOD, math.nan))
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
        # The record's own where it has one: the seeds of a design may have a teacher each.
        ood_difference=record.metrics.get(
            _DIFFERENCE, difference_in_points(accuracies[1], references[1])
        ),
        relative_bias=bias,
        bias_reason=bias_reason,
        rank=None if reason else rank,
        candidate=candidate,
        excluded=reason,
        parameters=record.metric("footprint/nonzero_parameters"),
        seconds=record.seconds.get("total", math.nan),
    )


def _exclusion(
    record: TrialRecord,
    objectives: Mapping[str, str],
    constraints: Sequence[str],
    base: Mapping[str, float],
) -> str | None:
    if record.status == "running":
        # Whether somebody runs it now, the records do not say.
        return "not finished"
    if record.status != "finished":
        return record.status if record.error is None else f"{record.status}: {record.error}"
    for name in objectives:
        if math.isnan(record.metric(name)):
            why = record.undefined.get(name, "not measured")
            return f"{name} is undefined: {why}"
    for text in constraints:
        constraint = parse(text)
        violation = constraint.violation(record.metrics, base)
        if math.isnan(violation):
            return constraint.unmeasured()
        if violation > 0:
            return f"misses {text} by {violation:.3g}"
    return None


def _reference_point(
    points: Sequence[Sequence[float]], objectives: Mapping[str, str]
) -> list[float]:
    columns = zip(*points, strict=True) if points else [()] * len(objectives)
    return [
        0.0
        if direction == "max" and name.endswith("accuracy")
        else (min if direction == "max" else max)(column, default=0.0)
        for column, (name, direction) in zip(columns, objectives.items(), strict=True)
    ]


def _entry(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "rank": row.rank,
        "values": {name: _null(value) for name, value in row.values.items()},
        "ood_difference": _null(row.ood_difference),
        "relative_bias": _null(row.relative_bias),
        "nonzero_parameters": _null(row.parameters),
    }


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _or_dash(value: float, form: str) -> str:
    return "-" if math.isnan(value) else f"{value:{form}}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def _bias(row: Row, notes: list[str]) -> str:
    if row.reference:
        return "1" if not math.isnan(row.relative_bias) else "-"
    if not math.isnan(row.relative_bias):
        return f"{row.relative_bias:.3f}"
    reason = row.bias_reason or ""
    # The amounts differ from row to row; one note for each kind of reason is enough.
    kind = (
        "ID accuracy is more than 3 points below the reference's" if "ID acc" in reason else reason
    )
    if kind not in notes:
        notes.append(kind)
    return f"- [{notes.index(kind) + 1}]"
