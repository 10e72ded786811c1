"""A sweep at the end of a cell shows itself, in the page's own colours, whatever its state."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from sweeps.sweep import Sweep
from tests.sweeps._made_sweep import make_sweep


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
