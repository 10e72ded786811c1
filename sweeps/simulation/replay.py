"""A finished sweep as a table that can be replayed: rung values, times and final values.

    {"schema_version": 1, "config": {...}, "stopped": 0, "trials": [
        {"id": "t0004", "name": "student-3 rmc", "compression": "student", "point": {...},
         "rungs": [{"rung": 1, "seconds": 61.2, "settled": true, "values": {...}}, ...],
         "seconds": 251.0, "values": {"id_dev/accuracy": 0.958, ...}}]}

Only trials that ran to the end are in it, as the rest of a stopped trial is unknown. The number of
stopped trials is kept, as those left are a selection made by the sweep's scheduler.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rc_core.config import decode
from rc_core.errors import StorageError
from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.engine.rungs import is_settled, rung_of
from sweeps.engine.warm_start import point_of
from sweeps.space import Point

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ReplayRung:
    """What a trial had reached at a rung.

    Attributes:
        number: from 1.
        seconds: since the trial began, including preparation and evaluations.
        settled: whether the compression had its final structure.
        values: reported metrics.
    """

    number: int
    seconds: float
    settled: bool
    values: Mapping[str, float]


@dataclass(frozen=True)
class ReplayTrial:
    """One trial of the table.

    Attributes:
        id: of the trial.
        name: its label.
        compression: plugin name.
        point: its point in the space; None if it lies outside (say, a vanilla row).
        rungs: in order, without the end.
        seconds: of the whole trial.
        values: objective -> final value.
    """

    id: str
    name: str
    compression: str
    point: Point | None
    rungs: tuple[ReplayRung, ...]
    seconds: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class Table:
    """A sweep's finished trials, its configuration, and how many trials it stopped early."""

    config: Mapping[str, Any]
    trials: tuple[ReplayTrial, ...]
    stopped: int = 0

    @property
    def objectives(self) -> dict[str, str]:
        return dict(self.config["objectives"])

    def points(self) -> list[list[float]]:
        """Return the final values, one row per trial."""
        return [[trial.values[name] for name in self.objectives] for trial in self.trials]


def table_of(records: Sequence[TrialRecord], config: Mapping[str, Any]) -> Table:
    """Make the table of a sweep.

    Records only have the total time of evaluations; it is spread evenly over the rungs and the end.

    Raises:
        StorageError: no trial besides the dense reference has finished with rungs.
    """
    # `elsewhere`: nothing is trained, so the encoder need not be here (say, a sweep in a bucket).
    sweep = SweepConfig(config, elsewhere=True)
    names = list(sweep.settings.objectives)
    trials = []
    for record in records:
        values = {name: record.metric(name) for name in names}
        usable = record.status == "finished" and not record.reference and record.rungs
        if usable and all(map(math.isfinite, values.values())):
            trials.append(_trial(record, values, point_of(record.config, sweep)))
    if not trials:
        raise StorageError(
            "a table needs finished trials with rungs besides the dense reference, but there are "
            "none (training.rungs must be at least 2)"
        )
    stopped = sum(record.status == "stopped" for record in records)
    return Table(sweep.as_dict(), tuple(trials), stopped)


def write_table(table: Table, path: Path) -> None:
    """Write a table as JSON, one line per trial. Raises StorageError."""
    values = {"config": table.config, "stopped": table.stopped}
    head = json.dumps({"schema_version": SCHEMA_VERSION, **values})
    rows = ",\n".join(json.dumps(_plain(trial)) for trial in table.trials)
    try:
        path.write_text(f'{head[:-1]}, "trials": [\n{rows}\n]}}\n', encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"{path} must be a writable file ({error.strerror}); name another"
        ) from error


def read_table(path: Path) -> Table:
    """Read a table.

    Raises:
        StorageError: the file is not a table, or has a newer schema.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema_version"] > SCHEMA_VERSION:
            raise StorageError(
                f"{path} must have schema_version <= {SCHEMA_VERSION}, but has "
                f"{raw['schema_version']}; read it with the version that wrote it"
            )
        trials = tuple(_read(row) for row in raw["trials"])
        return Table(raw["config"], trials, raw.get("stopped", 0))
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path} must be a sweep's name or folder, or a recorded table (rc-sweep simulate "
            f"SWEEP --export-table FILE writes one), but is neither: {error!r}"
        ) from error


def _trial(record: TrialRecord, values: Mapping[str, float], point: Point | None) -> ReplayTrial:
    config = decode(record.config)
    spent = record.seconds
    evaluation = spent.get("evaluate", 0.0) / (len(record.rungs) + 1)
    before = spent.get("prepare", 0.0)
    rungs = tuple(
        ReplayRung(
            number=rung_of(rung.progress, config),
            seconds=round(before + rung.seconds + evaluation * i, 2),
            settled=is_settled(rung.progress, config),
            values={key: value for key, value in rung.metrics.items() if math.isfinite(value)},
        )
        for i, rung in enumerate(record.rungs, start=1)
    )
    total = before + spent.get("train", 0.0) + spent.get("evaluate", 0.0)
    return ReplayTrial(
        id=record.id,
        name=record.name,
        compression=config.compression.name,
        point=point,
        rungs=rungs,
        seconds=round(max(total, rungs[-1].seconds), 2),
        values=values,
    )


def _plain(trial: ReplayTrial) -> dict[str, Any]:
    return {
        "id": trial.id,
        "name": trial.name,
        "compression": trial.compression,
        "point": trial.point,
        "rungs": [
            {
                "rung": rung.number,
                "seconds": rung.seconds,
                "settled": rung.settled,
                "values": {key: round(value, 6) for key, value in rung.values.items()},
            }
            for rung in trial.rungs
        ],
        "seconds": trial.seconds,
        "values": dict(trial.values),
    }


def _read(row: Mapping[str, Any]) -> ReplayTrial:
    rungs = tuple(
        ReplayRung(r["rung"], r["seconds"], r["settled"], r["values"]) for r in row["rungs"]
    )
    return ReplayTrial(
        id=row["id"],
        name=row["name"],
        compression=row["compression"],
        point=row["point"],
        rungs=rungs,
        seconds=row["seconds"],
        values=row["values"],
    )
