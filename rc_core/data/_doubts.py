"""What a task may have by mistake, and is trained on all the same: told, not refused."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from rc_core.data._splits import split_keys
from rc_core.data._task import DEV_ROLES, Split, Task

# A few rows are labelled twice in most public sets.
_CONTRADICTED = 0.005


def doubts(task: Task) -> list[str]:
    """Return a line for each: labels that no training row has, rows that contradict each other.

    Args:
        task: the test roles may be there; they are not looked at.
    """
    present = set(np.unique(task.train.labels).tolist())
    absent = [name for i, name in enumerate(task.label_names) if i not in present]
    lines = []
    if absent:
        names = ", ".join(f"'{name}'" for name in absent)
        lines.append(
            f"no row of train has the label {names}: no model learns it; take it out of the "
            "labels, or look at how labels are mapped"
        )
    for split in (task.train, *(each for role in DEV_ROLES for each in task.of_role(role))):
        rows = contradicted(split)
        if rows > _CONTRADICTED * len(split):
            lines.append(
                f"{rows} of {len(split)} rows of {split.name} ({100 * rows / len(split):.1f} %) "
                "have the texts of another row and another label than it: no model is right on "
                "all of them"
            )
    return lines


def contradicted(split: Split) -> int:
    """Return how many rows have the same texts (`pair_key`) as one with another label."""
    labels: defaultdict[str, list[int]] = defaultdict(list)
    for key, label in zip(split_keys(split), split.labels.tolist(), strict=True):
        labels[key].append(label)
    return sum(len(each) for each in labels.values() if len(set(each)) > 1)
