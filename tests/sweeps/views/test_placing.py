"""Names stand beside their points, whatever the points are."""

from __future__ import annotations

import itertools
import random

import pytest

from sweeps.views.placing import Box, Label, Place, Shape, _hits, overlap, place


def boxes(labels: list[Label], shape: Shape, found: list[Place]) -> list[Box]:
    made = []
    for label, anchor, each in zip(labels, shape.anchors, found, strict=True):
        x, y = anchor[0] + each.offset[0], anchor[1] + each.offset[1]
        width, height = label.size
        made.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return made


@pytest.mark.parametrize(
    "anchors",
    [
        [(200.0, 200.0), (200.0, 200.0)],
        [(200.0, 200.0), (203.0, 192.0)],
        [(4.0, 4.0), (10.0, 8.0)],
        [(398.0, 298.0), (390.0, 290.0)],
        [(0.0, 150.0), (399.0, 150.0)],
    ],
    ids=["same", "near", "lower left", "upper right", "edges"],
)
def test_two_labels_are_whole_and_clear_of_each_other(anchors: list[tuple[float, float]]) -> None:
    labels = [Label((110, 22)), Label((90, 22))]
    taken = [(0.0, 140.0, 120.0, 160.0)]
    marks = [(x, y, 8.0) for x, y in anchors]
    shape = Shape((400, 300), anchors, marks, taken)
    found = place(labels, [shape])
    assert all(each.clear for each in found)
    made = boxes(labels, shape, found)
    assert overlap(*made) == 0
    for box, label in zip(made, labels, strict=True):
        assert overlap(box, (0, 0, 400, 300)) == pytest.approx(label.size[0] * label.size[1])
        assert overlap(box, taken[0]) == 0


def test_a_free_point_is_named_right_above_it() -> None:
    (found,) = place([Label((60, 20), 8)], [Shape((400, 300), [(200, 150)], [(200, 150, 8)])])
    assert found.offset == pytest.approx((0, 8 + 4 + 10)) and found.clear and not found.lines


def test_marks_are_left_free_where_there_is_room() -> None:
    """A wall of marks above the point: its name goes elsewhere."""
    wall = [(x, 170.0, 6.0) for x in range(100, 301, 10)]
    labels, shape = [Label((60, 20))], Shape((400, 300), [(200, 150)], wall)
    found = place(labels, [shape])
    (box,) = boxes(labels, shape, found)
    assert found[0].clear and found[0].offset[1] < 5
    assert not any(overlap(box, (x - r, y - r, x + r, y + r)) for x, y, r in wall)


def test_one_choice_does_for_every_shape() -> None:
    labels = [Label((100, 20)), Label((100, 20))]
    shapes = [
        Shape((900, 500), [(700, 250), (760, 260)]),
        Shape((260, 320), [(180, 160), (200, 166)]),
    ]
    found = place(labels, shapes)
    for shape in shapes:
        made = boxes(labels, shape, found)
        assert overlap(*made) == 0
        assert all(b[0] >= 0 and b[2] <= shape.frame[0] for b in made)


def test_a_crowd_says_what_did_not_fit() -> None:
    """Reference: pairwise overlaps of what is called clear."""
    rng = random.Random(1)
    anchors = [(rng.uniform(180, 220), rng.uniform(130, 170)) for _ in range(40)]
    labels = [Label((120, 20)) for _ in anchors]
    shape = Shape((400, 300), anchors, [(*a, 6.0) for a in anchors])
    found = place(labels, [shape])
    made = boxes(labels, shape, found)
    kept = [box for box, each in zip(made, found, strict=True) if each.clear]
    assert 4 <= len(kept) < 40
    assert all(overlap(a, b) == 0 for a, b in itertools.combinations(kept, 2))
    assert place(labels, [shape]) == found
    picky = place(labels, [shape], picky=True)
    free = [box for box, each in zip(boxes(labels, shape, picky), picky, strict=True) if each.clear]
    assert 1 <= len(free) < len(kept)
    assert not any(
        overlap(box, (x - r, y - r, x + r, y + r)) for box in free for x, y, r in shape.marks
    )


def test_a_line_passes_through_a_box_or_not() -> None:
    """Reference: a thousand points along the line."""
    rng = random.Random(3)
    box = (20.0, 30.0, 60.0, 50.0)
    hits = 0
    for _ in range(400):
        start, end = ((rng.uniform(0, 80), rng.uniform(0, 80)) for _ in range(2))
        if rng.random() < 0.2:
            end = (start[0], end[1])
        steps = [i / 1_000 for i in range(1_001)]
        points = [tuple(a + t * (b - a) for a, b in zip(start, end, strict=True)) for t in steps]
        expected = any(box[0] < x < box[2] and box[1] < y < box[3] for x, y in points)
        assert _hits(box, start, end) == expected
        hits += expected
    assert 50 < hits < 350
