"""Places the labels of points in a picture: beside their points, clear of each other.

Each label takes the cheapest of a few dozen places around its point, the most important label
first. Nothing is random, so the same picture is always drawn the same way. One choice may have to
serve several shapes of a picture (a desktop and a phone screen): the one with the least worst cost
is taken. Lengths are in the units of the drawing (pixels), y points up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
# Left, bottom, right, top.
Box = tuple[float, float, float, float]

# How far a label above or below its point is shifted sideways, in halves of its width.
_SHIFTS = (0.0, 0.15, -0.15, 0.3, -0.3, 0.6, -0.6, 1.0, -1.0)
_GAP = 3.0
# Covering another label is worse than covering any number of marks; being cut off is worse still.
_CUT, _OVER_LABEL, _OVER_MARK, _CROSSING, _STRUCK, _FAR = 1e6, 1e4, 40.0, 400.0, 15.0, 0.4


@dataclass(frozen=True)
class Label:
    """A label to place.

    Attributes:
        size: width and height.
        radius: of the mark it belongs to.
    """

    size: tuple[float, float]
    radius: float = 8.0


@dataclass(frozen=True)
class Shape:
    """One shape of the picture.

    Attributes:
        frame: width and height of the drawing area; its lower left corner is the origin.
        anchors: each label's point.
        marks: (x, y, radius) of all points, labelled or not.
        taken: boxes that already hold text.
    """

    frame: tuple[float, float]
    anchors: Sequence[Point]
    marks: Sequence[tuple[float, float, float]] = ()
    taken: Sequence[Box] = field(default_factory=tuple)


@dataclass(frozen=True)
class Place:
    """Where a label stands.

    Attributes:
        offset: of the label's centre from its point.
        clear: whether it covers no other label and is not cut off, in any shape. A label that is
            not clear should not be drawn; others ignore it.
        lines: whether it is so far away that it needs a line to its point.
    """

    offset: Point
    clear: bool
    lines: bool


def place(
    labels: Sequence[Label],
    shapes: Sequence[Shape],
    *,
    distances: Sequence[float] = (4.0, 18.0, 36.0, 60.0, 90.0),
    picky: bool = False,
) -> list[Place]:
    """Return a place for each label, in the order given.

    Args:
        labels: the most important first.
        shapes: of the picture; each has one anchor per label.
        distances: to try between the edges of label and mark, the nearest first.
        picky: whether a clear label must also cover no mark and cross no line.
    """
    placed: list[list[tuple[Box, Point, Point]]] = [[] for _ in shapes]
    marks = [np.array(shape.marks, dtype=np.float64).reshape(-1, 3) for shape in shapes]
    found = []
    for index, label in enumerate(labels):
        options = []
        for order, (offset, distance) in enumerate(_offsets(label, distances)):
            costs = [
                _cost(
                    _box(shape.anchors[index], offset, label.size),
                    shape,
                    index,
                    others,
                    spots,
                    near=distance == distances[0],
                )
                for shape, others, spots in zip(shapes, placed, marks, strict=True)
            ]
            options.append((max(costs) + _FAR * distance, order, offset, distance))
        cost, _, offset, distance = min(options)
        limit = _OVER_MARK if picky else _OVER_LABEL
        clear = cost - _FAR * distance < limit
        found.append(Place(offset, clear, distance > distances[0]))
        if not clear:
            continue  # It will not be drawn, so others need not keep clear of it.
        for shape, others in zip(shapes, placed, strict=True):
            anchor = shape.anchors[index]
            centre = (anchor[0] + offset[0], anchor[1] + offset[1])
            others.append((_box(anchor, offset, label.size), anchor, centre))
    return found


def overlap(first: Box, second: Box) -> float:
    """Return the area that two boxes share."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0.0) * max(height, 0.0)


def _offsets(label: Label, distances: Sequence[float]) -> Iterator[tuple[Point, float]]:
    """Yield offsets of the centre, each with the distance of the edge from the mark."""
    width, height = label.size[0] / 2, label.size[1] / 2
    for distance in distances:
        reach = label.radius + distance
        aside = 0.7 * reach
        for y in (reach + height, -reach - height):
            yield from (((shift * width, y), distance) for shift in _SHIFTS)
        for x in (-reach - width, reach + width):
            yield from (((x, shift * height), distance) for shift in (0.0, 1.6, -1.6))
        for x in (-aside - width, aside + width):
            yield from (((x, y), distance) for y in (aside + height, -aside - height))


def _box(anchor: Point, offset: Point, size: Point) -> Box:
    x, y = anchor[0] + offset[0], anchor[1] + offset[1]
    return x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2


def _cost(
    box: Box,
    shape: Shape,
    index: int,
    others: Sequence[tuple[Box, Point, Point]],
    marks: NDArray[np.float64],
    *,
    near: bool,
) -> float:
    roomy = (box[0] - _GAP, box[1] - _GAP, box[2] + _GAP, box[3] + _GAP)
    whole = (box[2] - box[0]) * (box[3] - box[1])
    cost = 0.0
    inside = overlap(box, (0.0, 0.0, *shape.frame))
    if inside < whole - 1e-6:
        cost += _CUT * (2 - inside / whole)
    for other in [*shape.taken, *(each for each, _, _ in others)]:
        shared = overlap(roomy, other)
        if shared > 0:
            cost += _OVER_LABEL * (1 + shared / whole)
    anchor = shape.anchors[index]
    centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    for other, tail, head in others:
        cost += _CROSSING * (_hits(roomy, tail, head) + _hits(other, anchor, centre))
    tie = 0 if near else _struck(anchor, centre, marks)
    return cost + _OVER_MARK * _covered(box, marks) + _STRUCK * tie


def _covered(box: Box, marks: NDArray[np.float64]) -> int:
    """Return how many marks a box covers at least partly."""
    x, y, radius = marks.T
    inside = (x + radius > box[0]) & (x - radius < box[2])
    return int((inside & (y + radius > box[1]) & (y - radius < box[3])).sum())


def _struck(start: Point, end: Point, marks: NDArray[np.float64]) -> int:
    """Return how many marks, other than the one at its start, a straight line crosses."""
    line = np.array(end) - start
    apart = marks[:, :2] - start
    along = np.clip(apart @ line / max(float(line @ line), 1e-9), 0.0, 1.0)
    distances = np.linalg.norm(apart - along[:, None] * line, axis=1)
    # The line starts in its own mark; that one, and marks on top of it, do not count.
    return int(((distances < marks[:, 2]) & (np.abs(apart).max(axis=1) > marks[:, 2])).sum())


def _hits(box: Box, start: Point, end: Point) -> bool:
    """Tell whether a straight line passes through a box."""
    first, last = 0.0, 1.0
    for axis in (0, 1):
        length = end[axis] - start[axis]
        low, high = box[axis] - start[axis], box[axis + 2] - start[axis]
        if length == 0:
            if not low < 0 < high:
                return False
            continue
        enters, leaves = sorted((low / length, high / length))
        first, last = max(first, enters), min(last, leaves)
        if first >= last:
            return False
    return True
