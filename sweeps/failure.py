"""Why a sweep's driver failed, kept in the sweep's folder.

<sweep>/failure.json   {"attempt", "error"}
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from rc_core.errors import RobustCompressionError
from sweeps.attempt_note import AttemptNote
from sweeps.remote.files import attempt_in, is_locked, lock, trial_ids

# Prefix of a health gate's error. No resume can change what such an error asks to correct.
HEALTH_GATE = "health gate: "
_NOTE = AttemptNote("failure.json", "error", "why the sweep's newest attempt failed")


def keep_failure(sweep: Path, attempt: int, error: Exception) -> None:
    """Write why an attempt failed. Raises OSError."""
    known = isinstance(error, RobustCompressionError)
    text = str(error) if known else f"{type(error).__name__}: {error}"
    _NOTE.keep(sweep, attempt, text)


def failure_of(sweep: Path) -> str | None:
    """Return why the newest attempt failed, None if it did not, or is running now."""
    found = _NOTE.of(sweep)
    return None if is_locked(sweep) else found


def stopped_by_gate(sweep: Path) -> bool:
    """Tell whether the newest attempt failed because the dense reference did not learn the task."""
    return (failure_of(sweep) or "").startswith(HEALTH_GATE)


def resume_options(sweep: Path) -> tuple[str, ...]:
    """Return the options with which a resume gets past the newest attempt's failure.

    A resume changes neither training nor data, so a health gate would stop it again.
    """
    return ("--set", "health_gate=warn") if stopped_by_gate(sweep) else ()


def came_to_nothing(sweep: Path) -> bool:
    """Tell whether a sweep failed before its first trial, so that its folder holds no results.

    What was prepared for it is kept among the storage's artifacts.
    """
    return failure_of(sweep) is not None and not trial_ids(sweep)


def clear(sweep: Path) -> bool:
    """Remove a sweep that came to nothing, to free its name; tell whether it was removed."""
    if not came_to_nothing(sweep):
        return False
    before = attempt_in(sweep)
    with (sweep / ".lock").open("a+") as stream:
        try:
            lock(stream)
        except BlockingIOError:
            return False
        if attempt_in(sweep) != before:
            # It was resumed in the meantime.
            return False
        away = sweep.with_name(f".{sweep.name}.{uuid.uuid4().hex}.tmp")
        sweep.rename(away)
    shutil.rmtree(away, ignore_errors=True)
    return True
