"""What a resume may change of a sweep, and what not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rc_core.errors import ConfigError
from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.engine.resuming import changed, say_changed_plugins
from sweeps.folder import SweepFolder

VALUES: dict[str, Any] = {
    "model": "tiny:bert",
    "task": {"name": "shortcut_nli", "train_size": 100},
    "compression": {"name": "magnitude"},
    "space": {"compression.sparsity": {"uniform": [0.1, 0.9]}},
    "search": {"name": "random", "trials": 6},
    "budget": {"hours": 1.0},
}


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    found = SweepFolder.create(tmp_path, "made", "x")
    found.write_config(SweepConfig(VALUES).as_dict())
    return found


def test_how_it_is_run_may_change(folder: SweepFolder) -> None:
    before = folder.read_config()
    after = changed(
        folder,
        ["resources.gpu=0.5", "budget.hours=3", "tracking.uri=http://here:5000",
         "health_gate=warn", "search.trials=9"],
    )  # fmt: skip
    settings = after.settings
    assert (settings.resources.gpu, settings.budget.hours) == (0.5, 3.0)
    assert (settings.tracking.uri, settings.health_gate) == ("http://here:5000", "warn")
    assert settings.search.trials == 9
    assert folder.read_config() == before, "nothing is written where something may still refuse"
    untouched = {"search", "budget", "resources", "tracking", "health_gate"}
    assert {k: v for k, v in after.as_dict().items() if k not in untouched} == {
        k: v for k, v in before.items() if k not in untouched
    }


def test_without_changes_it_is_what_was_launched(folder: SweepFolder) -> None:
    assert changed(folder, []).as_dict() == folder.read_config()


def test_what_it_searches_may_not_and_all_of_it_is_named(folder: SweepFolder) -> None:
    asked = ["training.epochs=9", "search.trials_more=1", "budgets.hours=1", "search.name=tpe"]
    with pytest.raises(ConfigError) as refused:
        changed(folder, asked)
    assert [p.where for p in refused.value.problems] == [key.partition("=")[0] for key in asked]
    assert (
        "may change: resources, budget, tracking, health_gate, search.trials, task.data_dir"
        in str(refused.value)
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("search.trials=1", "can only be raised in a sweep that was launched with 6, but is 1;"),
        ("search.trials=5", "can only be raised in a sweep that was launched with 6, but is 5"),
        ("resources.gpu=3", "less than or equal to 1"),
        ("budget.hour=3", "unknown key"),
    ],
)
def test_a_value_must_be_one(folder: SweepFolder, asked: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        changed(folder, [asked])


def test_what_a_later_version_refuses_can_be_mended(folder: SweepFolder) -> None:
    values = folder.read_config()
    folder.write_config(values | {"tracking": {"uri": "localhost:5000"}})
    with pytest.raises(ConfigError, match=r"tracking\.uri"):
        changed(folder, [])
    mended = changed(folder, ["tracking.uri=http://localhost:5000"])
    assert mended.settings.tracking.uri == "http://localhost:5000"


def test_a_plugin_that_was_changed_since_trials_finished_is_said(folder: SweepFolder) -> None:
    config = SweepConfig(VALUES).reference()
    now = config.sources()

    def record(number: int, **changed: str) -> TrialRecord:
        return TrialRecord(
            id=f"t{number:04d}",
            status="finished",
            config=config.as_dict(),
            fingerprint=config.fingerprint(),
            started=0.0,
            environment={"plugins": now | changed},
        )

    said: list[str] = []
    say_changed_plugins([record(0), record(1)], said.append)
    assert said == []
    old = record(4, loss="0" * 16).model_copy(update={"status": "running"})
    records = [record(0), record(2, loss="0" * 16), record(3, difficulty="0" * 16), old]
    say_changed_plugins(records, said.append)
    (line,) = said
    assert line.startswith("warning: loss vanilla was changed since t0002 finished: ")
