"""What the driver tells tracking after an earlier driver was killed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from rc_core.atomic import write_json
from rc_core.record import Status, TrialRecord
from sweeps.config import SweepConfig
from sweeps.folder import SweepFolder
from sweeps.tracking.events import SweepEvents, sweep_id
from sweeps.tracking.outbox import Outbox
from sweeps.tracking.tracked import read_sweep_id

RAW: dict[str, Any] = {
    "model": "tiny:bert",
    "compression": {"name": "student", "num_layers": 2},
    "space": {"loss.name": {"choice": ["vanilla", "distil"]}},
}


class NoDrain:
    """Delivers nothing, so that the outbox keeps every event."""

    def __init__(self, outbox: Outbox, connect: Any) -> None:
        pass

    def close(self, patience: float, most: float) -> int:
        return 0


def record_of(sweep: SweepConfig, trial_id: str, status: Status) -> TrialRecord:
    config = sweep.trial({"loss.name": "distil"})
    return TrialRecord(
        id=trial_id,
        status=status,
        config=config.as_dict(),
        fingerprint=config.fingerprint(),
        started=time.time(),
    )


def test_trials_that_ended_unseen_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.tracking.events.Drain", NoDrain)
    sweep = SweepConfig(RAW)
    folder = SweepFolder.create(tmp_path, "killed", "killed")
    folder.write_config(sweep.as_dict())
    ended: dict[str, Status] = {"t0001": "finished", "t0002": "running", "t0003": "failed"}
    for trial_id, status in ended.items():
        folder.trial(trial_id).commit(record_of(sweep, trial_id, status))
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


def test_one_that_was_told_as_failed_and_has_finished_since_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run again by a driver that was killed, or made elsewhere and adopted."""
    monkeypatch.setattr("sweeps.tracking.events.Drain", NoDrain)
    sweep = SweepConfig(RAW)
    folder = SweepFolder.create(tmp_path, "again", "again")
    record = record_of(sweep, "t0001", "running")
    for attempt, found in enumerate(
        [record.sealed("failed", "no memory"), record, record.sealed("finished")], start=1
    ):
        folder.trial("t0001").commit(found)
        for _ in range(2):
            SweepEvents(sweep, folder).sweep_started(attempt)
    events = [event for event in Outbox(folder.outbox).events() if "trial_id" in event]
    assert [event["kind"] for event in events] == ["trial_started", "trial_ended", "trial_ended"]
    assert [event["status"] for event in events[1:]] == ["failed", "finished"]


def test_a_driver_that_was_taken_over_tells_its_own_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.tracking.events.Drain", NoDrain)
    sweep = SweepConfig(RAW)
    folder = SweepFolder.create(tmp_path, "lost", "lost")
    folder.write_config(sweep.as_dict())
    events = SweepEvents(sweep, folder)
    events.sweep_started(3)
    # As `Uploads` leaves it where the lease was lost.
    write_json(folder.path / "attempt.json", {"attempt": 4, "pid": 0, "lost": True})
    events.trial_assigned("t0001", sweep.trial({"loss.name": "distil"}).as_dict())
    events.sweep_ended("interrupted", 1.0)
    told = {e["kind"]: e["attempt"] for e in Outbox(folder.outbox).events() if "attempt" in e}
    assert told == {"sweep_started": 3, "trial_started": 3, "sweep_ended": 3}


def test_a_sweeps_id_is_made_whole_and_before_any_thread_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SweepFolder.create(tmp_path, "mine", "mine")

    def cut_short(path: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(Path, "replace", cut_short)
        sweep_id(folder)
    assert read_sweep_id(folder) is None
    # As an earlier version left it.
    (folder.path / "sweep_id").touch()
    made: list[str | None] = []

    def drain(outbox: Outbox, connect: Any) -> NoDrain:
        made.append(read_sweep_id(folder))
        return NoDrain(outbox, connect)

    monkeypatch.setattr("sweeps.tracking.events.Drain", drain)
    SweepEvents(SweepConfig(RAW), folder)
    assert made[0] and made == [sweep_id(folder)]


def test_ranks_are_told_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of earlier drivers' trials too, and of failed ones that they have none."""
    monkeypatch.setattr("sweeps.tracking.events.Drain", NoDrain)
    monkeypatch.setattr("sweeps.tracking.events._RANKS_AT_ONCE", 2)
    sweep = SweepConfig(RAW)
    folder = SweepFolder.create(tmp_path, "many", "many")
    folder.write_config(sweep.as_dict())
    config = sweep.trial({"loss.name": "distil"})
    values = {"t0001": (0.9, 0.5), "t0002": (0.8, 0.4), "t0003": None, "t0004": (0.7, 0.6)}
    for trial_id, found in values.items():
        metrics = dict(zip(("id_dev/accuracy", "ood_dev/accuracy"), found or (), strict=False))
        record = TrialRecord(
            id=trial_id,
            status="running",
            config=config.as_dict(),
            fingerprint=config.fingerprint(),
            started=time.time(),
            metrics=metrics,
        )
        folder.trial(trial_id).commit(record.sealed("finished" if found else "failed"))
    SweepEvents(sweep, folder).sweep_ended("finished", 1.0)
    told = [event for event in Outbox(folder.outbox).events() if event["kind"] == "ranked"]
    assert [(e["trials"], e["front"], e["ranks"]) for e in told] == [
        (["t0001", "t0002"], ["t0001"], {"t0001": 0, "t0002": 1}),
        (["t0003", "t0004"], ["t0004"], {"t0004": 0}),
    ]


class Full:
    """Raises where it is called, as long as the disk is full."""

    def __init__(self, real: Any) -> None:
        self.full = True
        self._real = real

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.full:
            raise OSError("No space left on device")
        return self._real(*arguments, **options)


def test_what_cannot_be_written_is_said_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[float] = []

    class Closing(NoDrain):
        def close(self, patience: float, most: float) -> int:
            closed.append(most)
            return 3

    monkeypatch.setattr("sweeps.tracking.events.Drain", Closing)
    sweep = SweepConfig(RAW)
    folder = SweepFolder.create(tmp_path, "full", "full")
    events, record = SweepEvents(sweep, folder), record_of(sweep, "t0001", "running")
    append = Full(events._outbox.append)
    monkeypatch.setattr(events._outbox, "append", append)
    monkeypatch.setattr("sweeps.tracking.events.write_json", Full(None))
    events.sweep_started(1)
    events.trial_assigned("t0001", record.config)
    events.trial_assigned("t0002", {"of": "another version"})
    events.rung("t0001", {"rung/train_loss": 0.1, "steps": 3})
    events.trial_ended(record.sealed("finished"))
    assert events.sweep_ended("failed", 1.0) == 3 and len(closed) == 1
    for what in (
        "the start of the sweep",
        "the start of trial t0001",
        "the start of trial t0002",
        "a rung of trial t0001",
        "the end of trial t0001",
        "front.json",
        "the end of the sweep",
    ):
        assert f"{what} could not be written" in caplog.text
    assert "OSError: No space left on device" in caplog.text


def test_a_trial_whose_start_could_not_be_told_is_started_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow refuses the end of a trial that was never started."""
    monkeypatch.setattr("sweeps.tracking.events.Drain", NoDrain)
    sweep = SweepConfig(RAW)
    folder = SweepFolder.create(tmp_path, "full", "full")
    events, record = SweepEvents(sweep, folder), record_of(sweep, "t0001", "running")
    append = Full(events._outbox.append)
    monkeypatch.setattr(events._outbox, "append", append)
    events.trial_assigned("t0001", record.config)
    append.full = False
    events.trial_ended(record.sealed("failed"))
    told = [event["kind"] for event in Outbox(folder.outbox).events()]
    assert told == ["trial_started", "trial_ended"]


def test_a_sweep_ends_without_its_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.tracking.events.Drain", NoDrain)
    monkeypatch.setattr("sweeps.tracking.events.front_picture", Full(None))
    sweep = SweepConfig(RAW)
    folder = SweepFolder.create(tmp_path, "plain", "plain")
    folder.write_config(sweep.as_dict())
    record = record_of(sweep, "t0001", "running")
    measured = {"id_dev/accuracy": 0.9, "ood_dev/accuracy": 0.6}
    done = record.model_copy(update={"metrics": measured}).sealed("finished")
    folder.trial("t0001").commit(done)
    SweepEvents(sweep, folder).sweep_ended("finished", 1.0)
    last = list(Outbox(folder.outbox).events())[-1]
    assert (last["kind"], last["front"]) == ("sweep_ended", ["t0001"])
