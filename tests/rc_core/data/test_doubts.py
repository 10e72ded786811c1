"""What is told of a task that is trained on all the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rc_core.data._assemble import assemble
from rc_core.data._doubts import contradicted, doubts
from rc_core.data._task import Role, Split, Task
from rc_core.errors import DataError

LABELS = ("yes_", "no_")


def split(role: Role, texts: list[str], labels: list[int]) -> Split:
    return Split(role, "x", texts, None, np.array(labels, dtype=np.int64), LABELS)


def task(train: Split, labels: tuple[str, ...] = LABELS) -> Task:
    dev = [split(role, ["d", "e"], [0, 1]) for role in ("id_dev", "ood_dev")]
    return Task("x", labels, (train, *dev))


def test_an_ordinary_task_has_none() -> None:
    # Twice the same row is no contradiction.
    assert doubts(task(split("train", ["a", "b", "b"], [0, 1, 1]))) == []


def test_labels_that_nobody_can_learn_are_named() -> None:
    (line,) = doubts(task(split("train", ["a", "b"], [0, 1]), (*LABELS, "maybe", "never")))
    assert line.startswith("no row of train has the label 'maybe', 'never'")


def test_dev_rows_that_are_trained_on_are_told() -> None:
    """A task of one's own may not take them out, and their accuracy would look fine."""
    lines = doubts(task(split("train", ["a", "b", "d"], [0, 1, 0])))
    assert [line.split(" rows of ")[1].split(" ")[0] for line in lines] == ["id_dev.x", "ood_dev.x"]
    assert lines[0].startswith("1 of 2 rows of id_dev.x (50.0 %) are in train, word for word")
    pairs = replace(split("train", ["d", "b"], [0, 1]), second=["other", "z"])
    dev = [replace(split(r, ["d", "e"], [0, 1]), second=["d", "e"]) for r in ("id_dev", "ood_dev")]
    assert doubts(Task("x", LABELS, (pairs, *dev))) == [], "another pair with the same first text"


def test_a_slice_by_a_column_of_ids_is_told() -> None:
    texts = [f"text {i}" for i in range(201)]
    dev = split("ood_dev", texts, [i % 2 for i in range(201)])
    dev = replace(dev, slices={"id": texts, "topic": [str(i % 200) for i in range(201)]})
    plain = task(split("train", ["a", "b"], [0, 1]))
    (line,) = doubts(replace(plain, splits=(*plain.splits[:2], dev)))
    assert line.startswith("slice 'id' of ood_dev.x has 201 values in 201 rows: each is a metric")


@pytest.mark.parametrize(
    ("limit", "count", "expected"),
    [
        (2, 3, "'maybe': no model learns it; raise task.limit, which leaves no room for it"),
        (2, 4, "'maybe', 'rare': no model learns it; raise task.limit, which leaves no room for"),
        (3, 3, None),
        (None, 3, None),
    ],
)
def test_what_a_limit_takes_away_is_not_blamed_on_the_data(
    limit: int | None, count: int, expected: str | None
) -> None:
    lines = lines_of(limit, count)
    assert len(lines) == (expected is not None)
    assert all(str(expected) in line and "labels are mapped" not in line for line in lines)
    # One that no row ever had is another matter.
    (line,) = lines_of(limit, count, never=("never",))
    assert "remove it from the labels, or check how labels are mapped" in line
    assert ("raise task.limit, which leaves no room for" in line) == (expected is not None)


def lines_of(limit: int | None, count: int, never: tuple[str, ...] = ()) -> list[str]:
    """Return the doubts about a task that has 40 rows of two labels and two of each other one."""
    names = ("yes_", "no_", "maybe", "rare")[:count]
    labels = np.repeat(np.arange(count), [40, 40, 2, 2][:count])
    train = Split("train", "x", [f"t {i}" for i in range(len(labels))], None, labels, names)
    dev = [
        replace(train.take(np.array([0, 40])), role=role, first=[f"{role} a", f"{role} b"])
        for role in ("id_dev", "ood_dev")
    ]
    whole = assemble(
        "x",
        (*names, *never),
        [train, *dev],
        seed=0,
        limit=limit,
        allow_overlap=False,
        notes={},
    )
    return doubts(whole)


def test_a_limit_that_leaves_one_label_is_named() -> None:
    with pytest.raises(DataError) as caught:
        lines_of(1, 3)
    assert str(caught.value) == (
        "task.limit: must leave rows of at least two of train's 3 labels, but is 1, which leaves "
        "only 'yes_'; raise it"
    )


@pytest.mark.parametrize(("twice", "told"), [(1, False), (2, True)])
def test_rows_that_contradict_each_other_are_counted_where_they_are_many(
    twice: int, told: bool
) -> None:
    texts = [f"text {i}" for i in range(400)]
    labels = [i % 2 for i in range(400)]
    train = split(
        "train",
        texts + [f"text {i}" for i in range(twice)],
        labels + [1 - i % 2 for i in range(twice)],
    )
    assert contradicted(train) == 2 * twice
    lines = doubts(task(train))
    assert bool(lines) == told
    if told:
        assert lines[0].startswith("4 of 402 rows of train.x (1.0 %)")
