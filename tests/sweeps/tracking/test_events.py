"""What the driver tells tracking after an earlier driver was killed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.folder import SweepFolder
from sweeps.tracking.events import SweepEvents
from sweeps.tracking.outbox import Outbox

RAW: dict[str, Any] = {
    "model": "tiny:bert",
    "compression": {"name": "student", "num_layers": 2},
    "space": {"loss.name": {"choice": ["vanilla", "distil"]}},
}


class NoDrain:
    """Delivers nothing, so that the outbox keeps every event."""

    def __init__(self, outbox: Outbox, connect: Any) -> None:
        pass


def test_trials_that_ended_unseen_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.tracking.events.Drain", NoDrain)
    sweep = SweepConfig(RAW)
    folder = SweepFolder.create(tmp_path, "killed", "killed")
    folder.write_config(sweep.as_dict())
    config = sweep.trial({"loss.name": "distil"})
    for trial_id, status in (("t0001", "finished"), ("t0002", "running"), ("t0003", "failed")):
        folder.trial(trial_id).commit(
            TrialRecord(
                id=trial_id,
                status=status,
                config=config.as_dict(),
                fingerprint=config.fingerprint(),
                started=time.time(),
            )
        )
    outbox = Outbox(folder.outbox)
    outbox.append("trial_started", trial_id="t0001", name="n", config={}, reference=False)
    for attempt in (1, 2):
        SweepEvents(sweep, folder).sweep_started(attempt)
    told = [(e["kind"], e["trial_id"]) for e in outbox.events() if "trial_id" in e]
    assert told == [
        ("trial_started", "t0001"),
        ("trial_ended", "t0001"),
        ("trial_started", "t0003"),
        ("trial_ended", "t0003"),
    ]
