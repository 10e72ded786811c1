"""Sweep folders: names stay in the storage, one driver at a time, old workers are fenced off."""

from __future__ import annotations

import errno
import fcntl
import threading
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from rc_core.errors import StaleAttemptError, StorageError
from rc_core.record import TrialRecord
from sweeps.api import Sweep
from sweeps.ending import keep_ending
from sweeps.folder import SweepFolder
from sweeps.storages import storage_root
from tests.sweeps._made_sweep import make_sweep


def test_unnamed_sweeps_are_numbered(tmp_path: Path) -> None:
    names = [SweepFolder.create(tmp_path, None, "quickstart").name for _ in range(3)]
    assert names == ["quickstart-1", "quickstart-2", "quickstart-3"]


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".hidden", "artifacts", "a b", ".."])
def test_a_name_stays_in_the_storage(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match="must consist of letters"):
        SweepFolder.create(tmp_path, name, "x")
    assert not any(tmp_path.iterdir())


def test_a_taken_name_says_how_to_go_on(tmp_path: Path) -> None:
    folder = SweepFolder.create(tmp_path, "mine", "x")
    folder.write_config({"model": "tiny:bert"})
    told = rf"--name, .*rc-sweep resume mine --storage {tmp_path}$"
    with pytest.raises(StorageError, match=told):
        SweepFolder.create(tmp_path, "mine", "x")
    watch = rf"rc-sweep status mine --watch --storage {tmp_path}"
    with folder.driving(), pytest.raises(StorageError, match=f"is running; watch it: {watch}, or"):
        SweepFolder.create(tmp_path, "mine", "x")
    second = pytest.raises(StorageError, match=f"another process.*{watch}$")
    with folder.driving(), second, folder.driving():
        pass


def test_a_sweep_is_found_by_name_or_path_and_misspelling_is_helped(tmp_path: Path) -> None:
    folder = SweepFolder.create(tmp_path, "mine", "x")
    folder.write_config({"model": "tiny:bert", "space": {"loss.alpha": {"choice": [0.1]}}})
    assert SweepFolder.find("mine", tmp_path).path == folder.path
    assert SweepFolder.find(str(folder.path), Path("/nowhere")).path == folder.path
    assert folder.read_config()["space"] == {"loss.alpha": {"choice": [0.1]}}
    with pytest.raises(StorageError, match="did you mean 'mine'"):
        SweepFolder.find("mien", tmp_path)


def test_a_configuration_that_is_cut_short_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SweepFolder.create(tmp_path, "mine", "x")
    folder.write_config({"model": "tiny:bert"})

    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr("rc_core.atomic.os.fsync", Mock(side_effect=KeyboardInterrupt))
        folder.write_config({"model": "tiny:roberta"})
    assert folder.read_config() == {"model": "tiny:bert"}
    folder.write_config({"model": "tiny:roberta"})
    assert folder.read_config() == {"model": "tiny:roberta"}


def test_one_driver_at_a_time_and_attempts_count(tmp_path: Path) -> None:
    folder = SweepFolder.create(tmp_path, "mine", "x")
    assert folder.attempt() == 0 and not folder.is_running()
    with folder.driving() as first:
        assert first == 1 and folder.is_running()
        with pytest.raises(StorageError, match="another process"), folder.driving():
            pass
    assert not folder.is_running()
    with folder.driving() as second:
        assert second == 2


def test_who_may_only_read_sees_whether_a_sweep_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SweepFolder.create(tmp_path, "mine", "x")
    really = Path.open

    # Who runs the tests may write everything.
    def only_read(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if set(mode) - set("rbt"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return really(path, mode, *rest, **options)

    with folder.driving(), monkeypatch.context() as viewer:
        viewer.setattr(Path, "open", only_read)
        assert folder.is_running()
    with monkeypatch.context() as viewer, (folder.path / ".lock").open("rb") as another:
        viewer.setattr(Path, "open", only_read)
        assert not folder.is_running()
        fcntl.flock(another, fcntl.LOCK_SH)
        assert not folder.is_running(), "whoever looks at the same time is no driver"


def test_whoever_looks_whether_a_sweep_runs_keeps_no_driver_away(tmp_path: Path) -> None:
    folder = SweepFolder.create(tmp_path, "mine", "x")
    with folder.driving():
        pass
    with (folder.path / ".lock").open("rb") as watching:
        fcntl.flock(watching, fcntl.LOCK_SH)
        threading.Timer(0.05, fcntl.flock, (watching, fcntl.LOCK_UN)).start()
        with folder.driving() as attempt:
            assert attempt == 2


@pytest.mark.parametrize("file", [".lock", "attempt.json"])
def test_a_folder_that_cannot_be_written_is_the_users_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    folder = SweepFolder.create(tmp_path, "mine", "x")
    # Who runs the tests may write everything.
    if file == ".lock":
        (folder.path / file).mkdir()
    else:
        denied = Mock(side_effect=PermissionError(errno.EACCES, "Permission denied"))
        monkeypatch.setattr("sweeps.folder.write_json", denied)
    with pytest.raises(StorageError, match=r"writable.*user who launched"), folder.driving():
        pass


@pytest.mark.parametrize("command", ["latency", "test"])
def test_what_cannot_be_kept_is_not_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    sweep = Sweep(make_sweep(tmp_path, "made", trials=2, track=False))
    keep_ending(sweep.path, 1, "search.trials (2)")
    computed = Mock()
    monkeypatch.setattr("sweeps.deploy.latency.model_facts", lambda _: Mock(max_positions=512))
    monkeypatch.setattr("sweeps.deploy.latency.Workspace", computed)
    monkeypatch.setattr("sweeps.verification.sealed._measuring", computed)
    # Who runs the tests may write everything.
    denied = Mock(side_effect=PermissionError(errno.EACCES, "Permission denied"))
    monkeypatch.setattr("sweeps.folder.tempfile.TemporaryFile", denied)
    with pytest.raises(StorageError, match=r"writable.*Permission denied.*run it as the user"):
        getattr(sweep, command)()
    assert not computed.called


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SweepFolder.create(tmp_path, "mine", "x")
    refuses = Mock(side_effect=OSError(errno.ENOLCK, "No locks available"))
    monkeypatch.setattr("sweeps.remote.files.fcntl.flock", refuses)
    told = pytest.raises(StorageError, match=r"flock.*No locks available; copy the storage")
    with told, folder.driving():
        pass


def test_a_worker_of_an_earlier_attempt_cannot_commit(tmp_path: Path) -> None:
    folder = SweepFolder.create(tmp_path, "mine", "x")
    with folder.driving() as attempt:
        record = TrialRecord(
            id="t0001", status="running", config={}, fingerprint="x", started=0.0, attempt=attempt
        )
        folder.trial("t0001").commit(record)
    with folder.driving(), pytest.raises(StaleAttemptError):
        folder.trial("t0001").commit(record)


def test_the_storage_comes_from_the_option_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RC_STORAGE", str(tmp_path / "env"))
    assert storage_root(tmp_path / "given") == tmp_path / "given"
    assert storage_root(None) == tmp_path / "env"
    monkeypatch.delenv("RC_STORAGE")
    assert storage_root(None).name == "rc_storage"
