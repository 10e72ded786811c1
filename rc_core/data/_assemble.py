"""From the splits of a public data set to a checked task: overlap, id_dev, limits, notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rc_core.data._splits import carve_id_dev, remove_overlap, stratified_sample
from rc_core.data._task import (
    LABELS_LEFT_OUT,
    ROLES,
    Split,
    Task,
    check_split,
    check_task,
)
from rc_core.errors import DataError, Problem


def assemble(
    name: str,
    label_names: tuple[str, ...],
    splits: Sequence[Split],
    *,
    seed: int,
    limit: int | None,
    allow_overlap: bool,
    notes: dict[str, float],
    heuristic: Callable[[str, str], str] | None = None,
) -> Task:
    """Return the task: overlap removed and counted, id_dev carved from train, train limited.

    Args:
        name: of the task.
        label_names: of the task, in output order.
        splits: of every role; id_dev is carved from train if it is missing.
        seed: for carving id_dev and for the limit.
        limit: keep this many training samples (labels keep their shares); None keeps all.
        allow_overlap: see `remove_overlap`.
        notes: counts are added to these.
        heuristic: see `Task`.

    Raises:
        DataError: an empty text, one label only, too much overlap, a limit that leaves one label.
    """
    problems: list[Problem] = []
    for split in splits:
        problems += check_split(split, label_names)
    if problems:
        raise DataError(problems)
    kept, removed, problems = remove_overlap(splits, allow=allow_overlap)
    if problems:
        raise DataError(problems)
    notes |= {f"removed_overlap/{key}": count for key, count in removed.items()}
    train = next(split for split in kept if split.role == "train")
    others = [split for split in kept if split.role != "train"]
    if not any(split.role == "id_dev" for split in others):
        train, id_dev = carve_id_dev(train, np.random.default_rng([seed, 0]))
        _check_carved(train, id_dev)
        others.append(id_dev)
        notes[f"carved/{id_dev.name}"] = len(id_dev)
    if limit is not None and limit < len(train):
        notes[f"left_out_by_limit/{train.name}"] = len(train) - limit
        before = np.unique(train.labels).size
        generator = np.random.default_rng([seed, 1])
        train = train.take(stratified_sample(train.labels, limit, generator))
        present = np.unique(train.labels)
        if present.size < 2 <= before:
            raise DataError(_too_low(limit, train, before))
        if present.size < before:
            # rc_core.data._doubts reports that the limit, not the data, lacks these labels.
            notes[LABELS_LEFT_OUT] = int(before - present.size)
    ordered = sorted([train, *others], key=lambda split: ROLES.index(split.role))
    return check_task(
        Task(
            name=name,
            label_names=label_names,
            splits=tuple(ordered),
            notes=notes,
            heuristic=heuristic,
        )
    )


def _too_low(limit: int, train: Split, before: int) -> Problem:
    only = train.label_names[int(train.labels[0])]
    return Problem(
        "task.limit",
        f"must leave rows of at least two of train's {before} labels, but is {limit}, which leaves "
        f"only '{only}'; raise it",
    )


def _check_carved(train: Split, id_dev: Split) -> None:
    """Check that train and the id_dev carved from it have two labels each. Raises DataError."""
    for split in (train, id_dev):
        present = np.unique(split.labels)
        if present.size < 2:
            left = f"only '{train.label_names[int(present[0])]}'" if present.size else "no rows"
            raise DataError(
                Problem(
                    f"task.{train.name}",
                    f"must have enough labels to carve id_dev from it ({len(id_dev)} of "
                    f"{len(train) + len(id_dev)} rows were taken), but {split.role} is left with "
                    f"{left}; give an id_dev, or more rows of each label",
                )
            )


def limited(split: Split, size: int | None, *, seed: int, by: str | None = None) -> Split:
    """Return a seeded sample of a split in which labels, or a slice's values, keep their shares.

    Args:
        split: of N samples.
        size: at most; None, or N or more, keeps all.
        seed: for the sample.
        by: name of a slice; None: labels.
    """
    if size is None or size >= len(split):
        return split
    groups = split.labels
    if by is not None:
        groups = np.unique(np.array(split.slices[by]), return_inverse=True)[1].astype(np.int64)
    rows = stratified_sample(groups, size, np.random.default_rng([seed, 2]))
    return split.take(rows)
