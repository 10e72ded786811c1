"""Why a sweep's driver gave out no more trials: kept beside the sweep for whoever looks later.

    <sweep>/ending.json   {"attempt", "reason"}

It counts while that attempt is the newest one, as in sweeps/failure.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rc_core.atomic import write_json
from sweeps.json_files import read_json
from sweeps.remote.files import attempt_in

FILE = "ending.json"


def keep_ending(sweep: Path, attempt: int, reason: str) -> None:
    """Write what ended an attempt. Raises OSError."""
    write_json(sweep / FILE, {"attempt": attempt, "reason": reason})


def ending_of(sweep: Path) -> str | None:
    """Return what ended the newest attempt, None where that one runs or did not come to its end."""
    found = read_json(
        sweep / FILE,
        _attempt_and_reason,
        what="what ended the sweep's newest attempt",
        advice="remove it: it is only shown",
    )
    return None if found is None or found[0] != attempt_in(sweep) else found[1]


def raising(reason: str) -> tuple[str, ...]:
    """Return the options of `rc-sweep resume` that lift the limit which a reason names.

    Empty where it names none: nothing was left to run.
    """
    key = reason.split(" ")[0]
    if "." not in key:
        return ()
    return ("--set", f"{key}={'null' if key == 'budget.stall' else 'N'}")


def _attempt_and_reason(raw: Any) -> tuple[int, str]:
    return int(raw["attempt"]), str(raw["reason"])
