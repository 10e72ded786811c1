"""A confirmation by its own name: what commands and Python make of `X.confirm`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rc_core.errors import ConfigError, StorageError
from sweeps import launching
from sweeps.api import Sweep
from sweeps.cli.entry import app
from sweeps.engine import runner
from sweeps.engine.resuming import changed
from sweeps.verification import confirm as confirming
from sweeps.views.progress import Progress
from tests.sweeps.reporting._made import confirm_made, made_sweep


@pytest.fixture
def confirmation(tmp_path: Path) -> Sweep:
    """Return the new seeds of the sweep `made`."""
    confirm_made(made_sweep(tmp_path, trials=8))
    return Sweep.load("made.confirm", storage=tmp_path)


def test_commands_on_a_confirmation_are_about_its_sweep(
    confirmation: Sweep, tmp_path: Path
) -> None:
    run = CliRunner()
    for command in ("pareto", "power"):
        asked = run.invoke(app, [command, "made.confirm", "--storage", str(tmp_path)])
        of_it = run.invoke(app, [command, "made", "--storage", str(tmp_path)])
        assert asked.exit_code == of_it.exit_code == 0
        assert asked.stdout == of_it.stdout and "showing made" in asked.stderr
    out = ["--out", str(tmp_path / "out"), "--storage", str(tmp_path)]
    refused = run.invoke(app, ["export", "made.confirm", "--pick", "knee", *out])
    assert isinstance(refused.exception, StorageError)
    assert "choose by their means: rc-sweep export made --pick knee" in str(refused.exception)
    document = run.invoke(app, ["pareto", "made.confirm", "--json", "--storage", str(tmp_path)])
    assert json.loads(document.stdout)["sweep"] == "made"
    del confirmation


def test_a_resumed_confirmation_tells_its_sweep(
    confirmation: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(launching, "conclude", lambda done: told.append(done.searched.name))
    driven = launching._worked_with(lambda sweep: sweep)
    assert driven(confirmation).name == "made.confirm" and told == ["made"]
    assert driven(confirmation.searched).name == "made" and told == ["made"]


def test_a_plugin_that_was_changed_since_the_search_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = made_sweep(tmp_path, trials=8)
    file = sweep.folder.trials / "t0001" / "record.json"
    record = json.loads(file.read_text())
    record["environment"]["plugins"] = {"loss": "0" * 16}
    file.write_text(json.dumps(record))
    said: list[str] = []
    progress = Progress()
    monkeypatch.setattr(progress, "say", said.append)
    monkeypatch.setattr(runner, "launch", lambda *_, **__: pytest.skip("launched"))
    with pytest.raises(pytest.skip.Exception):
        confirming.confirm(sweep, seeds=2, progress=progress)
    name = record["config"]["loss"]["name"]
    assert any(line.startswith(f"warning: loss {name} was changed since t0001") for line in said)


def test_what_has_new_seeds_is_not_sent_to_get_them(confirmation: Sweep) -> None:
    closing = confirmation.searched.closing_lines()
    assert "rc-sweep confirm" not in closing and "rc-sweep pareto made" in closing


def test_how_many_seeds_there_are_is_not_changed_by_a_resume(confirmation: Sweep) -> None:
    with pytest.raises(ConfigError, match="rc-sweep confirm made --seeds N"):
        changed(confirmation.folder, ["search.trials=50"])


def test_one_text_where_a_list_must_be_is_no_list_of_letters(confirmation: Sweep) -> None:
    sweep = confirmation.searched
    for call in (
        lambda: sweep.pick("knee", wheres="id_dev/accuracy >= 0.2"),
        lambda: sweep.pick("weighted", weights="ood_dev/accuracy=2"),
        lambda: sweep.confirm(also="t0001"),
        lambda: sweep.latency(trials="t0001"),
    ):
        with pytest.raises(ConfigError, match="must be a list, like"):
            call()


@pytest.mark.parametrize(
    ("before", "go_on"),
    [
        (True, "--one-teacher: .* begun with --whole; to go on, leave out --one-teacher"),
        (False, "--whole: .* begun with --one-teacher; to go on, leave out --whole"),
    ],
)
def test_what_goes_on_with_a_confirmation_is_told_before_its_removal(
    confirmation: Sweep, before: bool, go_on: str
) -> None:
    values = confirmation.folder.read_config()
    confirmation.folder.write_config(values | {"confirm": values["confirm"] | {"whole": before}})
    with pytest.raises(ConfigError, match=f"{go_on}; to begin anew, first run: rc-sweep remove"):
        confirmation.searched.confirm(seeds=2, whole=not before)
