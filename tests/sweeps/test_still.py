"""What is read of a sweep is read once, so that no trial that comes meanwhile tears it apart."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rc_core.record import TrialRecord
from sweeps.api import Sweep
from sweeps.cli import app
from sweeps.folder import SweepFolder
from sweeps.reporting.facts import Facts
from tests.sweeps.reporting._made import confirm_made, made_sweep, open_made, write_record

READING = [
    "pareto",
    "pareto --json",
    "pareto --budgets",
    "pareto --why t0003",
    "pareto --where footprint/parameters<=30e6",
    "report",
    "status",
    "power",
    "export --pick t0003 --out {out}",
]


def rc_sweep(command: str, sweep: Sweep, out: Path) -> Any:
    verb, *options = command.format(out=out).split()
    return CliRunner().invoke(app, [verb, str(sweep.path), *options])


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Return a sweep that was confirmed and whose test was opened: what reads most."""
    found = made_sweep(tmp_path_factory.mktemp("still"), trials=24, failed=2)
    confirm_made(found)
    open_made(found)
    return found


@pytest.mark.parametrize("command", READING)
def test_a_command_reads_each_record_once(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    reads: Counter[str] = Counter()
    whole = SweepFolder.records

    def counted(folder: SweepFolder) -> list[TrialRecord]:
        reads[folder.name] += 1
        return whole(folder)

    monkeypatch.setattr(SweepFolder, "records", counted)
    done = rc_sweep(command, sweep, tmp_path / "out")
    # There are no weights to export, which is told after all that was read of it.
    if command.startswith("export"):
        assert "must have weights here" in str(done.exception)
    else:
        assert done.exit_code == 0, done.exception
    assert max(reads.values()) == 1 and set(reads) <= {"made", "made.confirm"}


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Return a sweep in which a better trial ends whenever its records have been read."""
    found = made_sweep(tmp_path / "storage", trials=8)
    best = max(found.records, key=lambda record: record.metric("ood_dev/accuracy"))
    whole = SweepFolder.records

    def read(folder: SweepFolder) -> list[TrialRecord]:
        records = whole(folder)
        number = len(records)
        metrics = {**best.metrics, "ood_dev/accuracy": 0.9 + number / 1000}
        values = {"id": f"t{number:04d}", "metrics": metrics, "reference": False}
        write_record(folder, best.model_copy(update=values))
        return records

    monkeypatch.setattr(SweepFolder, "records", read)
    return found


@pytest.mark.parametrize("command", [each for each in READING if each != "power"])
def test_a_trial_that_comes_between_two_reads_tears_nothing_apart(
    growing: Sweep, tmp_path: Path, command: str
) -> None:
    done = rc_sweep(command, growing, tmp_path / "out")
    if command.startswith("export"):
        assert "must have weights here" in str(done.exception)
        return
    assert done.exit_code == 0, done.exception
    if command == "pareto --json":
        document = json.loads(done.stdout)
        shown = [*document["front"], *document["dominated"], *document["excluded"]]
        assert {entry["id"] for entry in shown} == {f"t{i:04d}" for i in range(8)}
    if command == "pareto":
        assert set(re.findall(r"t\d{4}", done.output)) == {f"t{i:04d}" for i in range(8)}


def test_from_python_each_answer_is_of_one_moment(growing: Sweep) -> None:
    """Without a copy of its own: whoever asks again gets what is there then."""
    assert len(growing.records) == 8 and len(growing.records) == 9
    last = max(int(record.id[1:]) for record in growing.front)
    assert last == 9, "the best of the ten that were read"
    assert "t0010" in growing.table() and "t0012" not in growing.table()
    html = growing._repr_html_()
    assert "<svg" in html and "KeyError" not in html
    facts = Facts.read(growing)
    assert [row.id for row in facts.rows] == [record.id for record in facts.records]


def test_a_still_copy_stays_as_it_is_and_a_sweep_does_not(growing: Sweep) -> None:
    still = growing.still()
    assert still is not growing and still.still() is still
    first = still.records
    first.clear()
    assert [record.id for record in still.records] == [row.id for row in still.rows]
    assert len(still.records) == 8 and len(growing.records) == 9
    assert len(still.records) == 8 and len(growing.still().records) == 10


def test_what_ran_when_it_was_read_was_not_interrupted(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=3)
    running = sweep.records[-1].model_copy(update={"status": "running"})
    write_record(sweep.folder, running)
    with sweep.folder.driving():
        still = sweep.still()
        assert len(still.records) == 3
    # The driver has ended since, and would have sealed the record before.
    assert still.document()["interrupted"] == [] and sweep.document()["interrupted"] == ["t0002"]
