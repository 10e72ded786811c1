"""What a driver does around its search, without Ray."""

from __future__ import annotations

import errno
import json
import threading
import time
from contextlib import ExitStack, nullcontext
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from rich.console import Console

from rc_core.atomic import write_json
from rc_core.errors import InputError, StorageError, TrialError
from rc_core.record import TrialRecord
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig
from sweeps.ending import ending_of, raising
from sweeps.engine import attempt, runner
from sweeps.engine.assignments import Assignments
from sweeps.engine.launch_check import as_config
from sweeps.engine.ray_bridge import OutOfMemory, memory_told
from sweeps.folder import SweepFolder
from sweeps.stored_sweep import StoredSweep
from sweeps.views.progress import Progress
from sweeps.views.status import status_document, status_text
from tests.sweeps.test_config import RAW


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Return what stands for tracking."""
    found = Mock(sweep_ended=Mock(return_value=0))
    monkeypatch.setattr(attempt, "SweepEvents", Mock(return_value=found))
    return found


def dense(sweep: SweepConfig) -> TrialRecord:
    reference = sweep.reference()
    return TrialRecord(
        id="t0000",
        status="finished",
        config=reference.as_dict(),
        fingerprint=reference.fingerprint(),
        started=0.0,
    )


@pytest.mark.usefixtures("events")
def test_preparation_counts_as_a_drivers_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: object, **__: object) -> None:
        time.sleep(0.3)
        raise TrialError("health gate")

    monkeypatch.setattr(runner, "prepare", slow)
    folder = SweepFolder.create(tmp_path, "one", "x")
    for number in (1, 2):
        with pytest.raises(TrialError):
            runner._drive(SweepConfig(RAW), folder, Progress(), time.monotonic())
        hours = json.loads(folder.usage.read_text())["hours"]
        assert hours * 3600 >= 0.3 * number


def test_a_full_disk_hides_neither_why_a_sweep_ended_nor_keeps_tracking_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def ungated(*_: object, **__: object) -> None:
        for written in ("sweeps.tracking.events", "sweeps.engine.budget"):
            monkeypatch.setattr(f"{written}.write_json", full)
        monkeypatch.setattr("sweeps.tracking.outbox.Outbox.append", full)
        raise TrialError("health gate: it did not learn")

    monkeypatch.setattr("sweeps.tracking.events.MlflowWriter", Mock(return_value=Mock(empty=False)))
    monkeypatch.setattr(runner, "prepare", ungated)
    folder = SweepFolder.create(tmp_path, "one", "x")
    said = StringIO()
    progress = Progress(Console(file=said, width=200))
    with pytest.raises(TrialError, match="health gate"):
        runner._drive(SweepConfig(RAW), folder, progress, time.monotonic())
    assert "No space left on device" in said.getvalue()
    assert not [each for each in threading.enumerate() if each.name == "tracking"]


def test_a_driver_whose_tracking_cannot_be_begun_still_counts_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "SweepEvents", Mock(side_effect=StorageError("no record")))
    folder = SweepFolder.create(tmp_path, "one", "x")
    with pytest.raises(StorageError, match="no record"):
        runner._drive(SweepConfig(RAW), folder, Progress(), time.monotonic())
    assert folder.usage.is_file()


def test_a_trial_whose_record_never_came_is_said_and_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Mock
) -> None:
    sweep = SweepConfig(RAW)

    def search(sweep: SweepConfig, folder: SweepFolder, assignments: Assignments, *_: Any) -> None:
        given = assignments.next()
        assert given is not None
        assert assignments.close(given.trial_id, ended=True) is None

    monkeypatch.setattr("sweeps.folder._PAUSES", ())
    monkeypatch.setattr(runner, "prepare", lambda *_, **__: dense(sweep))
    monkeypatch.setattr(runner, "_search", search)
    folder = SweepFolder.create(tmp_path, "one", "x")
    with pytest.raises(attempt.SweepIncomplete, match=r"t0001 .*rc-sweep resume one") as caught:
        runner._drive(sweep, folder, Progress(), time.monotonic())
    assert caught.value.exit_code == 1
    assert events.sweep_ended.call_args.args[0] == "interrupted"
    assert not (folder.trials / "t0001").exists(), "nothing is said to have become of it"


def test_workers_get_their_drivers_attempt_whatever_the_file_says_by_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = Mock()
    monkeypatch.setattr(runner, "AssignmentSearcher", searcher)
    monkeypatch.setattr(runner.tune, "Tuner", Mock())  # type: ignore[attr-defined]
    folder = SweepFolder.create(tmp_path, "one", "x")
    # Another machine has taken it over: its number fences this driver's workers off.
    write_json(folder.path / "attempt.json", {"attempt": 8, "pid": 0, "lost": True})
    assignments = Mock(close_late=Mock(return_value=[]))
    runner._search(SweepConfig(RAW), folder, assignments, None, Mock(), Mock(), 7, "-2")
    assert searcher.call_args.args[1]["attempt"] == 7


@pytest.mark.parametrize("lost", [None, "another machine (b, process 7)"])
def test_an_interrupted_driver_says_how_to_go_on_and_one_taken_over_who_has_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Mock, lost: str | None
) -> None:
    """Both end by SIGINT; the second one is sent by the uploads, see test_lease.py."""
    sweep = SweepConfig(RAW)
    uploads = Mock(lost=lost)

    def search(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "prepare", lambda *_, **__: dense(sweep))
    monkeypatch.setattr(runner, "uploading", lambda *_, **__: nullcontext(uploads))
    monkeypatch.setattr(runner, "_search", search)
    folder = SweepFolder.create(tmp_path, "one", "x")
    with pytest.raises(attempt.SweepInterrupted) as caught:
        runner._drive(sweep, folder, Progress(), time.monotonic())
    told, resume = str(caught.value), "rc-sweep resume one"
    if lost is None:
        assert told.startswith("interrupted; nothing is lost") and resume in told
    else:
        assert told.startswith(f"{lost} has taken over sweep one") and resume not in told
    assert caught.value.exit_code == 1
    assert events.sweep_ended.call_args.args[0] == "interrupted"
    uploads.gather.assert_called_once_with()


def test_overrides_hold_for_plain_values_and_are_refused_for_a_configuration() -> None:
    raw = merge(RAW, {"search": {"trials": 9}})
    found = as_config(raw, ["search.trials=3", "space.loss.name={choice: [rmc]}"])
    assert found.settings.search.trials == 3
    assert found.as_dict()["space"]["loss.name"] == {"choice": ["rmc"]}
    assert raw == merge(RAW, {"search": {"trials": 9}}), "the caller's values are left alone"
    sweep = SweepConfig(RAW)
    assert as_config(sweep, []) is sweep
    for given in (raw, sweep, Path("any.yaml")):
        with pytest.raises(InputError, match=r"overrides must be a list, like \['search.trials=2"):
            runner.launch(given, overrides="search.trials=3")
    with pytest.raises(InputError, match=r"search\.trials=3.*put them into the values"):
        runner.launch(sweep, overrides=["search.trials=3"])


@pytest.mark.usefixtures("events")
def test_once_the_budget_is_used_up_a_resume_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = SweepConfig(merge(RAW, {"budget": {"hours": 1}}))
    folder = SweepFolder.create(tmp_path, "one", "x")
    folder.write_config(sweep.as_dict())
    write_json(folder.usage, {"hours": 1.5, "accelerator_hours": 0.0})
    for number, status in enumerate(("finished", "running", "failed")):
        config = sweep.reference() if number == 0 else sweep.trial(sweep.first_points()[number - 1])
        record = TrialRecord(
            id=f"t{number:04d}",
            status=status,  # type: ignore[arg-type]
            config=config.as_dict(),
            fingerprint=config.fingerprint(),
            started=0.0,
            error="disk full" if status == "failed" else None,
        )
        folder.trial(record.id).commit(record)
    reference = folder.records()[0]
    monkeypatch.setattr(runner, "prepare", lambda *_, **__: reference)
    monkeypatch.setattr(runner, "_search", lambda *_: None)
    monkeypatch.setattr(attempt, "try_report", lambda *_: None)
    said = StringIO()
    progress = Progress(Console(file=said, width=200))
    runner._drive(sweep, folder, progress, time.monotonic(), retry_failed=True)
    assert [record.status for record in folder.records()] == ["finished", "stopped", "failed"]
    assert "failed trials are not run again, as the limit budget.hours (1 h)" in said.getvalue()
    assert ending_of(folder.path) == "budget.hours (1 h)"
    shown = status_text(StoredSweep(folder))
    assert "fewer than planned: ended by budget.hours (1 h); to go on with more: " in shown
    assert "rc-sweep resume one --set budget.hours=N" in shown
    with folder.driving():
        assert ending_of(folder.path) is None
    assert status_document(StoredSweep(folder))["ending"] is None, "of an attempt before the newest"
    assert "fewer than planned; go on with: rc-sweep resume one" in status_text(StoredSweep(folder))


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("budget.hours (1 h)", ("--set", "budget.hours=N")),
        ("budget.stall (the last 2 trials added 0 %)", ("--set", "budget.stall=null")),
        ("search.trials (7)", ("--set", "search.trials=N")),
        ("the search, which has proposed every point", ()),
    ],
)
def test_what_lifts_a_limit_is_an_option_of_resume(reason: str, options: tuple[str, ...]) -> None:
    assert raising(reason) == options


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Return what stands for starting Ray; whatever else a launch needs of it is left out."""
    found = Mock(side_effect=lambda *_: nullcontext())
    monkeypatch.setattr(runner, "connected", found)
    for name in ("check_room", "check_storage"):
        monkeypatch.setattr(runner, name, Mock())
    monkeypatch.setattr(runner, "alive_nodes", lambda: [1])
    monkeypatch.setattr(runner, "resolve", lambda sweep, *_: sweep)
    return found


@pytest.mark.parametrize(
    ("storage", "told"),
    [(".", "choose another --name"), ("file", "file is a file; name a writable folder: --storage")],
)
def test_what_can_be_known_before_is_told_before_ray_is_started(
    tmp_path: Path, no_ray: Mock, storage: str, told: str
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=told):
        runner.launch(SweepConfig(RAW), name="one", storage=tmp_path / storage)
    no_ray.assert_not_called()


@pytest.mark.usefixtures("events", "no_ray")
def test_a_sweep_whose_preparation_failed_is_replaced_by_a_corrected_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(*_: Any, **__: Any) -> None:
        raise TrialError("the dense reference diverged: lower teacher.learning_rate")

    monkeypatch.setattr(runner, "prepare", diverged)
    with pytest.raises(TrialError, match="diverged"):
        runner.launch(SweepConfig(RAW), name="one", storage=tmp_path)
    shown = StoredSweep.load("one", storage=tmp_path)
    assert status_document(shown)["failure"].startswith("the dense reference diverged")
    assert "attempt 1 failed: the dense reference diverged" in status_text(shown)
    assert "launch it again" in status_text(shown)

    sweep = SweepConfig(merge(RAW, {"teacher": {"learning_rate": 1e-5}}))
    monkeypatch.setattr(runner, "prepare", lambda *_, **__: dense(sweep))
    monkeypatch.setattr(runner, "_run_trials", lambda _, folder, *__: commit(folder, sweep))
    monkeypatch.setattr(attempt, "try_report", lambda *_: None)
    said = StringIO()
    progress = Progress(Console(file=said, width=200))
    done = runner.launch(sweep, name="one", storage=tmp_path, progress=progress)
    assert "replacing one, which failed before its first trial" in said.getvalue()
    assert done.config["teacher"] == {"learning_rate": 1e-5}
    assert done.folder.attempt() == 1 and status_document(done)["failure"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    with pytest.raises(StorageError, match="choose another --name"):
        runner.launch(sweep, name="one", storage=tmp_path)


def commit(folder: SweepFolder, sweep: SweepConfig) -> None:
    record = dense(sweep).model_copy(update={"attempt": folder.attempt()})
    folder.trial("t0000").commit(record)


@pytest.mark.usefixtures("events", "no_ray")
def test_a_sweep_with_a_trial_is_not_replaced_and_what_failed_is_shown_until_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = SweepConfig(RAW)

    def ungated(_: Any, folder: SweepFolder, *__: Any, **___: Any) -> None:
        commit(folder, sweep)
        raise TrialError("health gate: it did not learn")

    monkeypatch.setattr(runner, "prepare", ungated)
    for number in (1, 2):
        with pytest.raises(TrialError, match="health gate"):
            if number == 1:
                runner.launch(sweep, name="one", storage=tmp_path)
            else:
                runner.resume("one", storage=tmp_path)
        shown = status_text(StoredSweep.load("one", storage=tmp_path))
        assert f"attempt {number} failed: health gate" in shown and "resume one" in shown
    with pytest.raises(StorageError, match="choose another --name, or remove it first"):
        runner.launch(sweep, name="one", storage=tmp_path)
    folder = SweepFolder.find("one", tmp_path)
    with folder.driving():
        assert "health gate" not in status_text(StoredSweep(folder))
    assert "health gate" not in status_text(StoredSweep(folder)), "of an attempt before the newest"


@pytest.mark.usefixtures("events", "no_ray")
def test_a_resume_changes_the_sweep_only_once_nothing_can_refuse_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = SweepConfig(RAW)
    folder = SweepFolder.create(tmp_path, "one", "x")
    folder.write_config(sweep.as_dict())
    before = folder.read_config()
    overrides = ["budget.hours=3"]
    monkeypatch.setattr(runner, "resolve", Mock(side_effect=InputError("no GPU")))
    with pytest.raises(InputError, match="no GPU"):
        runner.resume("one", storage=tmp_path, overrides=overrides)
    assert folder.read_config() == before
    with ExitStack() as other:
        # It starts while this one is at its own start.
        other_starts = Mock(side_effect=lambda s, *_: other.enter_context(folder.driving()) and s)
        monkeypatch.setattr(runner, "resolve", other_starts)
        with pytest.raises(StorageError, match="is being run by another process"):
            runner.resume("one", storage=tmp_path, overrides=overrides)
    assert folder.read_config() == before
    monkeypatch.setattr(runner, "resolve", lambda sweep, *_: sweep)
    monkeypatch.setattr(runner, "prepare", lambda *_, **__: dense(sweep))
    monkeypatch.setattr(runner, "_run_trials", lambda _, folder, *__: commit(folder, sweep))
    monkeypatch.setattr(attempt, "try_report", lambda *_: None)
    runner.resume("one", storage=tmp_path, overrides=overrides)
    assert folder.read_config()["budget"]["hours"] == 3.0


@pytest.mark.parametrize("when", ["connected", "check_storage"])
def test_ctrl_c_before_the_sweep_began_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ray: Mock, when: str
) -> None:
    monkeypatch.setattr(runner, when, Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(attempt.SweepInterrupted, match="before the sweep began") as caught:
        runner.launch(SweepConfig(RAW), name="one", storage=tmp_path)
    assert caught.value.exit_code == 1 and not list(tmp_path.iterdir())
    folder = SweepFolder.create(tmp_path, "two", "x")
    folder.write_config(SweepConfig(RAW).as_dict())
    with pytest.raises(attempt.SweepInterrupted, match="rc-sweep resume two"):
        runner.resume("two", storage=tmp_path)
    assert folder.path.is_dir()
    with pytest.raises(InputError, match="overrides must be a list"):
        runner.resume("two", storage=tmp_path, overrides="search.trials=3")


def test_memory_that_ran_out_is_told_without_rays_words(tmp_path: Path) -> None:
    from ray.exceptions import OutOfMemoryError

    folder = SweepFolder.create(tmp_path, "mine", "x")
    said = r"rc-sweep resume mine .*resources\.cpu=N"
    with pytest.raises(OutOfMemory, match=said), memory_told(folder):
        # As Ray Tune's actor manager does.
        raise RuntimeError("Caught unexpected exception") from OutOfMemoryError("2 workers")
    with pytest.raises(RuntimeError, match="another"), memory_told(folder):
        raise RuntimeError("another")
