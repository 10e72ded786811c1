"""The names in the front's figure: where new seeds put the model to take, apart from each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sweeps.api import Sweep
from sweeps.reporting.doubt import doubts
from sweeps.reporting.facts import Facts
from sweeps.reporting.figure_front import front_figure
from sweeps.reporting.front_notes import MOST_BARS, frame_of
from sweeps.reporting.sections_top import front_section
from sweeps.reporting.style import Style, metric_title
from sweeps.views import picture
from tests.sweeps.reporting._made import confirm_made, made_sweep, write_record

CLOUD = [(0.85 + 0.006 * i, 0.5 + 0.009 * (i * 7 % 12)) for i in range(12)]
LAYOUTS = {
    "near dense": [(0.952, 0.64), (0.9525, 0.642), (0.95, 0.63), *CLOUD],
    "on dense": [(0.952, 0.64), (0.952, 0.64), *CLOUD],
    "corner": [(0.9, 0.7), (0.98, 0.9), (0.7, 0.5), (0.5, 0.2)],
    "left": [(0.98, 0.52), (0.7, 0.8), (0.72, 0.52), (0.71, 0.51)],
    "many": [(0.95, 0.9), *((0.7 + i / 100, 0.92 - 0.3 * (i / 24) ** 2) for i in range(25))],
    "two": [(0.9, 0.6), (0.9, 0.6)],
}


def laid_out(storage: Path, points: list[tuple[float, float]]) -> Sweep:
    """Write a sweep whose trials lie at these ID and OOD accuracies, the reference first."""
    sweep = made_sweep(storage, trials=len(points))
    for record, (inside, outside) in zip(sweep.records, points, strict=True):
        metrics = dict(record.metrics) | {"id_dev/accuracy": inside, "ood_dev/accuracy": outside}
        write_record(sweep.folder, record.model_copy(update={"metrics": metrics}))
    return sweep


def figure_of(sweep: Sweep) -> tuple[Facts, dict[str, Any]]:
    facts = Facts.read(sweep)
    return facts, front_figure(facts, Style.of(facts.rows))


def test_axes_say_in_what_they_count_and_means_have_digits_enough(tmp_path: Path) -> None:
    """By hand: 0.04 of 1, and millions of parameters; a tenth would be all of either."""
    objectives = {"ood_dev/x/accuracy": "max", "ood_dev/calibration_error": "min"}
    sweep = made_sweep(tmp_path, trials=6, objectives=objectives)
    confirm_made(sweep)
    assert sweep.confirmation is not None
    for folder, records in (
        (sweep.folder, sweep.records),
        (sweep.confirmation.folder, sweep.confirmation.records),
    ):
        for record in records:
            outside = record.metric("ood_dev/accuracy")
            new = {"ood_dev/x/accuracy": outside, "ood_dev/calibration_error": 0.05 * outside}
            update = {"metrics": {**record.metrics, **new}}
            write_record(folder, record.model_copy(update=update))
    facts, figure = figure_of(Sweep(sweep.folder))
    assert figure["layout"]["xaxis"]["title"]["text"] == "ood_dev/x/accuracy (%)"
    assert figure["layout"]["yaxis"]["title"]["text"] == "ood_dev/calibration_error"
    assert "The front: ood_dev/x/accuracy against ood_dev/calib" in str(
        front_section(facts, Style.of(facts.rows)).title
    )
    means = [t for t in figure["data"] if t.get("meta", {}).get("confirmed")]
    assert means
    for trace in means:
        assert re.search(r"ood_dev/calibration_error: 0\.0\d{2,} \u00b1 0\.00\d", trace["text"][0])
    assert metric_title("footprint/parameters") == "footprint/parameters (M)"
    assert picture._title("ood_dev/x/accuracy") == "ood_dev/x/accuracy (%)"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("width", [560, 800, 975])
def test_both_names_are_whole_and_apart(tmp_path: Path, layout: str, width: float) -> None:
    facts, figure = figure_of(laid_out(tmp_path, LAYOUTS[layout]))
    shown = figure["layout"]
    notes = [each for each in shown["annotations"] if each.get("name") == "wide-only"]
    # In these two the choice is below a trivial baseline, so no model is recommended.
    word = "knee" if layout in ("left", "two") else "take"
    assert bool(doubts(facts)) == (word == "knee")
    assert [f"<b>{word} t" in note["text"] for note in notes] == [True, False]
    boxes = []
    for note in notes:
        (left, right), (low, high) = shown["xaxis"]["range"], shown["yaxis"]["range"]
        x = (note["x"] - left) / (right - left) * width + note["ax"]
        y = (high - note["y"]) / (high - low) * 474 + note["ay"]
        half = 3.5 * len(note["text"].replace("<b>", "").replace("</b>", "")) + 3
        boxes.append((x - half, y - 11, x + half, y + 11))
        assert x - half >= 0 and x + half <= width and y - 11 >= 0 and y + 11 <= 474
    a, b = boxes
    assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_a_phone_has_the_model_to_take_alone(tmp_path: Path) -> None:
    _, figure = figure_of(laid_out(tmp_path, LAYOUTS["near dense"]))
    names = [each["text"] for each in figure["layout"]["annotations"]
             if each.get("name") == "narrow-only"]  # fmt: skip
    assert len(names) == 1 and "take" in names[0]


def test_the_model_to_take_is_named_where_new_seeds_put_it(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=30)
    confirm_made(sweep, rows=3)
    facts, figure = figure_of(sweep)
    own = next(row for row in facts.confirmed_rows if row.id == facts.knee)
    note = next(each for each in figure["layout"]["annotations"] if "take" in each["text"])
    assert facts.knee is not None and facts.knee in note["text"]
    assert note["x"] == pytest.approx(100 * own.estimates["id_dev/accuracy"].mean, abs=1e-3)
    assert note["y"] == pytest.approx(100 * own.estimates["ood_dev/accuracy"].mean, abs=1e-3)


def test_intervals_of_many_are_drawn_for_those_that_matter(tmp_path: Path) -> None:
    sweep = laid_out(tmp_path, LAYOUTS["many"])
    confirm_made(sweep, rows=20)
    facts, figure = figure_of(sweep)
    assert len(facts.confirmed_rows) > MOST_BARS
    means = [each for each in figure["data"] if each.get("meta", {}).get("confirmed")]
    assert len(means) == len(facts.confirmed_rows)
    barred = {each["text"][0].split()[0] for each in means if each["error_y"]["visible"]}
    expected = {r.id for r in facts.confirmed_rows if r.confirmed or r.reference} | {facts.knee}
    assert barred == expected and len(barred) < len(means)
    low, high = figure["layout"]["yaxis"]["range"]
    for each in means:
        if each["error_y"]["visible"]:
            half = each["error_y"]["array"][0]
            assert low <= each["y"][0] - half and each["y"][0] + half <= high


@pytest.mark.parametrize("values", [(46.6, 46.6), (46.6, 46.6 + 1e-13), (0.0, 0.0), (0.0, 1e-9)])
def test_values_that_are_alike_have_axes_of_some_width(values: tuple[float, float]) -> None:
    """Models that all answer the majority class: rungs weigh suites in another order than ends."""
    frame = frame_of({f"t{i}": (value, value) for i, value in enumerate(values)}, {})
    assert frame.x[0] < values[0] < frame.x[1] and frame.y[0] < values[1] < frame.y[1]
    assert all(0 < part < 100 for part in frame.within((values[0], values[1]), (100.0, 100.0)))
