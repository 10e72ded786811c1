"""The study's journal: what a killed driver leaves behind is put right, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from sweeps.search._storage import study_storage


def numbers(path: Path) -> list[int]:
    study = optuna.load_study(study_name="s", storage=study_storage(path))
    return [trial.params["x"] for trial in study.trials]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a journal of three trials."""
    path = tmp_path / "study.journal"
    study = optuna.create_study(study_name="s", storage=study_storage(path))
    for number in range(3):
        trial = study.ask()
        trial.suggest_int("x", number, number)
        study.tell(trial, 0.0)
    return path


def test_a_journal_is_read_back(path: Path) -> None:
    assert numbers(path) == [0, 1, 2]


def test_half_a_line_is_cut_off_before_more_is_written(path: Path) -> None:
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    path.write_bytes(whole + last[: len(last) // 2])
    study = optuna.load_study(study_name="s", storage=study_storage(path))
    assert path.read_bytes() == whole
    trial = study.ask()
    trial.suggest_int("x", 3, 3)
    study.tell(trial, 0.0)
    assert numbers(path) == [0, 1, 2, 3]


def test_a_lock_that_was_left_behind_holds_nobody_up(path: Path) -> None:
    lock = Path(f"{path}.lock")
    lock.touch()
    assert numbers(path) == [0, 1, 2]
    study = optuna.load_study(study_name="s", storage=study_storage(path))
    study.tell(study.ask(), 0.0)
    assert not lock.exists()


def test_choices_that_are_lists_or_sections_are_kept_and_nobody_is_warned(tmp_path: Path) -> None:
    """In a process of its own: pytest has filters of warnings of its own."""
    code = """
import pathlib, sys
from sweeps.config import SweepConfig
from sweeps.search._checked import made_proposals

experts = [{"level": 0.65}, "hypothesis_only"]
sweep = SweepConfig({
    "model": "tiny:bert", "loss": {"name": "poe"},
    "space": {"loss.expert": {"choice": experts}}, "search": {"name": "tpe", "trials": 4},
})
file = pathlib.Path(sys.argv[1])
points = {f"t{i}": made_proposals(sweep, file).propose(f"t{i}") for i in range(2)}
assert made_proposals(sweep, file).unfinished() == points
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "study.journal")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
