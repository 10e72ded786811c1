"""`resume --retry-failed`: trials that failed are open again, and what was known of them is kept.

A trial may have failed for a reason that is gone (memory, a full disk, a lost mount); one that
diverged diverges again.
"""

from __future__ import annotations

import shutil

from rc_core.record import TrialRecord, write_json
from sweeps.engine.assignments import REFERENCE_ID
from sweeps.folder import SweepFolder


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
        write_json(trial.path / f"failed-{number}.json", record.model_dump(mode="json"))
        shutil.rmtree(trial.checkpoint, ignore_errors=True)
        trial.commit(
            TrialRecord(
                id=record.id,
                status="running",
                name=record.name,
                config=record.config,
                fingerprint=record.fingerprint,
                attempt=attempt,
                started=record.started,
            )
        )
        reopened.append(record.id)
    return reopened
