"""What in a task may be a mistake although it can be trained on: reported, not rejected."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from rc_core.data._task import DEV_ROLES, LABELS_LEFT_OUT, Split, Task

# A few rows are labelled twice in most public sets.
_CONTRADICTED = 0.005
# Our own tasks have none: `_splits.remove_overlap` removes them.
_REMEMBERED = 0.005
# Number of values of a slice: each is a metric in every record, and of every run at MLflow.
_MANY_VALUES = 200


def doubts(task: Task) -> list[str]:
    """Return lines on what looks like a mistake.

    Labels that no training row has, contradictions, dev rows that are also in train, and slices
    with a value for nearly each sample.

    Args:
        task: its test roles are not looked at.
    """
    present = set(np.unique(task.train.labels).tolist())
    absent = [name for i, name in enumerate(task.label_names) if i not in present]
    lines = []
    if absent:
        names = ", ".join(f"'{name}'" for name in absent)
        taken = int(task.notes.get(LABELS_LEFT_OUT, 0))
        advice = []
        if taken:
            which = (
                "it" if len(absent) == 1 else "them" if taken == len(absent) else f"{taken} of them"
            )
            advice.append(f"raise task.limit, which leaves no room for {which}")
        if taken < len(absent):
            advice.append("remove it from the labels, or check how labels are mapped")
        lines.append(
            f"no row of train has the label {names}: no model learns it; {'; '.join(advice)}"
        )
    for split in (task.train, *(each for role in DEV_ROLES for each in task.of_role(role))):
        rows = contradicted(split)
        if rows > _CONTRADICTED * len(split):
            lines.append(
                f"{rows} of {len(split)} rows of {split.name} ({100 * rows / len(split):.1f} %) "
                "have the same texts as another row but a different label: no model can be right "
                "on all of them"
            )
    trained = set(task.train.texts())
    for split in (each for role in DEV_ROLES for each in task.of_role(role)):
        rows = sum(texts in trained for texts in split.texts())
        if rows > _REMEMBERED * len(split):
            lines.append(
                f"{rows} of {len(split)} rows of {split.name} ({100 * rows / len(split):.1f} %) "
                "are in train, word for word: a model may have memorised them; let the task remove "
                "them from train (rc_core.data._splits.remove_overlap does)"
            )
    return [*lines, *_shreds(task)]


def _shreds(task: Task) -> list[str]:
    """Return a line for each slice with as many values as an id, or a text, would have."""
    return [
        f"slice '{name}' of {split.name} has {count} values in {len(split)} rows: each is a metric "
        "of its own, in every record and at MLflow; is this the intended column?"
        for role in DEV_ROLES
        for split in task.of_role(role)
        for name, values in split.slices.items()
        if (count := len(set(values))) > _MANY_VALUES
    ]


def contradicted(split: Split) -> int:
    """Return how many rows have exactly the texts of a row with another label.

    Texts are compared as they are, because `pair_key` takes seconds for a large training set.
    """
    labels: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for texts, label in zip(split.texts(), split.labels.tolist(), strict=True):
        labels[texts].append(label)
    return sum(len(each) for each in labels.values() if len(set(each)) > 1)
