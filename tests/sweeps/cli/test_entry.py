"""How the command ends: its codes, and what happens where nobody reads on (head, less)."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import typer

from rc_core import __version__
from sweeps.cli import entry
from sweeps.views.progress import Progress
from tests.sweeps.reporting._made import made_sweep


@pytest.fixture
def unread() -> Iterator[int]:
    """Return a pipe's end that nobody reads from."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def rc_sweep(*arguments: str, **outputs: Any) -> subprocess.CompletedProcess[str]:
    places = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | outputs
    command = [sys.executable, "-m", "sweeps.cli", *arguments]
    return subprocess.run(command, text=True, timeout=120, check=False, **places)


@pytest.mark.parametrize(
    ("arguments", "closed", "code"),
    [("list metrics", "stdout", 0), ("--help", "stdout", 0), ("list nosuch", "stderr", 2)],
)
def test_a_reader_that_has_left_is_no_failure(
    unread: int, arguments: str, closed: str, code: int
) -> None:
    done = rc_sweep(*arguments.split(), **{closed: unread})
    assert (done.returncode, done.stdout or "", done.stderr or "") == (code, "", "")


def test_a_usage_error_shows_how_and_exits_with_2() -> None:
    done = rc_sweep("list", "metrics", "--nosuch")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("Usage: ") and "No such option: --nosuch" in done.stderr


def test_the_version_is_told_without_a_command() -> None:
    done = rc_sweep("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"rc-sweep {__version__}\n", "")
    shown = rc_sweep("--help").stdout
    assert "Sweep ways to compress encoder models" in shown and "--version" in shown


def test_a_pipe_that_breaks_elsewhere_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def app(**_: Any) -> None:
        try:
            raise BrokenPipeError("to a service")
        except BrokenPipeError:
            sys.exit(1)

    monkeypatch.setattr(entry, "app", app)
    monkeypatch.setattr(entry.signal, "signal", Mock())  # type: ignore[attr-defined]
    with pytest.raises(SystemExit) as end:
        entry.main([])
    assert end.value.code == 1 and capfd.readouterr().err == "error: to a service\n"


@pytest.mark.parametrize(
    ("arguments", "interrupting", "told"),
    [
        (["status", "made"], "sweeps.api.Sweep.load", "error: interrupted\n"),
        (["export", "made", "--out", "x"], "sweeps.api.Sweep.load", "nothing was left at --out"),
        (
            ["artifacts", "verify"],
            "sweeps.artifact_uses.uses",
            "run the same command again to continue",
        ),
        (["launch", "x.yaml"], "sweeps.config.load_sweep", "rc-sweep resume continues it"),
    ],
)
def test_ctrl_c_is_told_with_what_it_leaves(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    interrupting: str,
    told: str,
) -> None:
    monkeypatch.setattr(interrupting, Mock(side_effect=KeyboardInterrupt))
    code, shown = _ended(monkeypatch, tmp_path, capfd, *arguments)
    assert code == 1 and shown.startswith("error: interrupted") and told in shown


def test_an_interrupted_test_says_what_is_open_and_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = made_sweep(tmp_path, trials=2).folder
    monkeypatch.setattr("sweeps.api.Sweep.test", Mock(side_effect=KeyboardInterrupt))
    again = "Continue with: rc-sweep test made\n"
    found = _ended(monkeypatch, tmp_path, capfd, "test", "made")
    assert found == (1, f"error: interrupted; nothing was opened. {again}")
    opened = {"opened": 1.0, "design": "search", "selection": [], "trials": {"t0000": {}}}
    folder.test.write_text(json.dumps(opened))
    code, shown = _ended(monkeypatch, tmp_path, capfd, "test", "made")
    state = f"error: interrupted; the test is open for 1 trial, saved in {folder.test}. {again}"
    assert (code, shown) == (1, state)


def _ended(
    monkeypatch: pytest.MonkeyPatch,
    storage: Path,
    capfd: pytest.CaptureFixture[str],
    *arguments: str,
) -> tuple[Any, str]:
    """Return the code of a command, and what it says on standard error."""
    monkeypatch.setenv("RC_STORAGE", str(storage))
    monkeypatch.setattr(entry.signal, "signal", Mock())  # type: ignore[attr-defined]
    with pytest.raises(SystemExit) as end:
        entry.main(list(arguments))
    return end.value.code, capfd.readouterr().err


@pytest.mark.parametrize(
    ("number", "path", "code", "told"),
    [
        (errno.EACCES, "/theirs", 2, "/theirs: Permission denied; run it as"),
        (errno.EACCES, "/theirs/storage/made/sweep.yaml", 2, "run it as the owner"),
        (errno.ENOTDIR, "/theirs/storage", 2, "a part of the path is a file"),
        # Of what nobody has named here: a cache, a temporary folder.
        (errno.EACCES, "/somewhere/cache", 1, "/somewhere/cache: Permission denied; run it as"),
        (errno.EROFS, "/somewhere/cache", 1, "Read-only file system; name another place"),
        (errno.ENOSPC, "/theirs/storage/made", 1, "No space left on device; free some space"),
        (errno.EMFILE, None, 1, "Too many open files; raise the limit"),
    ],
)
def test_what_no_command_foresees_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: int,
    path: str | None,
    code: int,
    told: str,
) -> None:
    # Who runs the tests may read everything.
    failing = Mock(side_effect=OSError(number, os.strerror(number), path))
    monkeypatch.setattr("sweeps.folder.SweepFolder.find", failing)
    monkeypatch.setattr("sweeps.cli.options.Path.is_dir", lambda _: True)
    monkeypatch.setattr(entry.signal, "signal", Mock())  # type: ignore[attr-defined]
    with pytest.raises(SystemExit) as end:
        entry.main(["status", "made", "--storage=/theirs/storage"])
    assert end.value.code == code
    shown = capfd.readouterr().err
    assert shown.startswith("error: ") and told in shown and "Traceback" not in shown


def test_what_is_missing_within_the_storage_is_told_with_its_place_and_is_no_wrong_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made_sweep(tmp_path, trials=2)
    gone = FileNotFoundError(errno.ENOENT, "No such file or directory", f"{tmp_path}/made/x")
    monkeypatch.setattr("sweeps.api.Sweep.load", Mock(side_effect=gone))
    code, shown = _ended(monkeypatch, tmp_path, capfd, "status", "made")
    assert code == 1 and "made/x: No such file or directory (in sweeps/cli/options.py:" in shown
    assert "load); if nobody moved" in shown and "Traceback" not in shown


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(errno.ECONNRESET, "x"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/somewhere/part.json"),
        FileExistsError(errno.EEXIST, "File exists", "/somewhere/cache"),
    ],
)
def test_what_may_be_our_own_mistake_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    """Of no path, or of what is missing where nobody has named it."""
    monkeypatch.setattr(entry, "app", Mock(side_effect=error))
    monkeypatch.setattr(entry.signal, "signal", Mock())  # type: ignore[attr-defined]
    with pytest.raises(type(error)):
        entry.main(["status", "made"])


def test_failed_trials_are_told_and_counted_where_nobody_reads_the_front(
    unread: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sweep = Mock(records=[Mock(id="t0001", status="failed", error="no memory")])
    sweep.folder.unshared.return_value = ""
    sweep.table.return_value = "table"
    monkeypatch.setattr("sweeps.commands.command", lambda *_: "rc-sweep resume")
    kept = os.dup(1)
    os.dup2(unread, 1)
    try:
        with open(1, "w", closefd=False) as out, pytest.raises(typer.Exit) as end:
            monkeypatch.setattr(sys, "stdout", out)
            entry._finish(sweep, False)
    finally:
        monkeypatch.undo()
        os.dup2(kept, 1)
        os.close(kept)
    assert end.value.exit_code == 3 and "no memory" in capfd.readouterr().err


def test_a_sweep_goes_on_where_nobody_reads_its_progress(
    unread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.dup(unread), "w", buffering=1) as out:
        monkeypatch.setattr(sys, "stdout", out)
        progress = Progress()
        progress.say("trained")
        progress.say("trained again")
        monkeypatch.undo()
        # What it holds is not written: its file is closed here, not at the end of Python.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
