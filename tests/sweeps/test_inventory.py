"""`rc-sweep sweeps`: what state each is in, also where its driver was killed, or is elsewhere."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rc_core.errors import InputError, StorageError
from sweeps.cli import app
from sweeps.ending import keep_ending
from sweeps.failure import keep_failure
from sweeps.folder import SweepFolder
from sweeps.storages import storage_root
from tests._s3 import S3Server
from tests.sweeps.reporting._made import confirm_made, made_sweep, open_made, write_record

LAST = "the last of its trials"


def listed(storage: Path | str) -> dict[str, dict[str, Any]]:
    done = CliRunner().invoke(app, ["sweeps", "--storage", str(storage), "--json"])
    assert done.exit_code == 0, done.exception
    return {row["sweep"]: row for row in json.loads(done.stdout)}


def text(storage: Path | str) -> str:
    done = CliRunner().invoke(app, ["sweeps", "--storage", str(storage)])
    assert done.exit_code == 0, done.exception
    return str(done.stdout)


def attempt(folder: SweepFolder, *ends: str | None) -> None:
    """Make so many attempts and say of each what ended it; None: it was stopped or killed."""
    for number, end in enumerate(ends, start=1):
        (folder.path / "attempt.json").write_text(json.dumps({"attempt": number, "pid": 0}))
        if end is not None:
            keep_ending(folder.path, number, end)


@pytest.mark.parametrize(
    ("ends", "planned", "state"),
    [
        ([LAST], 4, "done"),
        (["budget.hours (1 h)"], 9, "done"),
        ([None], 9, "interrupted"),
        ([None, "budget.hours (1 h)"], 9, "done"),
        (["budget.hours (1 h)", None], 9, "interrupted"),
        # Nothing was told: driven on another machine, or adopted.
        ([], 4, "done"),
        ([], 9, "interrupted"),
    ],
)
def test_the_state_is_how_the_newest_attempt_ended(
    tmp_path: Path, ends: list[str | None], planned: int, state: str
) -> None:
    search = {"name": "random", "trials": planned}
    sweep = made_sweep(tmp_path, trials=4, search=search)
    if ends:
        attempt(sweep.folder, *ends)
    row = listed(tmp_path)["made"]
    assert (row["state"], row["finished"], row["planned"]) == (state, 4, planned)
    # Another machine has driven it since, and said nothing of its end yet.
    (sweep.path / "attempt.json").write_text('{"attempt": 7, "pid": 0}')
    elsewhere = "done" if planned == 4 else "interrupted"
    assert listed(tmp_path)["made"]["state"] == elsewhere


def test_what_runs_was_killed_or_failed_is_told_apart(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=4)
    write_record(sweep.folder, sweep.records[-1].model_copy(update={"status": "running"}))
    with sweep.folder.driving() as number:
        assert listed(tmp_path)["made"]["state"] == "running"
        keep_failure(sweep.path, number, StorageError("the disk is full"))
    row = listed(tmp_path)["made"]
    assert (row["state"], row["problem"]) == ("failed", "the disk is full")
    assert "made: the disk is full" in text(tmp_path)
    with sweep.folder.driving():
        pass
    row = listed(tmp_path)["made"]
    assert (row["state"], row["problem"]) == ("interrupted", None)
    assert row["trials"] == {"finished": 3, "running": 1}


def test_age_size_and_what_was_done_with_each(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=6, failed=1)
    confirm_made(sweep, rows=1)
    open_made(sweep)
    fresh = made_sweep(tmp_path, trials=1, name="fresh")
    (fresh.path / "trials" / "t0000" / "record.json").unlink()
    model = sweep.path / "trials" / "t0001" / "model" / "model.safetensors"
    model.parent.mkdir()
    model.write_bytes(b"x" * 3_000_000)
    rows = listed(tmp_path)
    assert list(rows) == ["fresh", "made", "made.confirm"]
    assert rows["made"]["confirmed"] and rows["made"]["tested"]
    assert not rows["fresh"]["confirmed"] and not rows["fresh"]["tested"]
    files = [path for path in sweep.path.rglob("*") if path.is_file()]
    assert rows["made"]["bytes"] == sum(path.stat().st_size for path in files) > 3_000_000
    assert rows["made"]["began"] == 1e9
    assert rows["fresh"]["began"] == (fresh.path / "sweep.yaml").stat().st_mtime
    lines = {line.split()[0]: line for line in text(tmp_path).splitlines()}
    assert "5/6" in lines["made"] and "confirmed, tested, 1 failed" in lines["made"]
    assert "0 min" in lines["fresh"] and "0/4" in lines["fresh"]


def test_what_cannot_be_read_is_listed_with_the_others(tmp_path: Path) -> None:
    made_sweep(tmp_path, trials=4)
    for name, file, content in (
        ("broken", "trials/t0000/record.json", "{"),
        ("typo", "sweep.yaml", "model: [\n"),
        ("other", "sweep.yaml", "model: tiny:bert\n"),
    ):
        sweep = made_sweep(tmp_path, trials=1, name=name)
        (sweep.path / file).write_text(content)
    (tmp_path / ".one.0.removed").mkdir()
    (tmp_path / ".one.0.removed" / "sweep.yaml").write_text("")
    rows = listed(tmp_path)
    states = {name: row["state"] for name, row in rows.items()}
    assert states == {"made": "done", **dict.fromkeys(("broken", "typo", "other"), "unreadable")}
    assert "record.json" in rows["broken"]["problem"]
    assert "a launched sweep" in rows["other"]["problem"]
    shown = text(tmp_path)
    assert "4 sweeps in" in shown and ".one.0.removed: left by an interrupted removal" in shown


def test_without_any_sweep_or_storage_it_says_so(tmp_path: Path) -> None:
    assert "rc-sweep launch CONFIG makes one" in text(tmp_path) and listed(tmp_path) == {}
    done = CliRunner().invoke(app, ["sweeps", "--storage", str(tmp_path / "nowhere")])
    assert isinstance(done.exception, InputError) and "none at" in str(done.exception)


def test_a_buckets_sweeps_are_listed_from_any_machine_without_their_models(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = storage_root(s3.storage)
    sweep = made_sweep(root, trials=3)
    model = sweep.path / "trials" / "t0001" / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"x" * 2_000_000)
    confirm_made(sweep, rows=1)
    for folder in (sweep.folder, sweep.confirmation.folder):
        folder.share()
    made_sweep(root, trials=2, name="unsent")
    rows = listed(s3.storage)
    assert {name: row["here_only"] for name, row in rows.items()} == {
        "made": False, "made.confirm": False, "unsent": True,
    }  # fmt: skip
    assert "on this machine only" in text(s3.storage)
    monkeypatch.setenv("RC_STATE", str(tmp_path / "elsewhere"))
    s3.log.clear()
    rows = listed(s3.storage)
    assert list(rows) == ["made", "made.confirm"]
    assert rows["made"]["finished"] == 3 and rows["made"]["confirmed"]
    assert rows["made"]["bytes"] > 2_000_000
    assert not [request for request in s3.log if "GET" in request and "safetensors" in request]
    brought = [name for _, _, names in os.walk(tmp_path / "elsewhere") for name in names]
    assert "record.json" in brought and "model.safetensors" not in brought
    assert f" in {s3.storage}" in text(s3.storage)


def test_a_sweep_that_another_machine_drives_is_running(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = made_sweep(storage_root(s3.storage), trials=2)
    sweep.folder.share()
    lease = {"mirror": "another", "host": "far", "pid": 1, "attempt": 1, "heard": time.time()}
    assert sweep.folder.mirror is not None
    sweep.folder.mirror.objects.write("made/lease.json", json.dumps(lease).encode())
    assert listed(s3.storage)["made"]["state"] == "running"
