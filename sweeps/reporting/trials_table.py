"""Every trial of a sweep as one row: the settings that vary, and all that was measured.

For other tools and for the notebook (`rc-sweep table --trials`, `Sweep.frame`). Nothing is selected
or averaged. No torch, Ray or MLflow here.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from rc_core.errors import InputError, Problem
from sweeps.reporting.facts import varied
from sweeps.selection.measured import with_latency
from sweeps.selection.stamp import read_test
from sweeps.shown_values import number
from sweeps.stored_sweep import StoredSweep

FORMATS = ("markdown", "csv")


def trial_columns(sweep: StoredSweep) -> dict[str, list[Any]]:
    """Return column -> one value per trial, in the order of their ids.

    In this order: `id`, `status`, `name`, `reference`; settings in which trials differ (None: the
    trial has no such setting); both seeds; metrics, objectives first, including those of an opened
    test and measured latencies; `rung/...`, the last quick evaluation; `seconds`; `error`. NaN: not
    measured.

    Raises:
        StorageError: a file of the sweep cannot be read.
    """
    records = with_latency(sweep.folder, sweep.still().records)
    tested = (read_test(sweep) or {}).get("trials", {})
    columns: dict[str, list[Any]] = {
        "id": [record.id for record in records],
        "status": [record.status for record in records],
        "name": [record.name for record in records],
        "reference": [record.reference for record in records],
        **varied(records),
    }
    for section in ("training", "teacher"):
        seeds = [record.config.get(section, {}).get("seed") for record in records]
        if any(seed is not None for seed in seeds):
            columns[f"{section}.seed"] = seeds
    measured = [
        # JSON's null is an undefined metric.
        {**record.metrics, **tested.get(record.id, {}).get("metrics", {})}
        for record in records
    ]
    rungs = [dict(record.rungs[-1].metrics) if record.rungs else {} for record in records]
    for each, first in ((measured, [*sweep.objectives]), (rungs, [])):
        for key in dict.fromkeys([*first, *(key for values in each for key in values)]):
            columns[key] = [_number(values.get(key)) for values in each]
    columns["seconds"] = [record.taken or math.nan for record in records]
    columns["error"] = [record.error for record in records]
    return columns


def trials_table(sweep: StoredSweep, *, form: str = "markdown", stamp: Sequence[str] = ()) -> str:
    """Return every trial as a row of text.

    Args:
        sweep: any.
        form: one of `FORMATS`. In CSV, numbers have all digits, and unknown values are empty.
        stamp: notes on the seal, shown below the table but not in CSV.

    Raises:
        InputError: an unknown form, or no trial has a record yet.
        StorageError: as in `trial_columns`.
    """
    if form not in FORMATS:
        raise InputError(Problem("--format", f"must be {' or '.join(FORMATS)}, but got '{form}'"))
    columns = trial_columns(sweep)
    if not columns["id"]:
        raise InputError("no trial has a record yet; see rc-sweep status")
    if form == "csv":
        stream = io.StringIO()
        rows = zip(*(map(_exact, column) for column in columns.values()), strict=True)
        csv.writer(stream, lineterminator="\n").writerows([[*columns], *rows])
        return stream.getvalue().rstrip("\n")
    shown = zip(*(map(_short, column) for column in columns.values()), strict=True)
    lines = [_line([*columns]), _line(["---"] * len(columns)), *map(_line, shown)]
    return "\n".join([*lines, *(["", *stamp] if stamp else [])])


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _exact(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if _unknown(value) else str(value)


def _short(value: Any) -> str:
    if isinstance(value, float) and not _unknown(value):
        return number(value, ".4g")
    return _exact(value) or "-"


def _line(cells: Sequence[str]) -> str:
    plain = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
    return "| " + " | ".join(plain) + " |"
