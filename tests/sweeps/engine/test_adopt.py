"""Trials made elsewhere: the ids that they get."""

from __future__ import annotations

from pathlib import Path

from rc_core.record import TrialFolder, TrialRecord
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig
from sweeps.engine.adopt import adopt_trials
from sweeps.engine.assignments import Assignments
from sweeps.folder import SweepFolder
from sweeps.search import random
from sweeps.sweep import Sweep
from tests.sweeps.test_config import RAW

POINTS = [
    {"compression.name": "student", "compression.num_layers": n, "loss.name": "distil"}
    for n in (1, 2, 3)
]


def made_elsewhere(sweep: SweepConfig, folder: Path) -> Path:
    """Leave one finished trial of the sweep's space in a folder."""
    config = sweep.trial(POINTS[2])
    TrialFolder(folder / "trials" / "t0001").commit(
        TrialRecord(
            id="t0001",
            status="finished",
            config=config.as_dict(),
            fingerprint=config.fingerprint(),
            started=0.0,
        )
    )
    return folder


def test_an_adopted_trial_gets_no_id_that_another_has_or_will_have(tmp_path: Path) -> None:
    sweep = SweepConfig(merge(RAW, {"search": {"trials": 20, "points": POINTS[:2]}}))
    source = made_elsewhere(sweep, tmp_path / "out")
    folder = SweepFolder.create(tmp_path, "mine", "x")
    folder.write_config(sweep.as_dict())
    assert len(sweep.first_trials()) == 4
    adopted = adopt_trials(Sweep(folder), source)
    assert adopted.trials == [("t0001", "t0005")], "the first points have not run yet"

    other = SweepFolder.create(tmp_path, "handed", "x")
    other.write_config(sweep.as_dict())
    assignments = Assignments(sweep, other, random.proposals(sweep, other.study), 1)
    handed = [given.trial_id for _ in range(6) if (given := assignments.next()) is not None]
    assert handed[-1] == "t0006", "handed out by a driver that was killed before any record"
    assert adopt_trials(Sweep(other), source).trials == [("t0001", "t0007")]
