"""`rc-sweep remove`: what goes, what stays, and that a kill leaves a whole sweep or none."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from rc_core.artifacts import ArtifactKey, ArtifactStore
from rc_core.errors import InputError, StorageError
from sweeps import removal
from sweeps.api import Sweep
from sweeps.cli import app
from sweeps.folder import SweepFolder
from sweeps.remote import lease
from sweeps.reporting.write import write_report
from sweeps.storages import storage_root
from tests._s3 import S3Server
from tests.sweeps._made_sweep import make_sweep
from tests.sweeps.reporting._made import confirm_made, made_sweep, open_made, write_record


def remove(sweep: str, storage: Path | str, *options: str, keys: str | None = None) -> str:
    arguments = ["remove", sweep, "--storage", str(storage), *options]
    done = CliRunner().invoke(app, arguments, input=keys)
    if isinstance(done.exception, InputError):
        raise done.exception
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return f"{done.output}exit {done.exit_code}"


def names(storage: Path) -> set[str]:
    return {path.name for path in storage.iterdir()}


def keys_there(s3: S3Server, name: str) -> list[str]:
    # Keys that end in a slash are pyarrow's marks of empty folders.
    return [key for key in s3.listing() if key.startswith(f"{name}/") and not key.endswith("/")]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Return a confirmed and tested sweep beside another one."""
    found = made_sweep(tmp_path, trials=4)
    confirm_made(found, rows=1)
    open_made(found)
    made_sweep(tmp_path, trials=2, name="other")
    return found


def test_a_sweep_goes_with_its_confirmation_and_nothing_else(sweep: Sweep, tmp_path: Path) -> None:
    shown = remove("made", tmp_path, "--yes")
    assert "removed made and made.confirm: " in shown and shown.endswith("exit 0")
    assert names(tmp_path) == {"other"}
    again = made_sweep(tmp_path, trials=2)
    assert again.confirmation is None, "its name is free, and no confirmation waits for it"
    assert remove(str(again.path), tmp_path / "other", "--yes").endswith("exit 0"), "by its path"
    assert names(tmp_path) == {"other"}


def test_a_confirmation_alone_can_go(sweep: Sweep, tmp_path: Path) -> None:
    assert "removed made.confirm: " in remove("made.confirm", tmp_path, "--yes")
    assert names(tmp_path) == {"made", "other"} and sweep.confirmation is None


def test_the_report_of_a_sweep_forgets_the_confirmation_that_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It named the model that the removed seeds had chosen, and their means, for good."""
    found = made_sweep(tmp_path, trials=4)
    confirm_made(found, rows=1)
    page = write_report(found)
    assert "means of 3 new seeds" in page.read_text()
    told: list[str] = []
    monkeypatch.setattr(
        "sweeps.tracking.afterwards.tell_unconfirmed", lambda each: told.append(each.name)
    )
    assert remove("made.confirm", tmp_path, "--yes").endswith("exit 0")
    assert "means of 3 new seeds" not in page.read_text() and told == ["made"]
    confirm_made(found, rows=1)
    remove("made", tmp_path, "--yes")
    assert names(tmp_path) == set() and told == ["made"], "both went: there is no one to tell"


def test_it_asks_on_a_terminal_and_elsewhere_wants_to_be_told(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no terminal to ask on; add --yes") as told:
        remove("made", tmp_path)
    assert told.value.exit_code == 2
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("sweeps.cli.storage.sys", terminal)
    shown = remove("made", tmp_path, keys="n\n")
    assert f"{sweep.path}: done, 4 finished trials of 4" in shown
    assert "its sealed test was opened" in shown and "made.confirm: " in shown
    assert shown.endswith("exit 1") and names(tmp_path) == {"made", "made.confirm", "other"}
    assert remove("made", tmp_path, keys="y\n").endswith("exit 0")
    assert names(tmp_path) == {"other"}


@pytest.mark.parametrize("running", ["made", "made.confirm"])
def test_what_runs_is_not_removed(sweep: Sweep, tmp_path: Path, running: str) -> None:
    told = pytest.raises(StorageError, match=f"'{running}' must have ended .* is running")
    with SweepFolder(tmp_path / running).driving(), told:
        remove("made", tmp_path, "--yes")
    assert names(tmp_path) == {"made", "made.confirm", "other"}


def test_a_users_own_folder_is_not_removed(tmp_path: Path) -> None:
    mine = tmp_path / "project"
    mine.mkdir()
    (mine / "sweep.yaml").write_text("model: tiny:bert\n")
    with pytest.raises(StorageError, match=r"must be a sweep's folder .* name a sweep"):
        remove(str(mine), tmp_path, "--yes")
    with pytest.raises(StorageError, match="no sweep 'nothing'"):
        remove("nothing", tmp_path, "--yes")
    assert (mine / "sweep.yaml").is_file()


def test_one_that_cannot_be_read_can_go(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=2)
    (sweep.path / "trials" / "t0001" / "record.json").write_text("{")
    shown = remove("made", tmp_path, "--yes")
    assert "that only it used with: rc-sweep artifacts prune --storage" in shown
    assert names(tmp_path) == set()


def test_it_says_which_artifacts_are_free_now_and_how(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    kinds = {}
    for kind in ("teacher", "level"):
        key = ArtifactKey(kind, 1, {})
        kinds[kind] = store.build(key, lambda path: (path / "data").write_text("x"))
    for name, used in (("one", ("teacher", "level")), ("two", ("teacher",))):
        found = made_sweep(tmp_path, trials=1, name=name)
        artifacts = {kind: kinds[kind].key.key for kind in used}
        record = found.records[0].model_copy(update={"artifacts": artifacts})
        write_record(found.folder, record)
    shown = remove("one", tmp_path, "--yes")
    command = f"rc-sweep artifacts prune --storage {tmp_path}"
    assert "no sweep uses 1 shared artifact (" in shown
    assert f"free the space with: {command}" in shown
    assert kinds["level"].path.is_dir(), "what sweeps share is not its to remove"
    done = CliRunner().invoke(app, [*command.split()[1:], "--yes"])
    assert "1 artifact removed" in done.output and kinds["teacher"].path.is_dir()
    assert "shared" not in remove("other", _with(tmp_path, "other"), "--yes")


def _with(storage: Path, name: str) -> Path:
    made_sweep(storage, trials=1, name=name)
    return storage


class Killed(BaseException):
    """Ends a step as a kill would."""


@pytest.mark.parametrize("at", ["rename", "rmtree"])
def test_a_kill_leaves_a_whole_sweep_or_none(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    move = removal._move

    def killed(*arguments: Any, **_: Any) -> None:
        if at == "rename":
            move(*arguments)
        raise Killed

    with monkeypatch.context() as kill:
        kill.setattr("sweeps.removal._move" if at == "rename" else "shutil.rmtree", killed)
        with pytest.raises(Killed):
            CliRunner().invoke(app, ["remove", "made.confirm", "--storage", str(tmp_path), "--yes"])
    assert sweep.confirmation is None
    rows = json.loads(
        CliRunner().invoke(app, ["sweeps", "--storage", str(tmp_path), "--json"]).stdout
    )
    assert [row["sweep"] for row in rows] == ["made", "other"]
    (left,) = [name for name in names(tmp_path) if name.startswith(".")]
    assert left.startswith(".made.confirm.") and left.endswith(".removed")
    assert "what an earlier, interrupted removal" in remove("made.confirm", tmp_path, "--yes")
    assert names(tmp_path) == {"made", "other"}


def test_what_an_earlier_removal_left_goes_with_one_of_that_name(
    sweep: Sweep, tmp_path: Path
) -> None:
    for name in ("other", "other.two"):
        left = tmp_path / f".{name}.{'0' * 32}.removed"
        left.mkdir()
        (left / "sweep.yaml").write_text("")
    assert remove("other", tmp_path, "--yes").endswith("exit 0")
    assert names(tmp_path) == {"made", "made.confirm", f".other.two.{'0' * 32}.removed"}


@pytest.mark.slow
def test_its_runs_in_the_storages_mlflow_are_marked_as_deleted(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    for name in ("one", "two"):
        make_sweep(tmp_path, name, trials=3)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")

    def alive() -> dict[str, int]:
        found = client.search_runs(["1"])
        ids = [run.data.tags["rc.sweep_id"].partition("-")[0] for run in found]
        return {name: ids.count(name) for name in sorted(set(ids))}

    assert alive() == {"one": 4, "two": 4}
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    assert "MLflow" not in remove("one", tmp_path, "--yes"), "they are the copy's too"
    assert alive() == {"one": 4, "two": 4}
    shown = remove("copy", tmp_path, "--yes")
    assert "4 runs in MLflow are marked as deleted" in shown
    assert alive() == {"two": 4}
    models = client.search_logged_models(["1"])
    assert {model.tags["rc.sweep_id"].partition("-")[0] for model in models} == {"two"}


def test_what_stays_on_a_tracking_server_is_told(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=1, tracking={"uri": "http://127.0.0.1:9"})
    (sweep.path / "sweep_id").write_text("made-1-abc\n")
    shown = remove("made", tmp_path, "--yes")
    assert "its runs on http://127.0.0.1:9 stay: experiment rc-sweep" in shown
    assert "tags.`rc.sweep_id` = 'made-1-abc'" in shown


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Return a confirmed sweep in a bucket, beside another one and somebody's own folder."""
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)
    root = storage_root(s3.storage)
    found = made_sweep(root, trials=3)
    confirm_made(found, rows=1)
    model = found.path / "trials" / "t0001" / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"x")
    assert found.confirmation is not None and found.folder.mirror is not None
    for folder in (found.folder, found.confirmation.folder):
        folder.share()
    made_sweep(root, trials=2, name="other").folder.share()
    found.folder.mirror.objects.write("data/train.parquet", b"x")
    return found


def test_in_a_bucket_its_objects_go_and_this_machines_copy(
    s3: S3Server, bucket: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RC_STATE", str(tmp_path / "elsewhere"))
    other = SweepFolder.find("made", storage_root(s3.storage))
    monkeypatch.setenv("RC_STATE", str(tmp_path / "state"))
    s3.log.clear()
    assert "removed made and made.confirm" in remove("made", s3.storage, "--yes")
    assert keys_there(s3, "made") == [] and keys_there(s3, "made.confirm") == []
    assert len(keys_there(s3, "other")) > 2 and keys_there(s3, "data")
    deleted = [each for each in s3.log if each.startswith("DELETE some/where/made/")]
    assert deleted[0].endswith("made/sweep.yaml"), "nobody takes the rest for a sweep"
    root = storage_root(s3.storage)
    assert {path.parent.name for path in root.glob("*/sweep.yaml")} == {"other"}
    # A machine that has brought it before can tell, and would bring all of it back.
    monkeypatch.setenv("RC_STATE", str(tmp_path / "elsewhere"))
    shown = CliRunner().invoke(app, ["sweeps", "--storage", s3.storage]).output
    assert "on this machine only" in shown
    SweepFolder.find("made", storage_root(s3.storage))
    assert "files of made" in other.unshared()
    assert remove("made", s3.storage, "--yes").endswith("exit 0")
    assert not other.path.exists() and keys_there(s3, "made") == []


def test_a_service_that_fails_at_first_leaves_the_sweep_whole(s3: S3Server, bucket: Sweep) -> None:
    before = keys_there(s3, "made")
    s3.fails = lambda request: request.startswith("PUT") and request.endswith("removed.json")
    with pytest.raises(StorageError):
        remove("made", s3.storage, "--yes")
    s3.fails = lambda request: False
    assert keys_there(s3, "made") == before
    assert len(Sweep.load("made", storage=s3.storage).records) == 3


def test_one_that_fails_half_way_is_asked_again_and_nobody_elses_folder_goes(
    s3: S3Server, bucket: Sweep
) -> None:
    # So are many objects removed at once; a single one is a DELETE.
    s3.fails = lambda request: request.startswith("POST")
    for name in ("other", "made"):
        with pytest.raises(StorageError):
            remove(name, s3.storage, "--yes")
    s3.fails = lambda request: False
    for name in ("other", "made.confirm"):
        assert f"{name}/sweep.yaml" not in s3.listing() and keys_there(s3, name)
        status = CliRunner().invoke(app, ["status", name, "--storage", s3.storage])
        assert isinstance(status.exception, StorageError), "nothing takes it for a sweep"
    assert Sweep.load("made", storage=s3.storage).confirmation is None
    assert "what an earlier, interrupted removal" in remove("other", s3.storage, "--yes")
    assert "removed made: " in remove("made", s3.storage, "--yes")
    for name in ("other", "made", "made.confirm"):
        assert keys_there(s3, name) == []
    with pytest.raises(StorageError, match="no sweep 'data'"):
        remove("data", s3.storage, "--yes")
    assert keys_there(s3, "data") == ["data/train.parquet"]
    left = [path.name for path in bucket.folder.storage.iterdir() if path.is_dir()]
    assert set(left) <= {"artifacts"}


def test_one_that_another_machine_runs_is_not_removed(s3: S3Server, bucket: Sweep) -> None:
    held = {"mirror": "another", "host": "far", "pid": 1, "attempt": 1, "heard": time.time()}
    assert bucket.folder.mirror is not None
    bucket.folder.mirror.objects.write("made/lease.json", json.dumps(held).encode())
    with pytest.raises(StorageError, match="'made' must have ended to be removed"):
        remove("made", s3.storage, "--yes")
    assert len(keys_there(s3, "made")) > 3 and bucket.path.is_dir()
