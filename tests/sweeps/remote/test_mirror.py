"""The mirror against a real S3 API: what goes up in which order, what comes down, what fails."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from rc_core.errors import StorageError
from rc_core.record import RungRecord, Status, TrialRecord
from sweeps.engine.resuming import make_ready, take_on
from sweeps.folder import SweepFolder
from sweeps.remote.address import parse
from sweeps.remote.mirror import Mirror
from sweeps.remote.steps import Steps
from sweeps.remote.trials import begin_anew
from sweeps.storages import storage_root
from sweeps.stored_sweep import StoredSweep
from tests._s3 import S3Server

CONFIG = {
    "model": "tiny:bert",
    "objectives": {"id_dev/accuracy": "max", "ood_dev/accuracy": "max"},
    "search": {"trials": 2},
}


def make(storage: str, name: str = "one") -> SweepFolder:
    folder = SweepFolder.create(storage_root(storage), name, name)
    folder.write_config(CONFIG)
    (folder.path / "attempt.json").write_text('{"attempt": 1, "pid": 1}')
    (folder.path / "outbox.jsonl").write_text("{}\n")
    return folder


def add(folder: SweepFolder, trial: str, status: Status = "finished", attempt: int = 1) -> None:
    where = folder.trial(trial)
    if status == "finished":
        for file, size in (("model/model.safetensors", 3_000), ("model/config.json", 10)):
            (where.path / file).parent.mkdir(parents=True, exist_ok=True)
            (where.path / file).write_bytes(trial.encode() * size)
        (where.path / "predictions").mkdir(exist_ok=True)
        (where.path / "predictions" / "id_dev.x.parquet").write_bytes(b"p" * 50)
    rung = RungRecord(step=1, progress=0.5, seconds=1.0, metrics={"rung/id_dev/accuracy": 0.5})
    where.commit(
        TrialRecord(
            id=trial,
            status=status,
            config={"training": {"seed": 0}},
            fingerprint=trial,
            reference=trial == "t0000",
            attempt=attempt,
            started=time.time(),
            rungs=(rung,),
            metrics={"id_dev/accuracy": 0.9, "ood_dev/accuracy": 0.8},
        )
    )
    (where.path / "checkpoint").mkdir(exist_ok=True)
    (where.path / "checkpoint" / "optimizer.pt").write_bytes(b"o")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where another machine would keep its mirror; `move_on` goes there."""
    return tmp_path / "elsewhere"


def test_a_record_goes_up_after_its_files_and_what_is_local_stays(s3: S3Server) -> None:
    folder = make(s3.storage)
    add(folder, "t0000")
    add(folder, "t0001", "running")
    folder.share()
    puts = s3.puts
    assert puts[0] == "one/sweep.yaml"
    start = "one/trials/t0000/"
    mine = [key.removeprefix(start) for key in puts if key.startswith(start)]
    assert mine[-2:] == ["files.json", "record.json"] and len(mine) == 5
    assert s3.listing() == [
        "one/attempt.json", "one/sweep.yaml", f"{start}files.json",
        f"{start}model/config.json", f"{start}model/model.safetensors",
        f"{start}predictions/id_dev.x.parquet", f"{start}record.json",
        "one/trials/t0001/record.json",
    ]  # fmt: skip
    s3.log.clear()
    folder.share()
    assert s3.puts == [], "what is in step is not sent again"
    assert folder.unshared() == ""


def test_an_empty_machine_has_records_first_and_models_when_they_are_asked_for(
    s3: S3Server, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(s3.storage)
    add(folder, "t0000")
    add(folder, "t0001")
    folder.share()
    monkeypatch.setenv("RC_STATE", str(elsewhere))
    found = StoredSweep.load("one", storage=s3.storage)
    assert found.path.is_relative_to(elsewhere)
    assert [record.id for record in found.records] == ["t0000", "t0001"]
    assert found.folder.attempt() == 1
    trials = found.path / "trials"
    assert not list(trials.glob("*/model")) and not list(trials.glob("*/predictions"))
    s3.log.clear()
    model = found.folder.trial("t0001").model
    there = (folder.path / "trials/t0001/model/model.safetensors").read_bytes()
    assert (model / "model.safetensors").read_bytes() == there
    assert not (trials / "t0000" / "model").exists(), "only what was asked for"
    assert found.folder.trial("t0000").predictions("id_dev", "x").is_file()
    assert len(list(trials.glob("*/predictions/*.parquet"))) == 2, "all predictions at once"
    assert not found.folder.outbox.exists()


def test_an_interrupted_upload_leaves_no_record_and_goes_on(s3: S3Server) -> None:
    folder = make(s3.storage)
    add(folder, "t0000")
    s3.fails = lambda request: request.startswith("PUT") and request.endswith("config.json")
    with pytest.raises(StorageError):
        folder.share()
    assert "one/trials/t0000/record.json" not in s3.listing()
    assert "files of one" in folder.unshared()
    s3.fails = lambda request: False
    s3.log.clear()
    folder.share()
    sent = [key.removeprefix("one/trials/t0000/") for key in s3.puts]
    assert sent[-3:] == ["files.json", "record.json", "one/attempt.json"]
    assert "one/sweep.yaml" not in sent, "what arrived before is not sent again"


def test_a_server_that_fails_twice_is_asked_a_third_time(s3: S3Server) -> None:
    folder = make(s3.storage)
    add(folder, "t0000")
    failures = iter([True, True])
    s3.fails = lambda request: request.endswith("model.safetensors") and next(failures, False)
    folder.share()
    assert "one/trials/t0000/record.json" in s3.listing() and next(failures, None) is None


def test_a_damaged_model_is_refused(
    s3: S3Server, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(s3.storage)
    add(folder, "t0000")
    folder.share()
    assert folder.mirror is not None
    folder.mirror.objects.write("one/trials/t0000/model/config.json", b"0" * 50)
    monkeypatch.setenv("RC_STATE", str(elsewhere))
    found = SweepFolder.find("one", storage_root(s3.storage))
    with pytest.raises(StorageError, match="checksum"):
        found.trial("t0000").model  # noqa: B018
    assert not (found.path / "trials/t0000/model/config.json").exists()


def test_what_was_not_uploaded_is_kept_unless_another_machine_drove_on(
    s3: S3Server, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(s3.storage)
    add(folder, "t0000")
    add(folder, "t0001", "running")
    folder.share()
    add(folder, "t0001")
    again = StoredSweep.load("one", storage=s3.storage)
    assert again.records[1].status == "finished", "it only waits for its upload"
    # Another machine goes on, and runs the trial itself.
    monkeypatch.setenv("RC_STATE", str(elsewhere))
    other = SweepFolder.find("one", storage_root(s3.storage))
    (other.path / "attempt.json").write_text('{"attempt": 2, "pid": 9}')
    add(other, "t0001", "failed", attempt=2)
    other.share()
    monkeypatch.setenv("RC_STATE", str(tmp_path / "state"))
    back = StoredSweep.load("one", storage=s3.storage)
    assert back.records[1].status == "failed" and back.folder.attempt() == 2


def test_a_look_that_was_cut_short_neither_hides_nor_undoes_what_comes_later(
    s3: S3Server, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(s3.storage)
    for trial in ("t0000", "t0001", "t0002"):
        add(folder, trial, "running")
    folder.share()
    monkeypatch.setenv("RC_STATE", str(elsewhere))
    s3.fails = lambda request: request.startswith("GET") and "t0002/record" in request
    with pytest.raises(StorageError):
        StoredSweep.load("one", storage=s3.storage)
    s3.fails = lambda request: False
    came = storage_root(s3.storage) / "one" / "trials" / "t0001" / "record.json"
    assert came.is_file(), "a part of it"
    for trial in ("t0000", "t0001", "t0002"):
        add(folder, trial)
    folder.share()
    found = StoredSweep.load("one", storage=s3.storage)
    assert [record.status for record in found.records] == ["finished"] * 3
    s3.log.clear()
    found.folder.share()
    assert s3.puts == [], "who has looked has nothing to send"


def test_of_two_who_look_at_once_neither_undoes_what_comes_later(
    s3: S3Server, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(s3.storage)
    add(folder, "t0000", "running")
    folder.share()
    monkeypatch.setenv("RC_STATE", str(elsewhere))
    found = StoredSweep.load("one", storage=s3.storage)
    # One has begun to look, when another one brings what is newer.
    began = Steps(found.path)
    # Of another size: a service tells time in seconds.
    add(folder, "t0000", "failed")
    folder.share()
    found.folder.refresh()
    began.set_listing(began.listed)
    began.save()
    add(folder, "t0000")
    folder.share()
    s3.log.clear()
    found.folder.refresh()
    assert [record.status for record in StoredSweep(found.folder).records] == ["finished"]
    found.folder.share()
    assert s3.puts == []


def test_unfinished_trials_begin_anew_where_their_checkpoint_is_not(
    s3: S3Server, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(s3.storage)
    add(folder, "t0001", "running")
    folder.share()
    assert begin_anew(folder.path) == []
    monkeypatch.setenv("RC_STATE", str(elsewhere))
    other = SweepFolder.find("one", storage_root(s3.storage))
    progress = Mock()
    make_ready(other, take_over=True)
    assert other.records()[0].rungs, "a driver that may still be refused changes nothing"
    take_on(other, progress, None)
    assert other.records()[0].rungs == () and "t0001" in progress.say.call_args.args[0]


def test_names_are_those_of_every_machine(
    s3: S3Server, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(s3.storage, "mine-1").share()
    monkeypatch.setenv("RC_STATE", str(elsewhere))
    root = storage_root(s3.storage)
    with pytest.raises(StorageError, match="rc-sweep resume mine-1"):
        SweepFolder.create(root, "mine-1", "x")
    assert SweepFolder.create(root, None, "mine").name == "mine-2"
    with pytest.raises(StorageError, match=r"s3://.*did you mean 'mine-1'"):
        SweepFolder.find("mine-11", root)


def test_a_confirmation_comes_with_its_sweep(
    s3: S3Server, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "one.confirm"):
        folder = make(s3.storage, name)
        add(folder, "t0000")
        folder.share()
    monkeypatch.setenv("RC_STATE", str(elsewhere))
    for name in ("one", "one.confirm"):
        shutil.rmtree(elsewhere, ignore_errors=True)
        found = StoredSweep.load(name, storage=s3.storage)
        assert found.name == name
        for each in ("one", "one.confirm"):
            assert (found.folder.storage / each / "trials/t0000/record.json").is_file()


def test_what_a_mirror_knows_is_plain_json(s3: S3Server) -> None:
    folder = make(s3.storage)
    folder.share()
    assert set(json.loads((folder.path / ".steps.json").read_text())) == {"same", "listed"}
    marker = json.loads((folder.storage / ".remote.json").read_text())
    assert marker["bucket"] == s3.bucket and "secret" not in json.dumps(marker)


def test_a_large_file_goes_in_parts_and_comes_back(s3: S3Server, tmp_path: Path) -> None:
    folder = make(s3.storage)
    add(folder, "t0000")
    weights = folder.path / "trials/t0000/model/model.safetensors"
    weights.write_bytes(bytes(range(256)) * 100_000)
    folder.share()
    assert [request for request in s3.log if request.startswith("POST")], "in parts"
    assert folder.mirror is not None
    key = "one/trials/t0000/model/model.safetensors"
    folder.mirror.objects.download(key, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == weights.read_bytes()


def test_of_two_that_use_an_address_first_at_once_both_have_one_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RC_STATE", str(tmp_path))
    address = parse("s3://bucket/sweeps")
    look = Mirror.at.__func__  # type: ignore[attr-defined]
    first: list[Any] = []

    def at(cls: type[Mirror], root: Path) -> Mirror | None:
        found: Mirror | None = look(cls, root)
        if not first:
            # The other one makes it after this one has looked.
            first.append(True)
            first.append(Mirror.of(address))
        return found

    monkeypatch.setattr(Mirror, "at", classmethod(at))
    second = Mirror.of(address)
    assert second.identity == first[1].identity
    assert [path.name for path in second.root.iterdir()] == [".remote.json"]
