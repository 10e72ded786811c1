"""Whether and how a sweep ended, and whether there is something to resume.

<sweep>/ending.json   {"attempt", "reason"}: why its driver started no more trials
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rc_core.record import TrialRecord
from sweeps.attempt_note import AttemptNote
from sweeps.folder import SweepFolder

_NOTE = AttemptNote("ending.json", "reason", "what ended the sweep's newest attempt")
_RACE = "race"


def keep_ending(sweep: Path, attempt: int, reason: str) -> None:
    """Write what ended an attempt. Raises OSError."""
    _NOTE.keep(sweep, attempt, reason)


def ending_of(sweep: Path) -> str | None:
    """Return what ended the newest attempt, None if it is running or was cut short."""
    return _NOTE.of(sweep)


def raising(reason: str) -> tuple[str, ...]:
    """Return the options of `rc-sweep resume` that lift the limit which a reason names.

    Empty if it names none, because nothing was left to run.
    """
    key = reason.split(" ")[0]
    if "." not in key:
        return ()
    return ("--set", f"{key}={'null' if key == 'budget.stall' else 'N'}")


def is_race(search: str) -> bool:
    """Tell whether the planned trials of a sweep with this search are only an upper limit."""
    return search == _RACE


def planned_text(config: Mapping[str, Any]) -> str:
    """Return how many trials a sweep will have: `32 planned`, `up to 450`."""
    trials = config["search"]["trials"]
    return f"up to {trials}" if is_race(config["search"]["name"]) else f"{trials} planned"


def has_ended(
    folder: SweepFolder,
    config: Mapping[str, Any],
    records: Sequence[TrialRecord],
    *,
    closing: bool = False,
) -> bool:
    """Tell whether nothing is left to resume, according to the files.

    A sweep that a limit (`budget`) ended can go on once the limit is lifted, so it has not ended;
    a race has ended once its driver has finished, however few its trials are.

    Args:
        folder: the sweep's.
        config: its resolved values.
        records: all of its records.
        closing: the driver still holds the lock, but has finished.
    """
    if any(record.status == "running" for record in records):
        return False
    if not closing and folder.is_running():
        return False
    if len(records) >= config["search"]["trials"]:
        return True
    reason = ending_of(folder.path)
    return reason is not None and not raising(reason)


def was_interrupted(path: Path, config: Mapping[str, Any], records: Sequence[TrialRecord]) -> bool:
    """Tell whether a sweep without a running driver was left before its end.

    If its driver left no note (it was killed, or all trials were adopted), the counts decide.
    """
    if any(record.status == "running" for record in records):
        return True
    return len(records) < config["search"]["trials"] and ending_of(path) is None


def confirmed_by(folder: SweepFolder, config: Mapping[str, Any]) -> SweepFolder:
    """Return the sweep whose tables show the results of a sweep: itself, or the one it confirms."""
    name = (config.get("confirm") or {}).get("sweep")
    base = folder if name is None else SweepFolder(folder.path.with_name(name))
    return base if (base.path / "sweep.yaml").is_file() else folder


def shown_state(status: str, *, running: bool) -> str:
    """Return a record's status as it is shown to users.

    Args:
        status: the record's.
        running: whether a driver runs the sweep; without one, running trials were interrupted.
    """
    return "interrupted" if status == "running" and not running else status


def state_counts(statuses: Iterable[str], *, running: bool) -> dict[str, int]:
    """Return how many trials are in each state, see `shown_state`; in order of first appearance."""
    return dict(Counter(shown_state(status, running=running) for status in statuses))
