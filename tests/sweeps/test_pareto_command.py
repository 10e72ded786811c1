"""`rc-sweep pareto --where`: the table, the JSON and the confirmation below obey it alike."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from rich.text import Text
from typer.testing import CliRunner

from rc_core.errors import ConfigError, InputError
from sweeps.cli import app
from sweeps.selection.confirmed import confirmed
from sweeps.stored_sweep import StoredSweep
from sweeps.views.live import scatter
from sweeps.views.notebook import sweep_html
from sweeps.views.picture import front_picture
from tests.sweeps.reporting._made import confirm_made, made_sweep

WHERE = "footprint/nonzero_parameters <= 21e6"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> StoredSweep:
    found = made_sweep(tmp_path_factory.mktemp("pareto"), trials=24, failed=2)
    confirm_made(found)
    return found


def rc_sweep(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def starred(sweep: StoredSweep, *options: str) -> set[str]:
    """Return the ids that the first table marks as on the front."""
    output = rc_sweep("pareto", str(sweep.path), *options).output
    table = output.partition("confirmed with new seeds")[0]
    return set(re.findall(r"\u2502 \* \u2502 (t\d{4})", table))


def test_json_and_table_leave_out_what_where_excludes(sweep: StoredSweep) -> None:
    """Reference: dominance by two loops over the records that are small enough."""
    points = {
        r.id: (r.metric("id_dev/accuracy"), r.metric("ood_dev/accuracy"))
        for r in sweep.records
        if r.status == "finished" and r.metric("footprint/nonzero_parameters") <= 21e6
    }
    expected = {
        name
        for name, (a, b) in points.items()
        if not any(c >= a and d >= b and (c, d) != (a, b) for c, d in points.values())
    }
    done = rc_sweep("pareto", str(sweep.path), "--json", "--where", WHERE)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert {entry["id"] for entry in document["front"]} == expected
    assert document["constraints"] == [WHERE]
    assert starred(sweep, "--where", WHERE) == expected
    whole = json.loads(rc_sweep("pareto", str(sweep.path), "--json").stdout)
    assert {entry["id"] for entry in whole["front"]} == starred(sweep) != expected
    shown = {entry["id"] for entry in document["front"] + document["dominated"]}
    assert shown == set(points) and "t0000" in {each["id"] for each in document["excluded"]}


def test_the_confirmation_says_who_misses_it(sweep: StoredSweep) -> None:
    found = confirmed(sweep)
    assert found is not None
    heavy = {
        row.id
        for row in found.rows
        if next(iter(row.trials.values())).metric("footprint/nonzero_parameters") > 21e6
    }
    document = json.loads(rc_sweep("pareto", str(sweep.path), "--json", "--where", WHERE).stdout)
    assert set(document["confirmation"]["misses"]) == heavy
    assert {row["id"] for row in document["confirmation"]["rows"]} == {r.id for r in found.rows}
    met = [row.id for row in found.rows if row.id not in heavy]
    lines = rc_sweep("pareto", str(sweep.path), "--where", WHERE).output.splitlines()
    (line,) = [line for line in lines if line.startswith("--where is met by")]
    assert 0 < len(met) < len(found.rows) - 1
    assert f"met by {len(met)} of the {len(found.rows) - 1} rows" in line and met[0] in line
    assert "--where is met" not in rc_sweep("pareto", str(sweep.path)).output


def test_a_constraint_of_size_excludes_the_dense_reference_but_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = "footprint/nonzero_parameters <= 21e6"
    small = made_sweep(tmp_path, trials=12, constraints=[rule])
    (dense,) = [row for row in small.rows if row.reference]
    assert dense.rank is None and not dense.on_front and dense.drawn
    assert dense.excluded == f"misses {rule}: has 22,700,000, by 1,700,000 too much"
    heavy = [row.id for row in small.rows if row.excluded and not row.reference]
    assert heavy and not [row for row in small.rows if row.drawn and row.id in heavy]
    # Shares of a size are of the reference's, whatever it misses itself.
    shown = rc_sweep("pareto", str(small.path), "--budgets")
    assert shown.exit_code == 0, shown.output
    assert "22.7 M" in shown.output and "nan" not in shown.output, "bytes were not measured"
    assert (small.path / "budgets.png").is_file()
    assert "t0000" not in {record.id for record in small.candidates}
    # It is drawn wherever trials are.
    drawn: list[Figure] = []
    monkeypatch.setattr(pyplot, "close", drawn.append)
    front_picture(small.rows, small.objectives, tmp_path / "front.png", title="x")
    monkeypatch.undo()
    (axes,) = drawn[0].axes
    pyplot.close(drawn[0])
    legend = axes.get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    assert "dense reference, misses\na constraint" in names
    assert f"{len(heavy)} not shown" in axes.get_title(loc="left")
    shown_live = scatter(small.rows, small.objectives, 60, 20)
    assert isinstance(shown_live, Text) and "D dense" in shown_live.plain
    notebook = sweep_html(small)
    assert (
        "&#9733;<title>t0000" in notebook and "(dense reference; misses a constraint)" in notebook
    )


def test_a_reference_without_figures_is_not_drawn(tmp_path: Path) -> None:
    small = made_sweep(tmp_path, trials=4)
    path = small.folder.trial("t0000").record_file
    record = small.records[0]
    for changes in ({"status": "failed", "metrics": {}}, {"metrics": {"id_dev/accuracy": 0.9}}):
        path.write_text(record.model_copy(update=changes).model_dump_json())
        assert not small.rows[0].drawn
    path.write_text(record.model_copy(update={"status": "failed", "metrics": {}}).model_dump_json())
    done = rc_sweep("pareto", str(small.path), "--budgets")
    assert "has not finished" in str(done.exception)


def test_without_a_confirmation_there_is_none(tmp_path: Path) -> None:
    plain = made_sweep(tmp_path, trials=4)
    document = json.loads(rc_sweep("pareto", str(plain.path), "--json").stdout)
    assert document["confirmation"] is None


def test_json_refuses_what_the_table_refuses(sweep: StoredSweep) -> None:
    path = str(sweep.path)
    for wrong in ("ood_test/accuracy >= 0.5", "nonsense"):
        done = rc_sweep("pareto", path, "--json", "--where", wrong)
        assert isinstance(done.exception, ConfigError), wrong
    both = rc_sweep("pareto", path, "--why", "t0001", "--budgets")
    assert isinstance(both.exception, InputError)


def test_json_of_why_says_what_the_text_says(sweep: StoredSweep) -> None:
    """Reference of the front: dominance by two loops over what the documents say."""
    found, texts = {}, {}
    for record in sweep.records:
        command = ("pareto", str(sweep.path), "--why", record.id)
        done = rc_sweep(*command, "--json")
        assert done.exit_code == 0, done.output
        found[record.id] = json.loads(done.stdout, parse_constant=pytest.fail)
        texts[record.id] = rc_sweep(*command).output
    part = {i: list(d["values"].values()) for i, d in found.items() if d["excluded"] is None}
    compressed = {i: values for i, values in part.items() if not found[i]["reference"]}
    beaten = {
        i: {j for j, v in compressed.items() if v != values and np.all(np.array(v) >= values)}
        for i, values in part.items()
    }
    front = {i for i in compressed if not beaten[i]}
    assert 0 < len(front) < len(compressed) and len(part) < len(found)
    for i, document in found.items():
        assert document["id"] == i and document["name"] in texts[i]
        assert document["on_front"] is (": on the front: " in texts[i])
        assert {each["id"] for each in document["beaten_by"]} == beaten.get(i, set())
        assert all(each["on_front"] is (each["id"] in front) for each in document["beaten_by"])
        by_dense = document["beaten_by_reference"] is not None
        assert by_dense is ("the dense reference beats it" in texts[i])
        assert document["excluded"] is None or document["excluded"] in texts[i]


def test_names_are_whole_beside_objectives_of_one_s_own(tmp_path: Path) -> None:
    wanted = {f"{role}/balanced_accuracy": "max" for role in ("id_dev", "ood_dev")}
    own = made_sweep(tmp_path, trials=4, objectives=wanted)
    for record in own.records:
        values = record.metrics | {key: record.metric("id_dev/accuracy") for key in wanted}
        path = own.folder.trial(record.id).record_file
        path.write_text(record.model_copy(update={"metrics": values}).model_dump_json())
    output = rc_sweep("pareto", str(own.path)).output
    for record in own.records:
        assert record.id in output and record.name in output
    shown = f"{100 * own.records[1].metric('id_dev/accuracy'):.1f}"
    (line,) = [line for line in output.splitlines() if "t0001" in line]
    assert line.split().count(shown) >= 3, "in percent, as accuracy"


def test_json_of_budgets_says_what_the_table_says(sweep: StoredSweep) -> None:
    done = rc_sweep("pareto", str(sweep.path), "--budgets", "--json")
    assert done.exit_code == 0, done.output
    assert not (sweep.path / "budgets.png").exists(), "nothing is drawn for a program"
    found = json.loads(done.stdout, parse_constant=pytest.fail)["budgets"]
    text = rc_sweep("pareto", str(sweep.path), "--budgets").output
    assert [each["share"] for each in found] == [0.1, 0.25, 0.5, 1.0] * 2
    sizes = [each for each in found if each["measure"] == "footprint/nonzero_parameters"]
    assert sizes[-1]["best"]["id"] in sizes[-1]["front"]
    assert f"{sizes[-1]['best']['ood_difference']:+.1f}" in text
    for each in found:
        assert (each["best"] is None) is (each["fitting"] == 0)
        if each["best"] is not None:
            assert each["best"]["size"] <= each["limit"] and each["best"]["name"] in text
