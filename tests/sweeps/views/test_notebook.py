"""A sweep at the end of a cell shows itself, in the page's own colours, whatever its state."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from rc_core.config import seedless
from rc_core.metrics.footprint import PACKED
from sweeps.api import Sweep
from sweeps.reporting.compare import compare, comparison_text
from sweeps.reporting.facts import Facts
from sweeps.rows import ROUNDED
from sweeps.selection.confirmed import confirmed
from tests.sweeps._made_sweep import make_sweep
from tests.sweeps.reporting._made import confirm_made, made_sweep, write_record


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    storage = tmp_path_factory.mktemp("notebook")
    return Sweep(make_sweep(storage, "shown", trials=30, track=False))


def test_every_trial_that_counts_is_a_mark_that_names_itself(sweep: Sweep) -> None:
    html = sweep._repr_html_()
    tree = ET.fromstring(html)
    shown = [row for row in sweep.rows if row.rank is not None]
    titles = [each.text or "" for each in tree.iter("title")]
    for row in shown:
        assert any(title.startswith(f"{row.id} {row.name}: ") for title in titles)
    assert len(list(tree.iter("circle"))) == len(shown) - 1, "the dense reference is a star"
    filled = [each for each in tree.iter("circle") if each.get("fill") != "none"]
    assert len(filled) == sum((r.on_front or r.candidate) and not r.reference for r in shown)
    cells = {each.text for each in tree.iter("td")}
    assert {record.id for record in sweep.front} <= cells


def test_it_takes_the_pages_colours_and_asks_for_nothing(sweep: Sweep) -> None:
    html = sweep._repr_html_()
    assert "currentColor" in html
    for unwanted in ("<script", "http", "background:#", "color:#", "nan"):
        assert unwanted not in html


@pytest.mark.parametrize("what", ["empty", "broken", "gone", "one objective"])
def test_it_never_raises(tmp_path: Path, what: str) -> None:
    trials = 0 if what == "empty" else 3
    folder = make_sweep(tmp_path, "odd", trials=trials, track=False)
    sweep = Sweep(folder)
    if what == "broken":
        (folder.trials / "t0001" / "record.json").write_text("{")
    elif what == "gone":
        sweep._values.pop("objectives")
    elif what == "one objective":
        sweep._values["objectives"] = {"ood_dev/accuracy": "max"}
    html = sweep._repr_html_()
    ET.fromstring(html)
    assert ("<pre>" in html) == (what in ("broken", "gone"))


def test_sizes_say_that_rounded_weights_count_by_their_bits(tmp_path: Path) -> None:
    made = made_sweep(tmp_path, trials=8)
    confirm_made(made)
    for sweep in (made, made_sweep(tmp_path, trials=4, name="bare")):
        assert ROUNDED not in sweep._repr_html_()
        for record in sweep.records:
            metrics = record.metrics | {PACKED: 1e6}
            write_record(sweep.folder, record.model_copy(update={"metrics": metrics}))
        assert ROUNDED in sweep._repr_html_()
        facts = Facts.read(sweep)
        assert ROUNDED in comparison_text(compare([facts, facts]))


def cells(html: str) -> dict[str, list[str]]:
    """Return id -> the cells of its row."""
    found = {}
    for row in ET.fromstring(html).iter("tr"):
        texts = ["".join(cell.itertext()) for cell in row]
        found[texts[1]] = texts
    return found


def test_new_seeds_come_first_and_every_row_says_of_how_many_it_is(tmp_path: Path) -> None:
    """Reference: means by hand from the records of the confirmation."""
    made = made_sweep(tmp_path, trials=30)
    before = made._repr_html_()
    assert "one seed each" in before and "new" not in before
    confirm_made(made, rows=3)
    html = made._repr_html_()
    shown = cells(html)
    new: dict[str, list[float]] = {}
    by_seedless = {seedless(record.config): record for record in made.records}
    assert made.confirmation is not None
    for record in made.confirmation.records:
        searched = by_seedless[seedless(record.config)]
        new.setdefault(searched.id, []).append(record.metric("ood_dev/accuracy"))
    assert len(new) == 4
    for trial, values in new.items():
        row = shown[trial]
        assert row[3] == f"{len(values)} new"
        mean, _, half = row[5].partition(" \u00b1 ")
        assert float(mean) == pytest.approx(100 * sum(values) / len(values), abs=0.051)
        assert float(half) > 0
        said = next(r for r in made.records if r.id == trial).metric("ood_dev/accuracy")
        assert row[6].endswith(f"/ {100 * said:.1f}")
    alone = [row for trial, row in shown.items() if trial not in new and trial != "id"]
    assert {record.id for record in made.candidates} <= set(shown)
    assert alone and all(row[3] == "1, the search's" and "\u00b1" not in row[5] for row in alone)
    assert "own seed are optimistic" in html and "nan" not in html
    titles = [each.text or "" for each in ET.fromstring(html).iter("title")]
    means = [title for title in titles if title.endswith(", mean of 3 seeds")]
    found = confirmed(made)
    assert found is not None
    chosen = {record.id for record in made.candidates}
    drawn = {r.id for r in found.rows if r.confirmed or r.reference or r.id in chosen}
    assert {title.split()[0] for title in means} == drawn
    marks = [row[0] for trial, row in shown.items() if trial in new]
    assert marks.count("*") == sum(row.confirmed for row in found.rows)
    assert shown["t0000"][7] == "", "the reference is not compared with itself"
