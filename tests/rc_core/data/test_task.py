"""What every task must hold, how labels collapse, which samples are the headline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rc_core.data._task import Split, Task, check_task
from rc_core.errors import DataError


def split(role: Any, *, suite: str = "s", labels: Any = (0, 1), **others: Any) -> Split:
    number = len(labels)
    values: dict[str, Any] = {
        "first": [f"{role} {i}" for i in range(number)],
        "second": None,
        "labels": np.array(labels, np.int64),
        "label_names": ("yes", "no"),
    }
    return Split(role, suite, **(values | others))


def task(*splits: Split) -> Task:
    return Task("t", ("yes", "no"), splits or (split("train"), split("id_dev"), split("ood_dev")))


def problems(given: Task) -> list[str]:
    with pytest.raises(DataError) as caught:
        check_task(given)
    return [str(problem) for problem in caught.value.problems]


def test_a_sound_task_passes() -> None:
    assert check_task(task()).train.role == "train"
    assert task().id_dev.role == "id_dev"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (split("ood_dev", labels=()), "must hold samples, but is empty"),
        (split("ood_dev", labels=(1, 1)), "at least two labels, but has only 'no'"),
        (
            split("ood_dev", first=["x", " "]),
            "1 sample has an empty first text (first: sample 1 of the split, counted from 0)",
        ),
        (
            split("ood_dev", second=["", ""]),
            "2 samples have an empty second text (first: sample 0 of the split, counted from 0)",
        ),
        (
            split("ood_dev", label_names=("yes", "never")),
            "labels ['never'] are reached by none of the task's labels ['yes', 'no']",
        ),
        # Data sets say -1 for no label: as a position it is the last.
        (
            split("ood_dev", labels=(0, 1, -1, -1)),
            "labels must be positions in ['yes', 'no'], but 2 are -1; leave out samples without",
        ),
        (split("ood_dev", suite="a/b"), "must be text without '/', but is 'a/b'"),
        (split("ood_dev", labels=(0, 2)), "positions in ['yes', 'no'], but 1 are 2"),
        (
            split("ood_dev", merge={"nope": "no"}),
            "merge must lead from labels of the task ['yes', 'no'], but names ['nope']",
        ),
        (
            split("ood_dev", slices={"kind": ["a", "b"]}, headline=("kind", "c")),
            "none has 'c' in 'kind'; its slices are ['kind']",
        ),
        (
            split("ood_dev", headline=("sort", "c")),
            "none has 'c' in 'sort'; its slices are []",
        ),
    ],
)
def test_what_is_wrong_with_a_split_is_said(changed: Split, message: str) -> None:
    found = problems(task(split("train"), split("id_dev"), changed))
    assert len(found) == 1
    assert found[0].startswith(f"task.{changed.name}: ")
    assert message in found[0]


def test_a_merge_into_a_label_that_the_suite_lacks_is_told() -> None:
    """What is predicted so would be wrong every time."""
    three = ("entailment", "neutral", "contradiction")
    merge = {"neutral": "not", "contradiction": "nott"}
    splits = [split(r, label_names=three) for r in ("train", "id_dev")]
    hans = split("ood_dev", label_names=("entailment", "not"), merge=merge)
    (found,) = problems(Task("t", three, (*splits, hans)))
    assert "merge must lead to labels of the suite ['entailment', 'not'], but names ['nott']" in (
        found
    )


@pytest.mark.parametrize("role", ["train", "id_dev"])
def test_labels_that_are_read_by_position_are_in_the_task_s_order(role: str) -> None:
    """Else the loss would teach each label as the other, and nothing would say so."""
    base: dict[str, Split] = {each.role: each for each in task().splits}
    swapped = replace(base[role], label_names=("no", "yes"))
    (found,) = problems(task(*(base | {role: swapped}).values()))
    assert found.startswith(f"task.{role}.s: must have the task's labels ['yes', 'no'] in their")
    ood = replace(base["ood_dev"], label_names=("no", "yes"))
    check_task(task(*(base | {"ood_dev": ood}).values()))


@pytest.mark.parametrize("given", [np.array([0, 1]), np.array([True]), np.array([[True], [False]])])
def test_what_conflicts_with_the_bias_is_true_or_false_of_each_sample(given: Any) -> None:
    """Zeros and ones would pick rows 0 and 1."""
    (found,) = problems(replace(task(), bias_conflicting=given))
    assert "task.bias_conflicting: must be true or false for each training sample, (2,)" in found
    check_task(replace(task(), bias_conflicting=np.array([False, True])))


def test_all_problems_come_at_once() -> None:
    found = problems(task(split("train", labels=(0, 0)), split("ood_dev"), split("ood_dev")))
    assert [line.split(": ")[0] for line in found] == [
        "task.id_dev",
        "task.train.s",
        "task.ood_dev.s",
    ]


def test_labels_collapse_by_merge_then_by_name() -> None:
    three = ("entailment", "neutral", "contradiction")
    hans = split("ood_dev", label_names=("entailment", "not"))
    assert hans.collapse(three).tolist() == [0, -1, -1]
    merged = replace(hans, merge={"neutral": "not", "contradiction": "not"})
    assert merged.collapse(three).tolist() == [0, 1, 1]


def test_the_headline_is_a_slice_or_everything() -> None:
    whole = split("ood_test")
    assert whole.headline_rows().tolist() == [True, True]
    part = replace(whole, slices={"seen": ["seen", "unseen"]}, headline=("seen", "unseen"))
    assert part.headline_rows().tolist() == [False, True]
    assert part.take(np.array([1])).headline_rows().tolist() == [True]


def test_the_digest_sees_train_and_dev_but_not_the_tests() -> None:
    base = (split("train"), split("id_dev"), split("ood_dev"))
    digest = task(*base).digest()
    assert task(*base, split("ood_test")).digest() == digest
    assert task(*base[:2], split("ood_dev", labels=(1, 0))).digest() != digest
    assert task(split("train", first=["x", "y"]), *base[1:]).digest() != digest
    assert replace(task(*base), label_names=("no", "yes")).digest() != digest


@pytest.mark.parametrize(
    "changed",
    [
        {"merge": {"no": "yes"}},
        {"label_names": ("yes", "no", "maybe")},
        {"slices": {"kind": ["b", "b"]}},
        {"slices": {"sort": ["a", "b"]}},
        {"headline": ("kind", "a")},
    ],
)
def test_the_digest_sees_how_samples_count(changed: dict[str, Any]) -> None:
    """A reference's stored metrics follow from all of it."""
    suite = split("ood_dev", slices={"kind": ["a", "b"]})
    base = task(split("train"), split("id_dev"), suite)
    assert replace(suite, **changed).digest() != suite.digest()
    other = task(split("train"), split("id_dev"), replace(suite, **changed))
    assert other.digest() != base.digest()
