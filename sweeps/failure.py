"""Why a sweep's driver failed: kept beside the sweep for whoever looks later.

<sweep>/failure.json   {"attempt", "error"}
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from rc_core.errors import RobustCompressionError
from sweeps.attempt_note import AttemptNote
from sweeps.remote.files import attempt_in, is_locked, lock, trial_ids

# How the error of a gate begins that has stopped a sweep: what it asks for no resume can change.
HEALTH_GATE = "health gate: "
_NOTE = AttemptNote("failure.json", "error", "why the sweep's newest attempt failed")


def keep_failure(sweep: Path, attempt: int, error: Exception) -> None:
    """Write why an attempt failed. Raises OSError."""
    known = isinstance(error, RobustCompressionError)
    text = str(error) if known else f"{type(error).__name__}: {error}"
    _NOTE.keep(sweep, attempt, text)


def failure_of(sweep: Path) -> str | None:
    """Return why the newest attempt failed, None where it did not, or runs now."""
    found = _NOTE.of(sweep)
    return None if is_locked(sweep) else found


def stopped_by_gate(sweep: Path) -> bool:
    """Tell whether the newest attempt failed because the dense reference did not learn the task."""
    return (failure_of(sweep) or "").startswith(HEALTH_GATE)


def resume_options(sweep: Path) -> tuple[str, ...]:
    """Return the options with which a resume goes on after the newest attempt's failure.

    It changes neither training nor data, so a gate would stop it there again.
    """
    return ("--set", "health_gate=warn") if stopped_by_gate(sweep) else ()


def came_to_nothing(sweep: Path) -> bool:
    """Tell whether a sweep's newest attempt failed and none has a trial: nothing of it is kept.

    What was prepared lies beside the sweeps, with the artifacts.
    """
    return failure_of(sweep) is not None and not trial_ids(sweep)


def clear(sweep: Path) -> bool:
    """Remove a sweep that came to nothing, so that its name is free; tell whether it was one."""
    if not came_to_nothing(sweep):
        return False
    before = attempt_in(sweep)
    with (sweep / ".lock").open("a+") as stream:
        try:
            lock(stream)
        except BlockingIOError:
            return False
        if attempt_in(sweep) != before:
            # Somebody went on with it meanwhile.
            return False
        away = sweep.with_name(f".{sweep.name}.{uuid.uuid4().hex}.tmp")
        sweep.rename(away)
    shutil.rmtree(away, ignore_errors=True)
    return True
