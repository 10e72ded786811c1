"""Names of points in a matplotlib picture, placed once everything else is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from numpy.typing import NDArray

from sweeps.rows import Row
from sweeps.views.placing import Box, Label, Shape, place

_MOST = 40
_STYLE: dict[str, Any] = {
    "fontsize": 9,
    "ha": "center",
    "va": "center",
    "zorder": 4,
    "bbox": {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.75},
}
_TIE = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 6}


def name_points(
    axes: Axes,
    front: Sequence[Row],
    places: Mapping[str, tuple[float, float]],
    *,
    taken: Sequence[Annotation] = (),
) -> None:
    """Label points with id and name, with the id alone if that does not fit, or else not at all.

    Args:
        axes: with everything drawn and its limits set.
        front: rows to label; more than 40 get ids only.
        places: row id -> its place in data coordinates.
        taken: text already drawn.
    """
    figure = axes.figure
    if not front or not isinstance(figure, Figure):
        return
    # Sizes and places in pixels are known only after the layout.
    figure.draw_without_rendering()
    # The middle of the front has the least room, so its ends come first.
    ordered = sorted(front, key=lambda row: places[row.id])
    ordered = [ordered[i] for i in _from_both_ends(len(ordered))]
    left = ordered
    others: list[Annotation] = list(taken)
    for long in (True, False):
        if not long or len(ordered) <= _MOST:
            drawn, left = _name(axes, left, places, others, long=long)
            others += drawn


def _name(
    axes: Axes,
    rows: Sequence[Row],
    places: Mapping[str, tuple[float, float]],
    taken: Sequence[Annotation],
    *,
    long: bool,
) -> tuple[list[Annotation], list[Row]]:
    """Draw the labels that fit; return them and the rows left without one."""
    texts = [f"{row.id} {row.name}" if long else row.id for row in rows]
    sizes = [_size(axes, text) for text in texts]
    corner, far = axes.bbox.p0, axes.bbox.p1
    anchors = axes.transData.transform([places[row.id] for row in rows]) - corner if rows else []
    marks = _marks(axes)
    shape = Shape(
        (float(far[0] - corner[0]), float(far[1] - corner[1])),
        [(float(x), float(y)) for x, y in anchors],
        marks,
        [_inside(each, corner) for each in taken],
    )
    largest = max((radius for _, _, radius in marks), default=0.0)
    found = place([Label(size, radius=largest) for size in sizes], [shape], picky=long)
    points_per_pixel = 72 / axes.figure.dpi
    drawn, left = [], []
    for row, text, each in zip(rows, texts, found, strict=True):
        if not each.clear:
            left.append(row)
            continue
        x, y = (points_per_pixel * length for length in each.offset)
        tie = _TIE if each.lines else None
        drawn.append(
            axes.annotate(text, places[row.id], xytext=(x, y), textcoords="offset points",
                          arrowprops=tie, **_STYLE)
        )  # fmt: skip
    return drawn, left


def _size(axes: Axes, text: str) -> tuple[float, float]:
    """Return a label's width and height in pixels, its box included."""
    probe = axes.annotate(text, (0, 0), xycoords="axes fraction", **_STYLE)
    box = probe.get_window_extent()
    probe.remove()
    return float(box.width) + 6, float(box.height) + 6


def _from_both_ends(count: int) -> list[int]:
    """Return 0, count - 1, 1, count - 2, ..."""
    return [i // 2 if i % 2 == 0 else count - 1 - i // 2 for i in range(count)]


def _inside(name: Annotation, corner: NDArray[np.float64]) -> Box:
    """Return the box of a text relative to the corner of the axes."""
    box = name.get_window_extent()
    x0, y0 = (float(value) for value in box.p0 - corner)
    x1, y1 = (float(value) for value in box.p1 - corner)
    return x0, y0, x1, y1


def _marks(axes: Axes) -> list[tuple[float, float, float]]:
    """Return (x, y, radius) of each point drawn, in pixels."""
    found = []
    scale = axes.figure.dpi / 72
    for collection in axes.collections:
        if isinstance(collection, PathCollection):
            radius = scale * math.sqrt(float(np.max(collection.get_sizes()))) / 2
            spots = axes.transData.transform(collection.get_offsets()) - axes.bbox.p0
            found += [(float(x), float(y), radius) for x, y in spots]
    return found
