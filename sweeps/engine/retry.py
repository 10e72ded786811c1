"""`resume --retry-failed`: failed trials are opened again, and their old records kept.

The cause of a failure may be gone (memory, a full disk, a lost mount); a trial that diverged will
diverge again.
"""

from __future__ import annotations

import shutil

from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.engine.budget import Budget, Usage, front_of, in_order
from sweeps.folder import REFERENCE_ID, SweepFolder


def open_again(sweep: SweepConfig, folder: SweepFolder, attempt: int, usage: Usage) -> str:
    """Open failed trials again, unless the sweep's budget is used up; return a line to print.

    Args:
        sweep: with its budget.
        folder: that sweep's; this driver holds its lock.
        attempt: this driver's.
        usage: the sweep's.
    """
    front = front_of(sweep.settings)
    for record in in_order(folder.records()):
        # The front without the trials to be opened.
        if record.status != "failed":
            front.add(record)
    reached = Budget(sweep.settings.budget, usage, front).reached()
    if reached is not None:
        return f"failed trials are not run again, as the limit {reached} is reached"
    again = reopen_failed(folder, attempt)
    return f"running failed trials again: {', '.join(again)}" if again else ""


def reopen_failed(folder: SweepFolder, attempt: int) -> list[str]:
    """Turn failed records into unfinished ones; return their ids.

    The failed record stays beside the new one, as `trials/<id>/failed-<n>.json`. The trial starts
    from its first step: a checkpoint of a failed run is not trusted.

    Args:
        folder: of a sweep whose lock this driver holds.
        attempt: this driver's.
    """
    reopened = []
    for record in folder.records():
        if record.status != "failed" or record.id == REFERENCE_ID:
            continue
        trial = folder.trial(record.id)
        number = len(list(trial.path.glob("failed-*.json"))) + 1
        # Copied as a file: a diverged trial has values that JSON stores as null.
        shutil.copyfile(trial.record_file, trial.path / f"failed-{number}.json")
        trial.forget_checkpoint()
        trial.commit(
            TrialRecord(
                id=record.id,
                status="running",
                name=record.name,
                config=record.config,
                fingerprint=record.fingerprint,
                attempt=attempt,
                started=record.started,
                # Until it begins: see `Assignments.close`.
                error=record.error,
            )
        )
        reopened.append(record.id)
    return reopened
