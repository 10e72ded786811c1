"""Trials made elsewhere: the ids that they get, what they replace, and when they are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from rc_core.errors import StorageError
from rc_core.record import Status, TrialFolder, TrialRecord, read_record
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig
from sweeps.ending import ending_of, keep_ending
from sweeps.engine import adopt
from sweeps.engine.adopt import adopt_trials
from sweeps.engine.assignments import Assignments
from sweeps.folder import SweepFolder
from sweeps.remote import lease
from sweeps.search import random
from sweeps.storages import storage_root
from sweeps.stored_sweep import StoredSweep
from tests._s3 import S3Server
from tests.sweeps.test_config import RAW

POINTS = [
    {"compression.name": "student", "compression.num_layers": n, "loss.name": "distil"}
    for n in (1, 2, 3)
]
SWEEP = SweepConfig(merge(RAW, {"search": {"trials": 20, "points": POINTS[:2]}}))


def record_of(trial_id: str, status: Status = "finished") -> TrialRecord:
    config = SWEEP.trial(POINTS[2])
    return TrialRecord(
        id=trial_id,
        status=status,
        config=config.as_dict(),
        fingerprint=config.fingerprint(),
        started=0.0,
    )


def made_elsewhere(folder: Path) -> Path:
    """Leave one finished trial of the sweep's space in a folder."""
    TrialFolder(folder / "trials" / "t0001").commit(record_of("t0001"))
    return folder


def test_an_adopted_trial_gets_no_id_that_another_has_or_will_have(tmp_path: Path) -> None:
    source = made_elsewhere(tmp_path / "out")
    folder = SweepFolder.create(tmp_path, "mine", "x")
    folder.write_config(SWEEP.as_dict())
    assert len(SWEEP.first_trials()) == 4
    adopted = adopt_trials(StoredSweep(folder), source)
    assert adopted.trials == [("t0001", "t0005")], "the first points have not run yet"

    other = SweepFolder.create(tmp_path, "handed", "x")
    other.write_config(SWEEP.as_dict())
    assignments = Assignments(SWEEP, other, random.proposals(SWEEP, other.study), 1)
    handed = [given.trial_id for _ in range(6) if (given := assignments.next()) is not None]
    assert handed[-1] == "t0006", "handed out by a driver that was killed before any record"
    assert adopt_trials(StoredSweep(other), source).trials == [("t0001", "t0007")]


@pytest.mark.parametrize("status", ["failed", "stopped", "running"])
def test_one_that_did_not_finish_here_is_replaced_under_its_id(
    tmp_path: Path, status: Status
) -> None:
    source = made_elsewhere(tmp_path / "out")
    folder = SweepFolder.create(tmp_path, "mine", "x")
    folder.write_config(SWEEP.as_dict())
    trial = folder.trial("t0009")
    trial.commit(record_of("t0009", status))
    left = [trial.model / "config.json", trial.predictions("id_dev", "x"), trial.checkpoint / "x"]
    for path in left:
        path.parent.mkdir()
        path.touch()
    adopted = adopt_trials(StoredSweep(folder), source)
    assert adopted.trials == [("t0001", "t0009")]
    assert adopted.bare == ["t0009"], "weights of another run are not its own"
    assert [(r.id, r.status) for r in folder.records()] == [("t0009", "finished")]
    assert not any(path.exists() for path in left)
    assert read_record(trial.path / f"{status}-1.json").status == status
    again = adopt_trials(StoredSweep(folder), source)
    assert again.trials == [] and again.completed == []


def test_a_sweep_that_another_machine_runs_takes_nothing_in(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)
    source = made_elsewhere(tmp_path / "out")
    there = SweepFolder.create(storage_root(s3.storage), "one", "x")
    there.write_config(SWEEP.as_dict())
    there.share()
    monkeypatch.setenv("RC_STATE", str(tmp_path / "elsewhere"))
    here = SweepFolder.find("one", storage_root(s3.storage))
    assert there.mirror is not None and here.path != there.path
    lease.take(there.mirror, there.path, 1, over=False)
    with pytest.raises(StorageError, match="being run by another machine"):
        adopt_trials(StoredSweep(here), source)
    # Whose workers a new attempt here would fence off.
    assert here.records() == [] and here.attempt() == 0
    lease.release(there.mirror, "one")
    assert adopt_trials(StoredSweep(here), source).trials == [("t0001", "t0005")]


def test_what_ended_a_sweep_still_holds_after_an_adoption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SweepFolder.create(tmp_path, "mine", "x")
    folder.write_config(SWEEP.as_dict())
    with folder.driving() as attempt:
        keep_ending(folder.path, attempt, "budget.hours (1 h)")
    source = made_elsewhere(tmp_path / "elsewhere")

    def killed(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(adopt, "_copy", killed)
        with pytest.raises(KeyboardInterrupt):
            adopt_trials(StoredSweep(folder), source)
    assert ending_of(folder.path) == "budget.hours (1 h)", "also of one that was cut short"
    adopt_trials(StoredSweep(folder), source)
    assert ending_of(folder.path) == "budget.hours (1 h)"
