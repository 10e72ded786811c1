"""What was measured of a sweep's models after their training: latency.json, a view beside records.

    {"schema_version", "conditions": {"batch", "length", "rounds", "threads", "device", "processor",
    "torch"}, "trials": {id: {"metrics", "quartiles", "when"}}}

No torch here: `rc-sweep pareto --where` uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rc_core.errors import StorageError
from rc_core.metrics import latency
from rc_core.record import TrialRecord
from sweeps.constraints import Constraint
from sweeps.folder import SweepFolder
from sweeps.json_files import read_json
from sweeps.views.commands import command

SCHEMA_VERSION = 1


def read_latency(folder: SweepFolder) -> dict[str, Any] | None:
    """Return latency.json, None before anything was measured. Raises StorageError."""
    path = folder.latency
    again = f"measure again: {command(folder, 'latency')}"
    document = read_json(path, dict, what="what rc-sweep latency wrote", advice=again)
    if document is None:
        return None
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StorageError(
            f"{path} must have schema_version {SCHEMA_VERSION}, but has {version!r}; {again}"
        )
    return document


def latencies(folder: SweepFolder) -> dict[str, dict[str, float]]:
    """Return trial -> latency metric -> value, of the trials that were measured."""
    document = read_latency(folder) or {"trials": {}}
    return {trial: dict(entry["metrics"]) for trial, entry in document["trials"].items()}


def with_latency(folder: SweepFolder, records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the records, with the latency of those that were measured among their metrics."""
    known = latencies(folder)
    return [
        record.model_copy(update={"metrics": {**record.metrics, **known[record.id]}})
        if record.id in known
        else record
        for record in records
    ]


def check_measured(folder: SweepFolder, wheres: Sequence[Constraint]) -> None:
    """Raise StorageError where a constraint names a latency but none was measured."""
    named = [each for each in wheres if each.metric in latency.METRICS]
    if named and not latencies(folder):
        raise StorageError(
            f"'{named[0].text}' needs latencies, but none of sweep {folder.name} was measured; "
            f"run: {command(folder, 'latency')}"
        )


def latency_notes(
    folder: SweepFolder, records: Sequence[TrialRecord], wheres: Sequence[Constraint]
) -> list[str]:
    """Return what a table chosen by latency has to say: how it was measured, who was not.

    Nothing where no constraint names a latency.
    """
    document = read_latency(folder)
    if document is None or not any(each.metric in latency.METRICS for each in wheres):
        return []
    notes = [f"Latency: {conditions_text(document['conditions'])}."]
    finished = [record.id for record in records if record.status == "finished"]
    missing = [trial for trial in finished if trial not in document["trials"]]
    if missing:
        notes.append(
            f"{len(missing)} of {len(finished)} finished trials have no latency; measure them: "
            f"{remedy(folder)}"
        )
    return notes


def remedy(folder: SweepFolder) -> str:
    """Return the command that measures every finished trial."""
    return command(folder, "latency", "--all")


def conditions_text(conditions: Mapping[str, Any]) -> str:
    """Return the conditions of a measurement in one line."""
    threads = f"{conditions['threads']} thread{'s' if conditions['threads'] > 1 else ''}"
    return (
        f"batch {conditions['batch']}, {conditions['length']} tokens, {threads}, "
        f"{conditions['rounds']} rounds, {conditions['processor']}, torch {conditions['torch']}"
    )
