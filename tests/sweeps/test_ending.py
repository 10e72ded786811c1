"""When a sweep has run its course: a race with few of its trials, and what says that it has not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweeps.ending import keep_ending
from sweeps.folder import SweepFolder
from sweeps.reporting.facts import Facts
from sweeps.reporting.health import health
from sweeps.stored_sweep import StoredSweep
from sweeps.views.live import RunningTrial, Snapshot, view
from sweeps.views.status import status_document, status_text
from sweeps.views.watch import Watcher, ended_line
from tests.sweeps.reporting._made import confirm_made, made_sweep

NOTHING_LEFT = "the search, which finds no trial left worth running"


@pytest.fixture
def race(tmp_path: Path) -> StoredSweep:
    """A confirmation whose race has trained a few of its rows; its driver has said nothing yet."""
    sweep = made_sweep(tmp_path, trials=12)
    confirm_made(sweep, rows=3)
    found = sweep.confirmation
    assert found is not None
    (found.path / "attempt.json").write_text('{"attempt": 1, "pid": 0}')
    return found


def in_doubt(race: StoredSweep) -> list[str]:
    """Return what a report of the confirmation alone says of its end."""
    return [check.found for check in health(Facts.read(race)) if "ended" in check.title]


def test_a_race_has_ended_where_its_driver_has(race: StoredSweep) -> None:
    keep_ending(race.path, 1, NOTHING_LEFT)
    document = status_document(race)
    assert document["ended"] and document["planned_at_most"]
    trained = len(race.records)
    assert trained < document["planned"] == 12 * 3 + 1
    text = status_text(race)
    assert f"{trained} finished; up to 37" in text and "resume;" in text
    assert "rc-sweep resume" not in text and "planned" not in text
    assert text.splitlines()[-1].startswith("it has ended") and "pareto made --storage" in text
    assert "it has ended; see: rc-sweep pareto made " in Watcher(race).snapshot().note
    assert not in_doubt(race)


@pytest.mark.parametrize("before", [None, 0])
def test_a_race_that_was_cut_short_goes_on(race: StoredSweep, before: int | None) -> None:
    if before is not None:
        keep_ending(race.path, before, NOTHING_LEFT)
    assert not status_document(race)["ended"]
    assert "cut short; go on with: rc-sweep resume made.confirm" in status_text(race)
    assert "go on with: rc-sweep resume made.confirm" in Watcher(race).snapshot().note
    (found,) = in_doubt(race)
    assert "up to 37" in found


def test_a_race_that_a_limit_ended_may_go_on(race: StoredSweep) -> None:
    keep_ending(race.path, 1, "budget.hours (2)")
    assert not status_document(race)["ended"]
    assert "resume made.confirm" in status_text(race) and "budget.hours=N" in status_text(race)
    (found,) = in_doubt(race)
    assert "ended by budget.hours (2)" in found


def test_what_a_driver_that_was_stopped_left_open_is_no_end(race: StoredSweep) -> None:
    keep_ending(race.path, 1, NOTHING_LEFT)
    record = race.records[-1].model_copy(update={"status": "running"})
    race.folder.trial(record.id).record_file.write_text(record.model_dump_json())
    assert not status_document(race)["ended"]
    assert "interrupted; go on with" in status_text(race)


def test_a_report_at_the_end_of_a_race_knows_that_it_is_the_end(race: StoredSweep) -> None:
    with race.folder.driving() as attempt:
        keep_ending(race.path, attempt, NOTHING_LEFT)
        assert Facts.read(race, ended=True).ended and not Facts.read(race).ended


def test_a_search_has_its_number_of_trials(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=5)
    assert status_document(sweep)["ended"] and "5 planned" in status_text(sweep)
    config = sweep.config | {"search": sweep.config["search"] | {"trials": 9}}
    SweepFolder(sweep.path).write_config(config)
    cut = StoredSweep(sweep.folder)
    assert not status_document(cut)["ended"]
    assert "fewer than planned; go on with: rc-sweep resume" in status_text(cut)


def test_of_a_race_nobody_knows_how_long_it_takes(race: StoredSweep) -> None:
    made: dict[str, Any] = {
        "sweep": "s",
        "total": 37,
        "counts": {"finished": 12, "running": 1},
        "running": [RunningTrial("t0013", "x", 0.5, 3.0)],
        "rows": [],
        "objectives": {"id_dev/accuracy": "max"},
        "seconds": 60.0,
        "trial_seconds": 20.0,
    }
    shown = {}
    for at_most in (False, True):
        console = Console(file=io.StringIO(), width=100, height=30)
        console.print(view(Snapshot(**made, at_most=at_most), 100, 30))
        assert isinstance(console.file, io.StringIO)
        shown[at_most] = console.file.getvalue()
    assert "12 of 37 trials" in shown[False] and "left" in shown[False]
    assert "12 of up to 37 trials, 1:00 so far" in shown[True] and "left" not in shown[True]
    assert Watcher(race).snapshot().at_most
    line = ended_line(race.records[0], [], 3, 37, at_most=True)
    assert line.startswith("[3, up to 37] ")
