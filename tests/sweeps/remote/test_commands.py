"""What a user is told of a storage at a URI: what is missing there, how to send it, where it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sweeps import cli
from sweeps.api import Sweep
from sweeps.cli import entry
from sweeps.remote.files import is_locked
from sweeps.storages import storage_root
from tests._s3 import S3Server
from tests.sweeps._made_sweep import make_sweep


def call(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, list(arguments))
    return done.exit_code, done.output or str(done.exception)


def test_what_is_left_to_upload_fails_the_launch_and_sync_sends_it(
    s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_sweep(storage_root(s3.storage), "one", trials=3, track=False)
    with pytest.raises(typer.Exit) as ended:
        entry._finish(Sweep(folder), False)
    told = capsys.readouterr()
    assert ended.value.exit_code == 1 and "upload the rest with: rc-sweep sync one" in told.err
    assert f"kept at: {s3.storage}/one" in told.out
    code, out = call("sync", "one", "--storage", s3.storage)
    assert code == 0 and f"and {s3.storage} are in sync" in out
    assert "one/trials/t0002/record.json" in s3.listing()
    entry._finish(Sweep(folder), False)


def test_sync_with_models_brings_every_model_and_prediction_to_a_new_machine(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_sweep(storage_root(s3.storage), "one", trials=3, track=False)
    content = {}
    for trial in ("t0000", "t0001", "t0002"):
        place = folder.trial(trial)
        predictions = place.predictions("id_dev", "shortcut_nli")
        predictions.parent.mkdir()
        for path in (place.model / "model.safetensors", predictions):
            path.write_bytes(f"{trial} {path.name}".encode())
            content[str(path.relative_to(folder.path))] = path.read_bytes()
    folder.share()
    monkeypatch.setenv("RC_STATE", str(tmp_path / "elsewhere"))

    def brought() -> dict[str, bytes]:
        found = (tmp_path / "elsewhere").glob("*/one/trials/*/*/*")
        return {"/".join(path.parts[-4:]): path.read_bytes() for path in found}

    code, out = call("sync", "one", "--storage", s3.storage)
    assert code == 0 and brought() == {}, out
    code, out = call("sync", "one", "--models", "--storage", s3.storage)
    assert code == 0 and f"and {s3.storage} are in sync" in out, out
    assert brought() == content and len(content) == 6


def test_what_a_command_writes_is_for_every_machine(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sweep(storage_root(s3.storage), "one", trials=3, track=False).share()
    monkeypatch.setenv("RC_STATE", str(tmp_path / "elsewhere"))
    code, out = call("report", "one", "--storage", s3.storage)
    assert code == 0, out
    assert "one/report.html" in s3.listing()


def test_sync_beside_a_driver_does_not_say_that_all_is_there(s3: S3Server) -> None:
    folder = make_sweep(storage_root(s3.storage), "one", trials=3, track=False)
    with folder.driving():
        code, out = call("sync", "one", "--storage", s3.storage)
    assert code == 0 and "not at" in out and "its driver will upload" in out, out
    assert "in step" not in out and s3.listing() == []
    code, out = call("sync", "one", "--storage", s3.storage)
    assert code == 0 and "one and " in out and "are in sync" in out, out


def test_a_machine_without_a_network_can_look_by_path(s3: S3Server) -> None:
    folder = make_sweep(storage_root(s3.storage), "one", trials=3, track=False)
    folder.share()
    s3.fails = lambda request: True
    code, out = call("status", "one", "--storage", s3.storage)
    assert code != 0 and str(folder.path) in out
    code, out = call("status", str(folder.path))
    assert code == 0 and "planned" in out


def test_a_driver_on_this_machine_is_watched_without_a_request(s3: S3Server) -> None:
    folder = make_sweep(storage_root(s3.storage), "one", trials=3, track=False)
    folder.share()
    with folder.driving():
        assert is_locked(folder.path)
        s3.log.clear()
        assert call("status", "one", "--storage", s3.storage)[0] == 0
    assert s3.log == []
