"""Latencies of a sweep's models, measured after training: latency.json, a view beside records.

    {"schema_version", "conditions": {"batch", "length", "rounds", "threads", "device", "processor",
    "torch"}, "trials": {id: {"metrics", "intervals", "parameters", "when"[, "own_form"]}}}

A trial's figures are of the form that `rc-sweep export` writes, so that `--where` judges what is
deployed; `own_form` has those of the trial's own model/ where the two differ. Files of version 1
(own form, no intervals) count as not measured.

No torch here, as `rc-sweep pareto --where` uses it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rc_core.errors import StorageError
from rc_core.metrics import latency
from rc_core.record import TrialRecord
from sweeps.commands import command
from sweeps.constraints import Constraint, Interval
from sweeps.folder import SweepFolder
from sweeps.json_files import read_json

SCHEMA_VERSION = 2
# An interval with a half width above this share of its value is reported as wide.
WIDE = 0.05


def read_latency(folder: SweepFolder) -> dict[str, Any] | None:
    """Return latency.json, None if nothing was measured or the file is of version 1.

    Raises:
        StorageError: it is damaged, or of a later version.
    """
    path = folder.latency
    again = f"measure again: {command(folder, 'latency')}"
    document = read_json(path, dict, what="what rc-sweep latency wrote", advice=again)
    if document is None:
        return None
    version = document.get("schema_version")
    if version == 1:
        return None
    if version != SCHEMA_VERSION:
        raise StorageError(
            f"{path} must have schema_version {SCHEMA_VERSION}, but has {version!r}; {again}"
        )
    return document


def latencies(folder: SweepFolder) -> dict[str, dict[str, float]]:
    """Return trial -> latency metric -> value, for the trials that were measured."""
    document = read_latency(folder) or {"trials": {}}
    return {trial: dict(entry["metrics"]) for trial, entry in document["trials"].items()}


def intervals(folder: SweepFolder) -> dict[str, dict[str, Interval]]:
    """Return trial -> latency metric -> 95 % interval over rounds; NaN if these are too few."""
    document = read_latency(folder) or {"trials": {}}
    return {
        trial: {
            metric: (math.nan, math.nan) if ends is None else (ends[0], ends[1])
            for metric, ends in entry["intervals"].items()
        }
        for trial, entry in document["trials"].items()
    }


def with_latency(folder: SweepFolder, records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the records, with measured latencies among their metrics."""
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
    """Return notes for a table filtered by latency: conditions, wide intervals, missing trials.

    Empty if no constraint names a latency.
    """
    document = read_latency(folder)
    if document is None or not any(each.metric in latency.METRICS for each in wheres):
        return []
    notes = [f"Latency, as exported: {conditions_text(document['conditions'])}."]
    notes += wide_notes(document["trials"])
    finished = [record.id for record in records if record.status == "finished"]
    missing = [trial for trial in finished if trial not in document["trials"]]
    if missing:
        notes.append(
            f"{len(missing)} of {len(finished)} finished trials have no latency; measure them: "
            f"{remedy(folder)}"
        )
    return notes


def wide_notes(entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a note on imprecise ratios to the dense reference, empty if there are none."""
    wide = []
    for trial, entry in sorted(entries.items()):
        value, ends = entry["metrics"][latency.RELATIVE], entry["intervals"][latency.RELATIVE]
        if ends is None or ends[1] - ends[0] > 2 * WIDE * value:
            wide.append(trial)
    if not wide:
        return []
    shown = ", ".join(wide[:8]) + (f" and {len(wide) - 8} more" if len(wide) > 8 else "")
    return [
        f"Uncertain: the ratio to dense is not known to within {100 * WIDE:.0f} % for {shown}; "
        "measure again while nothing else runs, or with more --rounds."
    ]


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
