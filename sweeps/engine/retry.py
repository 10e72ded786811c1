"""`resume --retry-failed`: trials that failed are open again, and what was known of them is kept.

A trial may have failed for a reason that is gone (memory, a full disk, a lost mount); one that
diverged diverges again.
"""

from __future__ import annotations

import shutil

from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.engine.budget import Budget, Usage, front_of, in_order
from sweeps.folder import REFERENCE_ID, SweepFolder


def open_again(sweep: SweepConfig, folder: SweepFolder, attempt: int, usage: Usage) -> str:
    """Open failed trials again, unless the sweep's budget is used up; return a line for people.

    Args:
        sweep: with its budget.
        folder: of that sweep, whose lock this driver holds.
        attempt: this driver's.
        usage: of the sweep.
    """
    front = front_of(sweep.settings)
    for record in in_order(folder.records()):
        # As it will be once they are open.
        if record.status != "failed":
            front.add(record)
    reached = Budget(sweep.settings.budget, usage, front).reached()
    if reached is not None:
        return f"what failed before is not run again: {reached} is reached"
    again = reopen_failed(folder, attempt)
    return f"failed before, run again: {', '.join(again)}" if again else ""


def reopen_failed(folder: SweepFolder, attempt: int) -> list[str]:
    """Turn failed records into unfinished ones; return their ids.

    The failed record stays beside the new one, as `trials/<id>/failed-<n>.json`. The trial starts
    from its first step: what a failed run left of a checkpoint is not trusted.

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
        # As it is: a trial that diverged has values that JSON only knows as null.
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
