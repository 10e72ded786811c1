"""Suggested commands find the sweep that they are suggested for."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rc_core.atomic import write_json
from sweeps.api import Sweep
from sweeps.cli import app
from sweeps.commands import command
from sweeps.folder import SweepFolder
from sweeps.selection.measured import remedy
from sweeps.views.status import status_text
from tests.sweeps._made_sweep import make_sweep


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty folder, with no storage named."""
    monkeypatch.delenv("RC_STORAGE", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def invoke(line: str) -> Any:
    program, *arguments = shlex.split(line)
    assert program == "rc-sweep"
    return CliRunner().invoke(app, arguments)


def test_a_sweep_in_the_default_storage_needs_no_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SweepFolder(Path("rc_storage") / "mine")
    assert command(folder, "resume", "--retry-failed") == "rc-sweep resume mine --retry-failed"
    monkeypatch.setenv("RC_STORAGE", str(tmp_path / "x"))
    assert command(SweepFolder(tmp_path / "x" / "mine"), "ui") == "rc-sweep ui mine"
    assert command(folder, "ui").endswith(f" --storage {tmp_path / 'here' / 'rc_storage'}")


def test_a_bucket_is_named_by_its_address(tmp_path: Path) -> None:
    address = {"bucket": "shared", "prefix": "team/a", "endpoint": "", "id": "x"}
    write_json(tmp_path / ".remote.json", address)
    found = command(SweepFolder(tmp_path / "mine"), "sync")
    assert found == "rc-sweep sync mine --storage s3://shared/team/a"


def test_a_storage_that_is_none_hides_no_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RC_STORAGE", "gs://bucket/x")
    assert command(SweepFolder(tmp_path / "mine"), "ui").endswith(f"--storage {tmp_path}")


def test_what_is_suggested_can_be_copied(tmp_path: Path) -> None:
    storage = tmp_path / "a storage"
    sweep = Sweep(make_sweep(storage, "made", trials=3, running=1, track=False))
    line = status_text(sweep).splitlines()[-1].partition("go on with: ")[2]
    assert line == f"rc-sweep resume made --storage '{storage}'"
    shown = invoke(line.replace("resume", "status"))
    assert shown.exit_code == 0 and "2 finished, 1 interrupted" in shown.output
    bare = invoke("rc-sweep status made")
    assert bare.exit_code != 0, "the command without it must fail, or this shows nothing"
    closing = [part for part in sweep.closing_lines().splitlines() if "rc-sweep" in part]
    assert len(closing) == 4 and all(f"--storage '{storage}'" in part for part in closing)
    assert remedy(sweep.folder) == f"rc-sweep latency made --all --storage '{storage}'"
