"""Data that lies elsewhere: what a resume with `task.data_dir` writes into a sweep."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from rc_core.checkpoint import rungs_before, save_checkpoint
from rc_core.config import seedless
from rc_core.errors import ConfigError, DataError, InputError, StorageError
from rc_core.record import RungRecord, TrialFolder, TrialRecord
from rc_core.training import FitPoint
from rc_core.workspace import Workspace
from sweeps.config import SweepConfig
from sweeps.ending import ending_of, keep_ending
from sweeps.engine import runner
from sweeps.engine.data_check import check_same_data
from sweeps.engine.relocating import asking_where, is_only_relocated, is_relocated, relocate, settle
from sweeps.engine.resuming import changed, make_ready
from sweeps.folder import SweepFolder
from sweeps.remote.lease import take
from sweeps.storages import storage_root
from tests._s3 import S3Server

POINTS = [{"compression.sparsity": 0.3}, {"compression.sparsity": 0.6}]
CHANGE = ["task.data_dir=/new"]


def values(**more: Any) -> dict[str, Any]:
    return {
        "model": "tiny:bert",
        "task": {"name": "mnli", "data_dir": "/old"},
        "compression": {"name": "magnitude"},
        "space": {"compression.sparsity": {"uniform": [0.1, 0.9]}},
        "search": {"name": "random", "trials": 3},
        **more,
    }


def written(folder: SweepFolder, config: SweepConfig) -> SweepFolder:
    folder.write_config(config.as_dict())
    for number, point in enumerate(POINTS, start=1):
        trial = config.trial(point)
        record = TrialRecord(
            id=f"t{number:04d}",
            status="finished" if number == 1 else "running",
            config=trial.as_dict(),
            fingerprint=trial.fingerprint(),
            attempt=number,
            started=time.time(),
            metrics={"id_dev/accuracy": 0.5 + number / 10},
        )
        folder.trial(record.id).commit(record)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return written(SweepFolder.create(tmp_path, "made", "x"), SweepConfig(values()))


def test_trials_keep_everything_but_the_location(folder: SweepFolder) -> None:
    before = folder.records()
    relocate(folder, after := changed(folder, CHANGE), take_over=False)
    assert folder.read_config()["task"]["data_dir"] == "/new"
    for old, new, point in zip(before, folder.records(), POINTS, strict=True):
        assert new.config["task"]["data_dir"] == "/new"
        assert new.fingerprint == after.trial(point).fingerprint() != old.fingerprint
        update = {"config": old.config, "fingerprint": old.fingerprint}
        assert new.model_copy(update=update) == old


def test_without_another_location_no_record_is_written(folder: SweepFolder) -> None:
    files = sorted(folder.path.rglob("record.json"))
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in files]
    settle(folder, changed(folder, []))
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in files] == before


def test_a_task_without_a_location_is_left_alone(tmp_path: Path) -> None:
    config = SweepConfig(values(task={"name": "shortcut_nli", "train_size": 100}))
    generated = written(SweepFolder.create(tmp_path, "generated", "x"), config)
    before = generated.records()
    settle(generated, changed(generated, []))
    assert generated.records() == before
    with pytest.raises(ConfigError, match=r"task\.data_dir: unknown key"):
        changed(generated, CHANGE)


def new_seeds(folder: SweepFolder) -> SweepFolder:
    config = values(confirm={"sweep": "made", "also": [], "whole": False}, design="fixed")
    config |= {"space": {}, "search": {"name": "race", "points": POINTS}}
    made = SweepFolder(folder.path.with_name("made.confirm"))
    made.trials.mkdir(parents=True)
    return written(made, SweepConfig(config))


def test_the_new_seeds_follow_and_stay_as_ended_as_they_were(folder: SweepFolder) -> None:
    confirmation = new_seeds(folder)
    with confirmation.driving() as attempt:
        keep_ending(confirmation.path, attempt, "the race")
    relocate(folder, changed(folder, CHANGE), take_over=False)
    assert confirmation.read_config()["task"]["data_dir"] == "/new"
    assert {r.config["task"]["data_dir"] for r in confirmation.records()} == {"/new"}
    assert ending_of(confirmation.path) == "the race"
    assert not confirmation.is_running()


def test_new_seeds_that_are_being_trained_are_not_touched(folder: SweepFolder) -> None:
    confirmation = new_seeds(folder)
    files = [
        p for each in (folder, confirmation) for p in each.path.rglob("*.[jy]*") if p.is_file()
    ]
    before = {path: path.read_text() for path in files if path.name != "attempt.json"}
    with confirmation.driving(), pytest.raises(StorageError, match="is being run by another"):
        relocate(folder, changed(folder, CHANGE), take_over=False)
    assert len(before) == 6 and before == {path: path.read_text() for path in before}


def test_a_confirmation_has_no_location_of_its_own(folder: SweepFolder) -> None:
    with pytest.raises(ConfigError, match=r"follows its sweep's: rc-sweep resume made --set task"):
        changed(new_seeds(folder), CHANGE)


def test_rows_of_two_locations_are_one_configuration() -> None:
    old, new = (
        SweepConfig(values(task={"name": "mnli", "data_dir": place})).trial(POINTS[0]).as_dict()
        for place in ("/old", "/new")
    )
    assert seedless(old) == seedless(new)
    other = SweepConfig(values(task={"name": "mnli", "data_dir": "/old", "limit": 500}))
    assert seedless(other.trial(POINTS[0]).as_dict()) != seedless(old)


def test_a_location_that_is_asked_for_must_hold_the_data(folder: SweepFolder) -> None:
    """Without the change it may be gone: perhaps nothing that is left to do reads it."""
    assert is_relocated(CHANGE) and is_relocated([" task.data_dir = /x"])
    assert not is_relocated(["search.trials=9", "task.limit=3"])
    assert is_only_relocated(CHANGE) and not is_only_relocated([*CHANGE, "search.trials=9"])
    check_same_data(changed(folder, []), folder.records())
    with pytest.raises(DataError, match="/new/mnli"):
        check_same_data(changed(folder, CHANGE), folder.records(), moved=True)


def test_an_error_about_the_data_says_how_to_name_another_location(folder: SweepFolder) -> None:
    for each in (folder, new_seeds(folder)):
        with pytest.raises(DataError) as refused, asking_where(each, each.read_config()):
            raise DataError("/old/mnli/train.csv: no such file")
        first, second = refused.value.problems
        assert first.message.endswith("no such file") and second.where == "task.data_dir"
        assert second.message.startswith("is /old; if the same data lies elsewhere now: rc-sweep ")
        assert "resume made --set task.data_dir=FOLDER" in second.message
    made, mnli = {"task": {"name": "shortcut_nli"}}, folder.read_config()
    for values_, error in ((made, "too few"), (mnli, "/absolute/train.csv: no such file")):
        with pytest.raises(DataError) as refused, asking_where(folder, values_):
            raise DataError(error)
        assert len(refused.value.problems) == 1


def test_in_a_bucket_the_records_change_and_the_models_stay(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine that says where the data is now has none of the models."""
    made = written(SweepFolder.create(storage_root(s3.storage), "one", "x"), SweepConfig(values()))
    for name in ("model/model.safetensors", "predictions/id_dev.x.parquet"):
        (made.trial("t0001").path / name).parent.mkdir()
        (made.trial("t0001").path / name).write_bytes(b"w" * 3_000)
    made.share()
    before = s3.listing()
    monkeypatch.setenv("RC_STATE", str(tmp_path / "there"))
    there = SweepFolder.find("one", storage_root(s3.storage))
    make_ready(there, take_over=True)
    relocate(there, changed(there, CHANGE), take_over=True)
    assert not (there.trials / "t0001" / "model").exists()
    assert set(before) <= set(s3.listing()), "nothing that was there is gone"
    monkeypatch.setenv("RC_STATE", str(tmp_path / "third"))
    third = SweepFolder.find("one", storage_root(s3.storage))
    third.refresh()
    assert {r.config["task"]["data_dir"] for r in third.records()} == {"/new"}
    assert (third.trial("t0001").model / "model.safetensors").read_bytes() == b"w" * 3_000


def test_another_machine_that_runs_the_new_seeds_is_not_overtaken(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = written(SweepFolder.create(storage_root(s3.storage), "made", "x"), SweepConfig(values()))
    confirmation = new_seeds(made)
    made.share()
    confirmation.share()
    monkeypatch.setenv("RC_STATE", str(tmp_path / "there"))
    there = SweepFolder.find("made", storage_root(s3.storage))
    make_ready(there, take_over=False)
    assert confirmation.mirror is not None
    take(confirmation.mirror, confirmation.path, confirmation.attempt() + 1, over=False)
    before = there.records(), there.read_config()
    with pytest.raises(StorageError, match=r"made\.confirm"):
        relocate(there, changed(there, CHANGE), take_over=False)
    assert (there.records(), there.read_config()) == before


def test_an_interrupted_trial_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    old, new = (
        SweepConfig(values(task={"name": "mnli", "data_dir": place})).trial(POINTS[0])
        for place in ("/old", "/new")
    )
    rung = RungRecord(step=5, progress=0.5, seconds=1.0, metrics={})
    record = TrialRecord(
        id="t", status="running", config=new.as_dict(), fingerprint="", started=0.0, rungs=(rung,)
    )
    folder, model = TrialFolder(tmp_path / "t"), torch.nn.Linear(2, 2)
    point = FitPoint(1, 5, 0.5, 1.0, 1.0, 10, dict)
    save_checkpoint(folder, old, "teacher", model, point, {})
    assert rungs_before(folder, new, record) == (rung,)
    other = SweepConfig(values(task={"name": "mnli", "data_dir": "/new", "limit": 500}))
    assert rungs_before(folder, other.trial(POINTS[0]), record) is None


def generated(folder: Path, **options: Any) -> tuple[SweepConfig, list[TrialRecord]]:
    """Return a sweep of generated pairs, and a record with the digests of its data."""
    task = {"name": "shortcut_nli", "train_size": 100, "dev_size": 60, "test_size": 60, **options}
    config = SweepConfig(values(task=task))
    trial = config.trial(POINTS[0])
    facts = Workspace(folder, device="cpu").data(trial)
    record = TrialRecord(
        id="t0001", status="finished", config=trial.as_dict(), fingerprint="", started=0.0,
        data=facts.facts([]),
    )  # fmt: skip
    return config, [record]


def test_the_sealed_test_must_be_that_of_the_launch_too(tmp_path: Path) -> None:
    """Its files may be optional: without one of them another test would be opened."""
    config, (record,) = generated(tmp_path)
    check_same_data(config, [record], moved=True)
    sealed = record.data["sealed"]
    assert set(sealed) == {"id.shortcut_nli", "ood.overlap"}
    other = {"id.shortcut_nli": "another", "ood.other": sealed["ood.overlap"]}
    changed_record = record.model_copy(update={"data": record.data | {"sealed": other}})
    check_same_data(config, [changed_record])
    with pytest.raises(DataError) as refused:
        check_same_data(config, [changed_record], moved=True)
    told = str(refused.value)
    assert "sealed test, ood.other: must hold the samples of the launch, but is missing" in told
    assert "sealed test, ood.overlap: " in told and "was not there" in told
    assert "sealed test, id.shortcut_nli: " in told and "has changed" in told
    without = {key: value for key, value in record.data.items() if key != "sealed"}
    check_same_data(config, [record.model_copy(update={"data": without})], moved=True)


@pytest.mark.parametrize("retry", [False, True])
def test_a_sweep_that_has_ended_is_told_where_its_data_lies_without_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retry: bool
) -> None:
    """Unless there is something else to do: more trials, or failed ones again."""
    for place in ("old", "new"):
        (tmp_path / place).mkdir()
        for name in ("train", "other"):
            rows = [f"{name} {i},{'ab'[i % 2]}" for i in range(120)]
            (tmp_path / place / f"{name}.csv").write_text("\n".join(["text,label", *rows]))
    task = {
        "name": "files", "data_dir": str(tmp_path / "old"), "text": "text", "label": "label",
        "labels": ["a", "b"], "roles": {"train": "train.csv", "ood_dev": {"other": "other.csv"}},
    }  # fmt: skip
    config = SweepConfig(values(task=task, search={"name": "random", "trials": 2}))
    folder = written(SweepFolder.create(tmp_path / "storage", "ended", "x"), config)
    last = folder.records()[1]
    folder.trial(last.id).commit(last.sealed("failed", "by hand"))
    started = Mock(side_effect=InputError("Ray was started"))
    monkeypatch.setattr(runner, "connected", started)

    def resume(*more: str) -> None:
        change = [f"task.data_dir={tmp_path / 'new'}", *more]
        runner.resume(folder.path, overrides=change, retry_failed=retry)

    with pytest.raises(InputError, match="Ray was") if retry else nullcontext():
        resume()
    assert {r.config["task"]["data_dir"] for r in folder.records()} == {str(tmp_path / "new")}
    assert [record.status for record in folder.records()] == ["finished", "failed"]
    with pytest.raises(InputError, match="Ray was started"):
        resume("search.trials=3")
