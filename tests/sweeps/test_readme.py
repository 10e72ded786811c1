"""README and docs: what they tell a stranger to copy works, their links lead somewhere.

The Python that launches a sweep is run by tests/sweeps/test_python_api.py.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main

from rc_core import plugins
from sweeps.cli import app
from sweeps.config import SweepConfig, load_sweep
from sweeps.engine.data_check import check_data
from tests.rc_core._plugins import WrittenPlugins, written
from tests.sweeps.reporting._made import made_sweep

__all__ = ["written"]

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def blocks(text: str, language: str) -> list[str]:
    """Return the code of a language's blocks, those within lists too."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(code) for _, code in found]


def test_the_readme_respects_the_readers_time() -> None:
    assert len(README.splitlines()) <= 230


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "docs/commands.md"])
def test_every_command_is_told(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    cells = " ".join(re.findall(r"^\|([^|]*)\|", text, re.MULTILINE))
    told = set(re.findall(r"`(?:rc-sweep )?([a-z]+)", cells))
    group: Any = typer.main.get_command(app)
    assert set(group.commands) <= told


def test_the_first_run_with_own_data_validates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = [block for block in blocks(README, "yaml") if "name: files" in block]
    package = "model: packaged:all-MiniLM-L6-v2"
    assert package in code, "an extra of the installation"
    (tmp_path / "mine.yaml").write_text(code.replace(package, "model: tiny:bert"))
    (tmp_path / "data").mkdir()
    for name in ("train", "ood"):
        rows = [f"{name} text {i},{('negative', 'positive')[i % 2]}" for i in range(60)]
        lines = "\n".join(["text,label", *rows])
        (tmp_path / "data" / f"{name}.csv").write_text(lines + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    task = check_data(load_sweep("mine.yaml"))
    assert [split.name for split in task.splits] == [
        "train.files",
        "id_dev.files",
        "ood_dev.elsewhere",
    ]


def test_the_whole_example_of_own_data_is_a_configuration(tmp_path: Path) -> None:
    (code,) = blocks((ROOT / "docs/configuration.md").read_text(encoding="utf-8"), "yaml")
    (tmp_path / "all.yaml").write_text(code.replace("bert-base-uncased ", "tiny:bert "))
    assert isinstance(load_sweep(tmp_path / "all.yaml"), SweepConfig)


def test_the_first_loss_is_a_plugin_and_its_sweep_a_configuration(
    tmp_path: Path, written: WrittenPlugins
) -> None:
    page = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    (loss,), (config,) = blocks(page, "python"), blocks(page, "yaml")
    written.write("rc_core.losses", loss, name="label_smoothing")
    (tmp_path / "smoothing.yaml").write_text(config.replace("[tune_", f"[{ROOT}/tune_"))
    sweep = load_sweep(tmp_path / "smoothing.yaml")
    trials = [sweep.trial(point) for point in sweep.first_trials().values()]
    assert {(t.compression.name, t.loss.name) for t in trials} == {
        ("dense", "vanilla"),
        ("magnitude", "vanilla"),
        ("magnitude", "label_smoothing"),
    }
    module = plugins.load("rc_core.losses", "label_smoothing")
    made = module.Loss(module.Config(name="label_smoothing", epsilon=0.2))
    logits, labels = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([1])
    log_probs = logits.log_softmax(-1)[0]
    expected = -(0.8 * log_probs[1] + 0.2 * log_probs.mean())
    torch.testing.assert_close(made(logits, labels, {}), expected)


def test_a_sweep_that_is_there_is_opened_as_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = [block for block in blocks(README, "python") if "Sweep.load" in block]
    made_sweep(tmp_path / "rc_storage", trials=4, name="quickstart-1")
    monkeypatch.delenv("RC_STORAGE", raising=False)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert "dense" in capsys.readouterr().out
    assert list((tmp_path / "pages").glob("*.html"))
