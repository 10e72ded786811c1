"""A trial's folder as its worker finds it: beside the driver's folder, or on a node without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rc_core.errors import StaleAttemptError, StorageError
from rc_core.record import Status, TrialRecord
from sweeps.folder import SweepFolder, artifacts_at, trial_at
from sweeps.remote import worker
from sweeps.remote.mirror import Mirror
from sweeps.remote.worker import AwayTrial, NotSharedError, leave_token
from sweeps.storages import storage_root
from tests._s3 import S3Server


def record(status: Status, attempt: int = 1) -> TrialRecord:
    return TrialRecord(
        id="t0001", status=status, config={}, fingerprint="x", started=0.0, attempt=attempt
    )


def driven(s3: S3Server) -> SweepFolder:
    """Return a sweep as its driver leaves it at its start."""
    folder = SweepFolder.create(storage_root(s3.storage), "one", "x")
    folder.write_config({"model": "tiny:bert"})
    (folder.path / "attempt.json").write_text('{"attempt": 1, "pid": 1}')
    leave_token(folder.path)
    folder.share()
    return folder


def test_in_a_plain_folder_nothing_is_asked_of_anyone(tmp_path: Path) -> None:
    folder = SweepFolder.create(tmp_path / "a#b", "one", "x")
    found = trial_at(folder.address, "t0001")
    assert found.path == folder.trials / "t0001" and not isinstance(found, AwayTrial)
    assert artifacts_at(folder.artifacts_address) == (folder.artifacts, None)


def test_beside_the_driver_its_own_folder_is_used(s3: S3Server) -> None:
    folder = driven(s3)
    with folder.driving():
        s3.log.clear()
        found = trial_at(folder.address, "t0001")
        found.commit(record("finished", attempt=2))
    assert found.path == folder.trials / "t0001" and s3.log == [], "its driver uploads"


def test_elsewhere_what_is_committed_is_uploaded_and_the_driver_brings_it(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = driven(s3)
    address = folder.address
    monkeypatch.setenv("RC_STATE", str(tmp_path / "node"))
    away = trial_at(address, "t0001")
    assert away.path.is_relative_to(tmp_path / "node")
    away.model.mkdir(parents=True)
    (away.model / "model.safetensors").write_bytes(b"w")
    away.commit(record("running"))
    assert "one/trials/t0001/model/model.safetensors" not in s3.listing()
    away.commit(record("finished"))
    assert s3.puts[-2:] == ["one/trials/t0001/files.json", "one/trials/t0001/record.json"]
    folder.alone = False
    with folder.driving():
        newest = folder.newest("t0001")
    assert newest is not None and newest.status == "finished"
    root, backing = artifacts_at(folder.artifacts_address)
    assert root.is_relative_to(tmp_path / "node") and backing is not None


def test_what_the_driver_brought_is_not_sent_back_over_what_came_since(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = driven(s3)
    address = folder.address
    monkeypatch.setenv("RC_STATE", str(tmp_path / "node"))
    away = trial_at(address, "t0001")
    away.commit(record("running"))
    folder.alone = False
    with folder.driving():
        assert folder.mirror is not None
        newest = folder.newest("t0001")
        assert newest is not None and newest.status == "running"
        # Before the driver's uploads, which look every few seconds, have seen what it brought.
        away.commit(record("finished"))
        folder.mirror.share(folder.name, views=False, trials=["t0001"])
        newest = folder.newest("t0001", ended=True)
    assert newest is not None and newest.status == "finished"


def test_elsewhere_a_superseded_attempt_is_refused_and_a_lost_result_is_an_error(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_PAUSE", 0.0)
    monkeypatch.setattr(worker, "_TRIES", 2)
    folder = driven(s3)
    monkeypatch.setenv("RC_STATE", str(tmp_path / "node"))
    away = trial_at(folder.address, "t0001")
    s3.fails = lambda request: request.startswith("PUT")
    away.commit(record("running"))
    with pytest.raises(NotSharedError):
        away.commit(record("finished"))
    s3.fails = lambda request: False
    (folder.path / "attempt.json").write_text('{"attempt": 2, "pid": 10}')
    folder.share()
    with pytest.raises(StaleAttemptError):
        away.commit(record("finished"))


def test_an_ended_trial_waits_for_a_service_that_is_down_for_minutes() -> None:
    numbers = range(worker._TRIES - 1)
    pauses = [min(worker._PAUSE * 2**n, worker._LONGEST_PAUSE) for n in numbers]
    assert sum(pauses) > 300 and max(pauses) <= 60


def test_a_record_that_does_not_come_at_once_is_asked_for_again(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.folder._PAUSES", (0.0, 0.0))
    folder = driven(s3)
    address = folder.address
    folder.alone = False
    folder.trial("t0001").commit(record("running"))
    monkeypatch.setenv("RC_STATE", str(tmp_path / "node"))
    trial_at(address, "t0001").commit(record("finished"))
    # Arrow itself asks more than once.
    monkeypatch.setattr(
        Mirror, "bring_record", failing_once(Mirror.bring_record, StorageError("busy"))
    )
    with folder.driving():
        newest = folder.newest("t0001", ended=True)
        assert newest is not None and newest.status == "finished"
        s3.fails = lambda request: request.startswith("GET")
        with pytest.raises(StorageError):
            folder.newest("t0001", ended=True)


def failing_once(function: Callable[..., None], error: Exception) -> Callable[..., None]:
    """Return a function that raises when it is first called."""
    left = [error]

    def called(*arguments: Any) -> None:
        if left:
            raise left.pop()
        function(*arguments)

    return called
