"""What the front's figure shows besides trials: its limits, lines, means and labels.

The labels of the model to take and of the dense reference are placed clear of each other, of other
text and, where there is room, of the trials (sweeps/views/placing.py). As a page is as wide as its
window, one position serves all desktop widths, another all phones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rc_core.metrics._floors import NAMES
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.reporting.doubt import doubts
from sweeps.reporting.facts import Facts
from sweeps.reporting.style import Style, escaped, scale, short, variable
from sweeps.views.placing import Box, Label, Point, Shape, place

Places = Mapping[str, Point]

# With more configurations than this, intervals hide each other: then only the confirmed ones, the
# one to take and the reference have theirs drawn.
MOST_BARS = 8
# Widths and heights of the plot area, in windows of 660 to 1200 pixels and of 320 to 560; page.js
# sets the height of a figure on a phone.
_WIDE = ((500.0, 474.0), (700.0, 474.0), (975.0, 474.0))
_NARROW = ((200.0, 250.0), (270.0, 323.0), (440.0, 474.0))
# Width per character at 13 pixels, system-ui, measured in Chromium and rounded up; a label's box.
_PLAIN, _BOLD, _PADDING, _HEIGHT = 7.2, 8.2, 8.0, 24.0
_SMALL_PLAIN, _SMALL_HEIGHT = 6.6, 18.0
_STEPS = 12
# In the units shown: smaller differences count as none.
_ALIKE = 1e-5


@dataclass(frozen=True)
class Mean:
    """A configuration's means over seeds that played no part in the choice, in the units shown.

    Attributes:
        spot: means on both axes.
        halves: half widths of their intervals, 0 if unknown.
        barred: whether the intervals are drawn.
    """

    spot: Point
    halves: Point
    barred: bool


@dataclass(frozen=True)
class Frame:
    """The limits of both axes."""

    x: tuple[float, float]
    y: tuple[float, float]

    def within(self, at: Point, size: Point) -> Point:
        """Return the position of a point, in pixels from the lower left of a plot of `size`."""
        x = (at[0] - self.x[0]) / (self.x[1] - self.x[0]) * size[0]
        y = (at[1] - self.y[0]) / (self.y[1] - self.y[0]) * size[1]
        return x, y


def front_axes(facts: Facts) -> tuple[str, str]:
    """Return the metrics of both axes: the first two objectives, or one and an accuracy."""
    names = [*facts.objectives, ID_KEY, OOD_KEY]
    first, second = list(dict.fromkeys(names))[:2]
    return first, second


def front_means(facts: Facts, places: Places) -> dict[str, Mean]:
    """Return id -> means over seeds that played no part in the choice, for `places`."""
    names = front_axes(facts)
    found = {}
    few = len(facts.confirmed_rows) <= MOST_BARS
    for row in facts.confirmed_rows:
        if any(name not in row.estimates for name in names) or row.id not in places:
            continue
        means = [row.estimates[name] for name in names]
        if any(math.isnan(mean.mean) for mean in means):
            continue
        x, y = (mean.mean * scale(name) for mean, name in zip(means, names, strict=True))
        half_x, half_y = (
            0.0 if math.isnan(mean.half_width) else mean.half_width * scale(name)
            for mean, name in zip(means, names, strict=True)
        )
        matters = few or row.confirmed or row.reference or row.id == facts.knee
        found[row.id] = Mean((x, y), (half_x, half_y), matters)
    return found


def frame_of(places: Places, means: Mapping[str, Mean]) -> Frame:
    """Return limits that hold all trials and means with the intervals that are drawn.

    There is extra room at the top for the labels of the best.
    """
    limits = []
    for i in range(2):
        values = [spot[i] for spot in places.values()]
        for mean in means.values():
            half = mean.halves[i] if mean.barred else 0.0
            values += [mean.spot[i] - half, mean.spot[i] + half]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        span = high - low
        if span < _ALIKE:
            # Means of equal accuracies may differ in the last digit, which no axis could show.
            span = max(abs(high), 1.0)
        above = 0.05 if i == 0 else 0.14
        limits.append((round(low - 0.05 * span, 6), round(high + above * span, 6)))
    return Frame(limits[0], limits[1])


def guides(
    facts: Facts, frame: Frame, places: Places, means: Mapping[str, Mean], style: Style
) -> dict[str, Any]:
    """Return lines for the reference and the trivial baselines, and labels for the main models.

    The model to take is labelled at its mean over new seeds, if it has any.
    """
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    reference, chosen = facts.reference, facts.chosen
    dense: Point | None = None
    if reference is not None and reference.id in places:
        # Among a design's means the reference is drawn at its mean too.
        over_seeds = facts.own_seeds and reference.id in means
        dense = means[reference.id].spot if over_seeds else places[reference.id]
        for key, value in zip("xy", dense, strict=True):
            shapes.append(_line(key, value, "ink", "dot"))
    written: list[tuple[str, float, str]] = []
    for i, name in enumerate(front_axes(facts)):
        for line, value in lines_in_range(facts, name, [spot[i] for spot in places.values()]):
            text = f"{NAMES.get(line, line)} {value:.0f} %"
            shapes.append(_line("xy"[i], value, "bad", "dash"))
            notes.append(_line_name("xy"[i], value, text, right=_right_of(frame, value)))
            written.append(("xy"[i], value, text))
    named: list[tuple[Point, str, bool]] = []
    if chosen is not None and chosen.id in places:
        spot = means[chosen.id].spot if chosen.id in means else places[chosen.id]
        named.append((spot, f"{'knee' if doubts(facts) else 'take'} {chosen.id}", True))
    wide = list(named)
    if dense is not None:
        # On a phone the legend's star is enough.
        wide.append((dense, "dense reference", False))
    sizes = {row.id: style.size(row) for row in facts.rows}
    marks = [(spot, sizes[key] / 2) for key, spot in places.items()]
    marks += [
        (mean.spot, sizes[key] / 2 if facts.own_seeds else 5.0) for key, mean in means.items()
    ]
    marks += [(spot, 2.0) for mean in means.values() if mean.barred for spot in _along(mean)]
    for group, kind, windows in ((wide, "wide-only", _WIDE), (named, "narrow-only", _NARROW)):
        shapes_of = [_shape(frame, size, group, marks, written) for size in windows]
        labels = [Label((_width(text, bold), _HEIGHT)) for _, text, bold in group]
        for (spot, text, bold), found in zip(group, place(labels, shapes_of), strict=True):
            shown = f"<b>{escaped(text)}</b>" if bold else escaped(text)
            notes.append(_note(spot, shown, found.offset) | {"name": kind})
    return {"shapes": shapes, "annotations": notes}


def lines_in_range(facts: Facts, metric: str, values: Sequence[float]) -> list[tuple[str, float]]:
    """Return (name, percent) of a role's best trivial baseline, if it is near the trials."""
    role, _, what = metric.partition("/")
    found = facts.lines.get(role, {})
    if what != "accuracy" or not found or not values:
        return []
    best = max(found, key=lambda name: found[name])
    low, high = min(values), max(values)
    margin = 0.1 * (high - low)
    value = 100 * found[best]
    return [(best, value)] if low - margin <= value <= high + margin else []


def _along(mean: Mean) -> list[Point]:
    """Return points along the intervals of a mean."""
    shares = [i / _STEPS for i in range(-_STEPS, _STEPS + 1)]
    (x, y), (half_x, half_y) = mean.spot, mean.halves
    return [(x + share * half_x, y) for share in shares] + [(x, y + s * half_y) for s in shares]


def _shape(
    frame: Frame,
    size: Point,
    named: Sequence[tuple[Point, str, bool]],
    marks: Sequence[tuple[Point, float]],
    written: Sequence[tuple[str, float, str]],
) -> Shape:
    """Return the geometry of the figure in a window of one size."""
    # Marks are smaller on a phone, as in page.js.
    smaller = 0.65 if size in _NARROW else 1.0
    taken = []
    for key, value, text in written:
        width = _SMALL_PLAIN * len(text) + 4
        x, y = frame.within((value, value), size)
        box: Box = (0.0, y, width, y + _SMALL_HEIGHT)
        if key == "x":
            left = x + 4 if _right_of(frame, value) else x - width - 4
            box = (left, size[1] - _SMALL_HEIGHT, left + width, size[1])
        taken.append(box)
    return Shape(
        size,
        [frame.within(spot, size) for spot, _, _ in named],
        [(*frame.within(spot, size), smaller * radius) for spot, radius in marks],
        taken,
    )


def _width(text: str, bold: bool) -> float:
    return (_BOLD if bold else _PLAIN) * len(text) + _PADDING


def _line(key: str, value: float, colour: str, dash: str) -> dict[str, Any]:
    ends = {"x0": value, "x1": value, "y0": 0, "y1": 1, "yref": "paper", "xref": "x"}
    if key == "y":
        ends = {"y0": value, "y1": value, "x0": 0, "x1": 1, "xref": "paper", "yref": "y"}
    style = {"color": variable(colour), "width": 1, "dash": dash}
    return {"type": "line", "layer": "below", "line": style, "opacity": 0.8, **ends}


def _right_of(frame: Frame, value: float) -> bool:
    """Tell whether a vertical line's name goes to its right, where there is more room."""
    return value < sum(frame.x) / 2


def _line_name(key: str, value: float, text: str, *, right: bool) -> dict[str, Any]:
    place: dict[str, Any] = {"x": 0, "xref": "paper", "xanchor": "left", "y": value, "yshift": 9}
    if key == "x":
        place = {"y": 1, "yref": "paper", "yanchor": "top", "x": value,
                 "xanchor": "left" if right else "right", "xshift": 4 if right else -4}  # fmt: skip
    font = {"color": variable("bad"), "size": 12}
    return {"text": escaped(text), "showarrow": False, "font": font, **place}


def _note(spot: Point, text: str, offset: Point) -> dict[str, Any]:
    """Return a label; `offset` is to its centre, with y upwards."""
    return {
        "x": short(spot[0], 6),
        "y": short(spot[1], 6),
        "text": text,
        "showarrow": True,
        "arrowhead": 0,
        "arrowwidth": 1,
        "standoff": 9,
        "arrowcolor": variable("soft"),
        "ax": round(offset[0]),
        "ay": -round(offset[1]),
        "xanchor": "center",
        "yanchor": "middle",
        "font": {"color": variable("ink"), "size": 13},
        "bgcolor": variable("paper"),
        "opacity": 0.92,
        "borderpad": 2,
    }
