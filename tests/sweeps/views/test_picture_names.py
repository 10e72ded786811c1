"""Names in the picture of a front do not cover each other, nor run off it."""

from __future__ import annotations

import itertools

import pytest
from matplotlib import pyplot
from matplotlib.text import Annotation

from rc_core.record import TrialRecord
from sweeps.rows import Row, rows
from sweeps.views.picture import _draw_lines
from sweeps.views.picture_names import name_points

OBJECTIVES = {"id_dev/accuracy": "max", "ood_dev/accuracy": "max"}


def made(points: list[tuple[float, float]]) -> list[Row]:
    config = {"compression": {"name": "heads"}, "loss": {"name": "rmc"}}
    records = [
        TrialRecord(
            id=f"t{i:04d}", status="finished", name="heads-28.9 rmc lambda=0.7 alpha=0.8",
            config=config, fingerprint=str(i), started=0.0,
            metrics=dict(zip(OBJECTIVES, point, strict=True)),
        )
        for i, point in enumerate(points)
    ]  # fmt: skip
    return rows(records, OBJECTIVES)


@pytest.mark.parametrize(
    ("points", "num_long", "num_named"),
    [
        ([(0.9, 0.6), (0.9002, 0.5999), (0.9001, 0.5998)], 3, 3),
        ([(0.5, 0.9), (0.95, 0.5)], 2, 2),
        ([(0.7 + 0.002 * i, 0.9 - 0.002 * i) for i in range(30)], 1, 10),
        ([(0.7 + 0.002 * i, 0.9 - 0.002 * i) for i in range(41)], 0, 10),
    ],
    ids=["near", "corners", "many", "too many for names"],
)
def test_names_are_whole_and_apart(
    points: list[tuple[float, float]], num_long: int, num_named: int
) -> None:
    found = made(points)
    figure, axes = pyplot.subplots(figsize=(8, 6), dpi=100, layout="constrained")
    try:
        xs, ys = zip(*points, strict=True)
        axes.scatter(xs, ys, s=200)
        axes.margins(0.12)
        note = axes.annotate("majority class", points[0], xytext=(10, 10),
                             textcoords="offset points")  # fmt: skip
        name_points(axes, found, dict(zip((r.id for r in found), points, strict=True)),
                    taken=[note])  # fmt: skip
        figure.canvas.draw()
        names = [text for text in axes.texts if isinstance(text, Annotation)]
        # The arrow is part of an annotation's extent: only the text itself is asked.
        boxes = [text.get_bbox_patch() for text in names if text is not note]
        extents = [box.get_window_extent() for box in boxes if box is not None]
        extents.append(note.get_window_extent())
        assert not any(a.overlaps(b) for a, b in itertools.combinations(extents, 2))
        frame = axes.get_window_extent()
        for box in extents:
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1
            assert frame.y0 <= box.y0 and box.y1 <= frame.y1
    finally:
        pyplot.close(figure)
    written = [text.get_text() for text in names if text is not note]
    assert len(written) == len({text.split()[0] for text in written}) >= num_named
    assert sum("heads" in text for text in written) >= num_long
    if not num_long:
        assert not any("heads" in text for text in written)


@pytest.mark.parametrize(("crowded", "end"), [(0.5, "top"), (0.9, "bottom")])
def test_the_name_of_an_upright_line_keeps_off_the_trials(crowded: float, end: str) -> None:
    places = [(93.8 - i / 100, 100 * crowded + i / 10) for i in range(5)] + [(70.0, 50), (96.0, 92)]
    figure, axes = pyplot.subplots(figsize=(8, 6), dpi=100, layout="constrained")
    try:
        xs, ys = zip(*places, strict=True)
        axes.scatter(xs, ys, s=100)
        floors = {"id_dev": {"majority": 0.5, "bag_of_words": 0.94}}
        (name,) = _draw_lines(axes, list(OBJECTIVES), floors, places)
        figure.canvas.draw()
        box, frame = name.get_window_extent(), axes.get_window_extent()
        assert frame.y0 <= box.y0 and box.y1 <= frame.y1
        assert (box.y0 > frame.y0 + frame.height / 2) == (end == "top")
        spots = axes.transData.transform(places)
        assert not any(box.contains(*spot) for spot in spots)
    finally:
        pyplot.close(figure)
