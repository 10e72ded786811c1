"""What a user may get wrong at the command line: told in a message, never by a traceback."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from rc_core import plugins
from rc_core.errors import InputError, TrialError
from sweeps.api import Sweep
from sweeps.cli import app
from sweeps.cli.listing import PLUGIN_KINDS, keys_of
from sweeps.failure import keep_failure
from tests.rc_core._plugins import WHOLE, WrittenPlugins, written
from tests.sweeps._made_sweep import make_sweep
from tests.sweeps.reporting._made import made_sweep

__all__ = ["written"]


def rc_sweep(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a storage with the sweep `made`, one of a fixed design, and what is no sweep."""
    storage = tmp_path_factory.mktemp("storage")
    made_sweep(storage, trials=4)
    rows: dict[str, Any] = {
        "space": {"loss.name": {"choice": ["vanilla", "distil"]}},
        "search": {"name": "grid"},
    }
    made_sweep(storage, trials=3, name="fixed", design="fixed", **rows)
    made_sweep(storage, trials=2, name="bare", failed=1)
    (storage / "other").mkdir()
    (storage / "other" / "sweep.yaml").write_text("model: tiny:bert\n")
    (storage / "undrawn" / "budgets.png").mkdir(parents=True)
    text = (storage / "made" / "sweep.yaml").read_text()
    (storage / "undrawn" / "sweep.yaml").write_text(text)
    (storage / "undrawn" / "trials").symlink_to(storage / "made" / "trials")
    return storage


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("table fixed --out {storage}/nope/x.md", "must be a writable file"),
        ("table fixed --out {storage}", "must be a writable file"),
        ("pareto undrawn --budgets", "budgets.png must be a writable file"),
        ("pareto bare --budgets", "budgets need a finished compressed model"),
        ("doctor --set resources.gpu=1", "--set changes keys of CONFIG, but none is given"),
        ("simulate made --export-table {storage}/t.json --json", "leave --json out"),
        ("status other", "must be the configuration of a launched sweep"),
        ("pareto other", "must be the configuration of a launched sweep"),
        ("pareto made --where ood_dev/nosuite/accuracy>=0.5", "no trial has a metric 'ood_dev/no"),
        ("pareto made --where id_dev/acuracy>=0.5", "did you mean 'accuracy'"),
        ("pareto made --where id_dev/accuracy>=80", "write 0.80"),
        ("export made --out x --where id_dev/acuracy>=0.5", "did you mean 'accuracy'"),
        ("export made --out x --pick knee --weight id_dev/accuracy=2", "--pick weighted"),
        ("export made --out x --pick t0001 --where id_dev/accuracy>=0.999", "t0001 must meet"),
        ("adopt newsweep {storage}", "rc-sweep launch CONFIG --name newsweep"),
        ("simulate made --scheduler pareto_asha:eta=@2", "--scheduler must look like"),
        ("simulate made --search nope", "must be a sampler, but got 'nope': available: gp, nsga2"),
        ("simulate {storage}/made/sweep.yaml", "a sweep's name or folder, or a recorded table"),
        ("export made --out x --trial t0001", "--pick t0001"),
        ("table fixed --format xml", "--format: must be markdown or csv, but got 'xml'"),
        ("table fixed --role train", "--role: must be dev or test, but got 'train'"),
        ("compare made made", "given twice"),
        ("remove made", "add --yes"),
        ("remove nothing --yes", "no sweep 'nothing'"),
        ("compare made {storage}/made", "given twice"),
    ],
)
def test_it_is_told_what_must_hold(storage: Path, command: str, told: str) -> None:
    arguments = [part.format(storage=storage) for part in command.split()]
    done = rc_sweep(*arguments, "--storage", str(storage))
    assert isinstance(done.exception, InputError), done.output
    assert told in str(done.exception)


@pytest.mark.parametrize(
    ("package", "section", "old", "new", "told"),
    [
        ("losses", "loss", "class Loss", "class Los", "must define a class Loss"),
        ("losses", "loss", '"difficulty"', '"dificulty"', "did you mean 'difficulty'"),
        ("losses", "loss", "class Config", "class Keys", "must define a class Config"),
        ("difficulty", "difficulty", "def hard", "def easy", "lacks hard()"),
        ("compression", "compression", "def problems", "def wrong", "lacks problems()"),
        ("data", "task", "def load", "def read", "lacks load()"),
    ],
)
def test_an_unfinished_plugin_is_told(
    written: WrittenPlugins,
    tmp_path: Path,
    package: str,
    section: str,
    old: str,
    new: str,
    told: str,
) -> None:
    written.write(f"rc_core.{package}", WHOLE[f"rc_core.{package}"].replace(old, new))
    path = tmp_path / "sweep.yaml"
    space = "space: {training.learning_rate: {choice: [1.0e-4, 1.0e-3]}}"
    path.write_text(f"model: tiny:bert\n{section}: {{name: mine}}\n{space}\n")
    validated = rc_sweep("validate", str(path))
    assert validated.exit_code == 2 and isinstance(validated.exception, SystemExit)
    storage = ["--storage", str(tmp_path / "storage")]
    planned = rc_sweep("launch", str(path), "--dry-run", *storage)
    listed = rc_sweep("list", "tasks" if package == "data" else package, "mine")
    for done in (planned, listed):
        assert isinstance(done.exception, InputError), done.exception
    for text in (validated.output, str(planned.exception), str(listed.exception)):
        assert f"rc_core/{package}/mine.py: " in text
        assert text.count(told) == 1


def test_a_port_that_is_taken_is_told_before_the_ui_starts(storage: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = rc_sweep("ui", "made", "--storage", str(storage), "--port", port)
    assert isinstance(done.exception, InputError), done.output
    assert f"--port: {port} must be free" in str(done.exception)
    assert "http://" not in done.output


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return None", "but returned None"),
        ("return ['no']", "but returned ['no']"),
        ("raise RuntimeError('boom')", "but raised RuntimeError: boom"),
    ],
)
def test_a_plugin_whose_check_fails_is_told_and_hides_no_other_file(
    written: WrittenPlugins, tmp_path: Path, body: str, told: str
) -> None:
    """Its `problems` is somebody's own code."""
    source = WHOLE["rc_core.compression"]
    line = "def problems(config, facts):\n"
    assert line in source
    written.write("rc_core.compression", source.replace(line, f"{line}    {body}\n"))
    for name, text in (("mine", "{name: mine}"), ("other", "{name: magnitud}")):
        (tmp_path / f"{name}.yaml").write_text(f"model: tiny:bert\ncompression: {text}\n")
    done = rc_sweep("validate", str(tmp_path / "mine.yaml"), str(tmp_path / "other.yaml"))
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit)
    file = "rc_core/compression/mine.py: problems() must return a list of Problem"
    assert done.output.count(f"{file}, {told}") == 1
    assert "did you mean 'magnitude'" in done.output


def test_a_file_that_cannot_be_read_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.touch()
    done = rc_sweep("validate", str(path))
    assert done.exit_code == 2
    assert done.output == f"{path}: must hold a configuration, but is empty\n"


def test_wrong_settings_hide_no_wrong_data(tmp_path: Path) -> None:
    task = "{name: files, data_dir: nowhere, text: a, labels: [x, y], roles: {train: a.csv, %s}}"
    path = tmp_path / "sweep.yaml"
    path.write_text(f"model: tiny:bert\nmodle: 1\ntask: {task % 'ood_dev: {s: b.csv}'}\n")
    done = rc_sweep("validate", str(path))
    assert done.exit_code == 2 and "3 problems" in done.output
    assert all(text in done.output for text in ("modle: unknown key", "a.csv", "b.csv"))
    planned = rc_sweep("launch", str(path), "--dry-run", "--storage", str(tmp_path / "storage"))
    assert isinstance(planned.exception, InputError), planned.exception
    assert [problem.where for problem in planned.exception.problems] == [
        "modle",
        "task.train.files",
        "task.ood_dev.s",
    ]
    # A task that is none is told as that, once.
    path.write_text(f"model: tiny:bert\nmodle: 1\ntask: {task % 'ood_dev: b.csv'}\n")
    done = rc_sweep("validate", str(path))
    assert done.exit_code == 2 and "2 problems" in done.output and "b.csv" in done.output


def test_data_that_may_have_to_be_fetched_is_read_only_where_all_else_is_right(
    written: WrittenPlugins, tmp_path: Path
) -> None:
    read = tmp_path / "was_read"
    loads = f"def load(config):\n    open({str(read)!r}, 'w').close()\n    return"
    written.write(
        "rc_core.data", WHOLE["rc_core.data"].replace("def load(config):\n    return", loads)
    )
    path, storage = tmp_path / "sweep.yaml", ["--storage", str(tmp_path / "storage")]
    path.write_text("model: tiny:bert\nmodle: 1\ntask: {name: mine}\n")
    validated = rc_sweep("validate", str(path))
    assert validated.exit_code == 2 and "modle: unknown key" in validated.output
    assert "task: was not checked yet" in validated.output
    path.write_text("model: tiny:bert\ntask: {name: mine}\n")
    launched = rc_sweep("launch", str(path), "--name", "artifacts", *storage)
    assert isinstance(launched.exception, InputError), launched.exception
    assert [problem.where for problem in launched.exception.problems] == ["", "task"]
    assert not read.exists()
    assert rc_sweep("launch", str(path), "--dry-run", *storage).exit_code == 0
    assert read.exists()


def test_a_table_without_any_trial_says_why(tmp_path: Path) -> None:
    folder = made_sweep(tmp_path, trials=1, name="empty").folder
    shutil.rmtree(folder.trials / "t0000")
    pareto = ("pareto", "empty", "--storage", str(tmp_path))
    assert "No trial has finished: none has ended yet" in rc_sweep(*pareto).output
    with folder.driving() as attempt:
        pass
    keep_failure(folder.path, attempt, TrialError("the dense reference diverged"))
    done = rc_sweep(*pareto)
    assert done.exit_code == 0 and "No trial has finished: the dense reference" in done.output


def test_after_a_fixed_design_its_table_is_next_and_no_confirmation(storage: Path) -> None:
    closing = Sweep.load("fixed", storage=storage).closing_lines()
    assert "rc-sweep table fixed" in closing and "confirm" not in closing
    assert "rc-sweep confirm made" in Sweep.load("made", storage=storage).closing_lines()


def test_a_storage_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = rc_sweep("status", "made", "--storage", str(tmp_path / "nope"))
    assert isinstance(done.exception, InputError)
    assert f"there is none at {tmp_path / 'nope'}" in str(done.exception)


def test_an_export_does_not_take_the_current_folders_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_sweep(tmp_path / "storage", "made", trials=2, track=False)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for here in (".", str(tmp_path / "empty")):
        done = rc_sweep("export", str(folder.path), "--pick", "t0001", "--out", here)
        assert isinstance(done.exception, InputError), done.exception
        assert "--out must not be the current folder" in str(done.exception)


def test_what_a_dead_driver_left_open_is_interrupted(tmp_path: Path) -> None:
    sweep = Sweep(make_sweep(tmp_path, "made", trials=3, running=2, track=False))
    line = "t0001, t0002: interrupted; go on with: rc-sweep resume made"
    status = rc_sweep("status", str(sweep.path)).output
    assert "1 finished, 2 interrupted" in status and line in status
    assert line in rc_sweep("pareto", str(sweep.path)).output
    export = rc_sweep("export", str(sweep.path), "--out", str(tmp_path / "out"))
    assert line in str(export.exception)
    with sweep.folder.driving():
        assert "1 finished, 2 running" in rc_sweep("status", str(sweep.path)).output
        assert "interrupted" not in rc_sweep("pareto", str(sweep.path)).output


@pytest.mark.parametrize("kind", PLUGIN_KINDS)
def test_every_key_of_every_plugin_says_what_it_means(kind: str) -> None:
    names = plugins.available(PLUGIN_KINDS[kind])
    keys = [(name, key) for name in names for key in keys_of(kind, name)]
    assert keys or kind == "schedulers"
    json.dumps(keys)
    assert [
        (name, k["key"]) for name, k in keys if not k["meaning"] or k["type"] == "anything"
    ] == []


def test_the_keys_of_a_plugin_are_listed() -> None:
    text = rc_sweep("list", "losses", "rmc").output
    assert "alpha: number > 0, <= 1 | auto; default 0.5\n    degree of the easiest" in text
    assert "lambda: number >= 0, <= 1; default 0.9\n    weight of the teacher" in text
    document = json.loads(rc_sweep("list", "tasks", "files", "--json").stdout)
    (text_key,) = [key for key in document["keys"] if key["key"] == "text"]
    assert text_key["required"] and text_key["meaning"].startswith("one column, or two")
    assert "did you mean 'rmc'" in str(rc_sweep("list", "losses", "rcm").exception)


def test_flags_are_shown_without_a_type() -> None:
    group: Any = typer.main.get_command(app)
    commands = [*group.commands.values(), *group.commands["artifacts"].commands.values()]
    options = [
        option
        for command in commands
        for option in command.params
        if getattr(option, "is_flag", False)
    ]
    assert len(options) > 20
    assert {option.name for option in options if option.metavar != ""} == set()
