"""How far a sweep is, read from its files; it may be running elsewhere."""

from __future__ import annotations

import time
from typing import Any

from sweeps.commands import command
from sweeps.ending import (
    confirmed_by,
    ending_of,
    has_ended,
    is_race,
    planned_text,
    raising,
    state_counts,
)
from sweeps.failure import came_to_nothing, failure_of, resume_options
from sweeps.prepared import preparation_of
from sweeps.selection.mean_rows import front
from sweeps.selection.opened_data import has_test
from sweeps.stored_sweep import StoredSweep


def status_document(sweep: StoredSweep) -> dict[str, Any]:
    """Return the sweep's state as plain JSON values."""
    running = sweep.running
    records = sweep.records
    return {
        "sweep": sweep.name,
        "path": str(sweep.path),
        "driver": "running" if running else "not running",
        "attempts": sweep.folder.attempt(),
        "failure": failure_of(sweep.path),
        "ending": ending_of(sweep.path),
        "trials": state_counts((record.status for record in records), running=running),
        "planned": sweep.config["search"]["trials"],
        "planned_at_most": is_race(sweep.config["search"]["name"]),
        "ended": has_ended(sweep.folder, sweep.config, records),
        # A confirmation has no front of its own, only the sweep that it confirms.
        "front": [] if sweep.searched is not sweep else [record.id for record in front(sweep)],
        "artifacts_later": dict(preparation_of(sweep.path).later) if running else {},
        "confirmed": sweep.confirmation is not None,
        "tested": sweep.folder.test.is_file(),
        "unfinished": [
            {
                "id": record.id,
                "name": record.name,
                "progress": record.rungs[-1].progress if record.rungs else 0.0,
                "seconds": round(time.time() - record.started, 1) if running else None,
            }
            for record in records
            if record.status == "running"
        ],
        "failed": [
            {"id": record.id, "name": record.name, "error": record.error}
            for record in records
            if record.status == "failed"
        ],
    }


def status_text(sweep: StoredSweep) -> str:
    """Return the sweep's state as text, with what to do next."""
    document = status_document(sweep)
    counts = ", ".join(f"{n} {state}" for state, n in document["trials"].items()) or "no trial yet"
    lines = [
        f"sweep {document['sweep']} ({document['path']})",
        f"driver {document['driver']}, attempt {document['attempts']}",
        f"trials: {counts}; {planned_text(sweep.config)}",
    ]
    if sweep.searched is sweep:
        roles = "; test roles sealed" if has_test(sweep.records) else "; no test roles"
        if document["tested"]:
            roles = "; test roles opened"
        elif not sweep.records:
            # Without records it is not known whether there are test roles.
            roles = ""
        lines.append(f"front: {', '.join(document['front']) or '-'}{roles}")
    else:
        shown = command(sweep.searched.folder, "pareto")
        lines.append(f"holds the new seeds of {sweep.searched.name}; what they show: {shown}")
    if document["confirmed"]:
        lines.append(
            "this front is from before the confirmation; what new seeds leave of it: "
            + command(sweep.folder, "pareto")
        )
    for trial in document["unfinished"]:
        lines.append(f"  {trial['id']} {trial['name']}: {100 * trial['progress']:.0f} % done")
    if document["artifacts_later"]:
        later = ", ".join(f"{n} x {title}" for title, n in document["artifacts_later"].items())
        lines.append(
            f"not built before the first trial: {later}; the first trial that needs one builds it "
            "before its own training"
        )
    for trial in document["failed"]:
        lines.append(f"  {trial['id']} {trial['name']}: failed: {trial['error']}")
    if document["failure"] is not None:
        lines.append(f"attempt {document['attempts']} failed: {document['failure']}")
    options = resume_options(sweep.path)
    if came_to_nothing(sweep.path):
        again = command(sweep.folder, "resume", *options)
        lines.append(_correct(sweep) + f"to try it again unchanged: {again}")
    elif document["ended"]:
        if document["planned_at_most"]:
            shown = command(confirmed_by(sweep.folder, sweep.config), "pareto")
            lines.append(f"it has ended; nothing is left to resume; see: {shown}")
        elif sum(document["trials"].values()) < document["planned"]:
            lines.append(_ended(sweep, document["ending"]))
    elif document["driver"] != "running":
        go_on = command(sweep.folder, "resume")
        more = f"fewer than planned; go on with: {go_on}"
        if document["ending"] is not None:
            more = _ended(sweep, document["ending"])
        elif document["planned_at_most"]:
            more = f"it was cut short; go on with: {go_on}"
        if document["failure"] is not None:
            more = f"once that is fixed, go on with: {go_on}"
        if options:
            go_on = command(sweep.folder, "resume", *options)
            more = f"launch a corrected one under another name; to go on with this one: {go_on}"
        lines.append(interrupted_line(sweep) or more)
    return "\n".join(lines)


def _ended(sweep: StoredSweep, ending: str) -> str:
    """Say what ended a sweep with fewer trials than planned, and how to raise the limit."""
    lift = raising(ending)
    more = f"; to go on with more: {command(sweep.folder, 'resume', *lift)}" if lift else ""
    return f"fewer than planned: ended by {ending}{more}"


def _correct(sweep: StoredSweep) -> str:
    """Say how to correct a sweep without any trial; see `sweeps.names.check_free`."""
    if sweep.folder.mirror is not None:
        return "correct its YAML and launch it under another name; "
    return f"correct its YAML and launch it again, --name {sweep.name}; "


def interrupted(sweep: StoredSweep) -> list[str]:
    """Return the ids of trials left unfinished by a driver that is gone."""
    if sweep.running:
        return []
    return [record.id for record in sweep.records if record.status == "running"]


def interrupted_line(sweep: StoredSweep) -> str | None:
    """Say which trials were interrupted, and what to do about it; None if none was."""
    ids = interrupted(sweep)
    if not ids:
        return None
    return f"{', '.join(ids)}: interrupted; go on with: {command(sweep.folder, 'resume')}"
