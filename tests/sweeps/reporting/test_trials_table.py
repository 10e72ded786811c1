"""Every trial of a search as a row: what varies, what was measured, what went wrong."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rc_core.errors import InputError
from sweeps.api import Sweep
from sweeps.cli import app
from tests.sweeps.reporting._made import made_sweep, open_made, write_record


def rc_sweep(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Return a search with failed and stopped trials, of one training seed but for one trial."""
    found = made_sweep(tmp_path_factory.mktemp("trials"), trials=16, failed=2, stopped=3)
    record = found.records[4]
    seeded = record.config | {"training": record.config["training"] | {"seed": 7}}
    metrics = record.metrics | {"id_dev/calibration_error": math.nan}
    write_record(found.folder, record.model_copy(update={"config": seeded, "metrics": metrics}))
    return found


def read(sweep: Sweep) -> list[dict[str, str]]:
    done = rc_sweep("table", str(sweep.path), "--trials", "--format", "csv")
    assert done.exit_code == 0, done.exception
    return list(csv.DictReader(io.StringIO(done.stdout)))


def test_csv_has_every_trial_with_all_that_its_record_says(sweep: Sweep) -> None:
    rows = read(sweep)
    assert [row["id"] for row in rows] == [record.id for record in sweep.records]
    for row, record in zip(rows, sweep.records, strict=True):
        assert row["status"] == record.status and row["name"] == record.name
        assert row["reference"] == str(record.reference).lower()
        assert row["error"] == (record.error or "")
        assert float(row["seconds"]) == record.taken
        for key, value in record.metrics.items():
            assert row[key] == ("" if math.isnan(value) else str(value))
        assert row["training.seed"] == str(record.config["training"]["seed"])
        for key in ("compression.name", "compression.sparsity", "compression.remove", "loss.name"):
            section, name = key.split(".")
            assert row[key] == str(record.config[section].get(name, ""))
        if record.rungs:
            last = record.rungs[-1].metrics["rung/ood_dev/accuracy"]
            assert row["rung/ood_dev/accuracy"] == str(last)
    stopped = [row for row in rows if row["status"] == "stopped"]
    assert stopped and all(row["ood_dev/accuracy"] == "" for row in stopped)
    assert "training.epochs" not in rows[0], "what is the same for all is left out"
    keys = list(rows[0])
    metrics = [key for key in keys if key.startswith(("id_dev/", "ood_dev/", "footprint/"))]
    assert metrics[:2] == list(sweep.objectives) and keys[-2:] == ["seconds", "error"]


def test_a_frame_says_the_same(sweep: Sweep) -> None:
    frame = sweep.frame()
    rows = {row["id"]: row for row in read(sweep)}
    assert list(frame.index) == list(rows) and frame.index.name == "id"
    assert [*frame.columns] == [key for key in rows["t0000"] if key != "id"]
    for trial, row in rows.items():
        value = frame.loc[trial, "ood_dev/accuracy"]
        assert row["ood_dev/accuracy"] == ("" if math.isnan(value) else str(value))
    best = frame[frame["status"] == "finished"].sort_values("ood_dev/accuracy").iloc[-1]
    assert best.name == max(
        (r for r in sweep.records if r.status == "finished"),
        key=lambda record: record.metric("ood_dev/accuracy"),
    ).id  # fmt: skip


def test_markdown_is_a_table_whatever_an_error_holds(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=3, failed=1)
    broken = sweep.records[2].model_copy(update={"error": "a|b\nc"})
    write_record(sweep.folder, broken)
    lines = rc_sweep("table", str(sweep.path), "--trials").stdout.splitlines()
    assert len(lines) == 2 + 3 and lines[-1].endswith(r"| a\|b c |")
    columns = {line.replace(r"\|", "").count("|") for line in lines}
    assert len(columns) == 1
    out = tmp_path / "trials.csv"
    done = rc_sweep("table", str(sweep.path), "--trials", "--format", "csv", "--out", str(out))
    assert done.exit_code == 0
    with out.open(newline="") as stream:
        assert [row["error"] for row in csv.DictReader(stream)][-1] == "a|b\nc"


def test_an_opened_test_and_what_was_timed_are_among_the_metrics(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=8)
    assert "ood_test/accuracy" not in sweep.frame()
    open_made(sweep)
    chosen = {record.id for record in (*sweep.front, *sweep.candidates)} | {"t0000"}
    known = sweep.frame()["ood_test/accuracy"].dropna()
    assert set(known.index) == chosen
    first = next(iter(chosen))
    dev = next(r for r in sweep.records if r.id == first).metric("ood_dev/accuracy")
    assert known[first] == pytest.approx(dev - 0.05)
    shown = rc_sweep("table", str(sweep.path), "--trials").stdout
    assert "sealed test opened" in shown.splitlines()[-1]


def test_the_table_of_a_search_points_to_it(sweep: Sweep) -> None:
    done = rc_sweep("table", str(sweep.path))
    assert isinstance(done.exception, InputError)
    assert "rc-sweep table --trials" in str(done.exception)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--format", "xml"], "--format: must be markdown or csv, but got 'xml'"),
        (["--role", "dev"], "leave --role out"),
    ],
)
def test_what_it_cannot_do_is_told(sweep: Sweep, options: list[str], told: str) -> None:
    done = rc_sweep("table", str(sweep.path), "--trials", *options)
    assert isinstance(done.exception, InputError) and told in str(done.exception)
