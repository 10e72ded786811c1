"""Where splits come from: stratified samples, carving id_dev, removing overlap between roles.

Overlap (the same `pair_key`) is removed from the split that is used earlier: test wins over dev,
dev over train, and within dev out-of-distribution over in-distribution. Test splits are never
changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rc_core.data._task import TEST_ROLES, Role, Split, pair_key
from rc_core.errors import Problem

# If overlap takes more than this share of a split, something is wrong with the files.
MAX_OVERLAP = 0.05

# Each of these loses samples that the test roles, or a role before it here, hold as well.
_LOSERS: tuple[Role, ...] = ("ood_dev", "id_dev", "train")


def split_keys(split: Split) -> list[str]:
    """Return each sample's pair key."""
    if split.second is None:
        return [pair_key(first, None) for first in split.first]
    return [pair_key(*pair) for pair in zip(split.first, split.second, strict=True)]


def shares(total: int, weights: Sequence[float] | NDArray[np.int64]) -> list[int]:
    """Return integers in proportion to `weights` that add up to `total`.

    The largest remainders get the rest; ties go to the first. Without weights the result is empty.
    """
    exact = total * np.asarray(weights, np.float64) / max(float(np.sum(weights)), 1e-12)
    # Without rounding, a product such as 0.29 * 100 would fall just below its integer.
    whole = np.floor(np.round(exact, 9)).astype(np.int64)
    rest = np.argsort(-(exact - whole).round(9), kind="stable")[: total - int(whole.sum())]
    whole[rest] += 1
    return [int(number) for number in whole]


def stratified_sample(
    labels: NDArray[np.int64], size: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return `size` rows, drawn without replacement so that labels keep their shares; sorted.

    A label whose share is less than a row still gets one, if `size` has room for one of each label.

    Args:
        labels: (N,) with N >= size.
        size: number of rows.
        generator: is advanced.
    """
    present, counts = np.unique(labels, return_counts=True)
    numbers = shares(size, counts)
    while 0 in numbers and size >= len(present):
        numbers[numbers.index(max(numbers))] -= 1
        numbers[numbers.index(0)] += 1
    chosen = [
        generator.permutation(np.flatnonzero(labels == label))[:number]
        for label, number in zip(present, numbers, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def id_dev_size(num_samples: int) -> int:
    """Return how many training samples become id_dev: 5 % or 1,000, but at most 20 %."""
    return min(max(round(0.05 * num_samples), 1_000), num_samples // 5)


def carve_id_dev(train: Split, generator: np.random.Generator) -> tuple[Split, Split]:
    """Return train without id_dev, and id_dev, drawn so that labels keep their shares.

    Samples with the same pair key go to the same side, so that repeated pairs do not overlap. They
    go to id_dev if that brings their label closer to its share; a text that is repeated more often
    than that stays in train. Only if that holds for all texts of a label, the least repeated one
    goes to id_dev.
    """
    first_of: dict[str, int] = {}
    groups = np.array(
        [first_of.setdefault(key, i) for i, key in enumerate(split_keys(train))], dtype=np.int64
    )
    heads, sizes = np.unique(groups, return_counts=True)
    budget = np.bincount(train.labels, minlength=len(train.label_names))
    room = np.array(shares(id_dev_size(len(train)), budget))
    order = generator.permutation(len(heads))
    chosen = []
    for position in order:
        label = train.labels[heads[position]]
        if sizes[position] < 2 * room[label]:
            room[label] -= sizes[position]
            chosen.append(heads[position])
    for label in set(np.flatnonzero(room > 0)) - {*train.labels[chosen]}:
        others = order[train.labels[heads[order]] == label]
        if len(others) > 1:
            chosen.append(heads[others[sizes[others].argmin()]])
    carved = np.isin(groups, np.array(chosen, dtype=np.int64))
    id_dev = replace(train.take(np.flatnonzero(carved)), role="id_dev")
    return train.take(np.flatnonzero(~carved)), id_dev


def remove_overlap(
    splits: Sequence[Split], *, allow: bool = False
) -> tuple[list[Split], dict[str, int], list[Problem]]:
    """Remove samples that a later role also holds from the dev roles and train.

    Args:
        splits: in any order.
        allow: accept that more than `MAX_OVERLAP` of a split is removed.

    Returns:
        The splits in the same order; `<role>.<suite>` -> number of samples removed, for every dev
        and train split; and a problem for each split that loses too much, or everything.
    """
    # Pair key -> name of the split that holds it.
    taken = {
        key: split.name for split in splits if split.role in TEST_ROLES for key in split_keys(split)
    }
    kept: dict[str, Split] = {}
    removed: dict[str, int] = {}
    problems: list[Problem] = []
    for role in _LOSERS:
        added: dict[str, str] = {}
        for split in splits:
            if split.role != role:
                continue
            keys = split_keys(split)
            rows = np.array([i for i, key in enumerate(keys) if key not in taken], dtype=np.int64)
            added.update(dict.fromkeys(keys, split.name))
            lost = len(split) - len(rows)
            removed[split.name] = lost
            kept[split.name] = split.take(rows) if lost else split
            if lost == len(split):
                problems.append(_nothing_left(split, _where([taken[key] for key in keys])))
            elif lost > MAX_OVERLAP * len(split) and not allow:
                found = _where([taken[key] for key in keys if key in taken])
                problems.append(_too_much(split, lost, found))
        taken = added | taken
    return [kept.get(split.name, split) for split in splits], removed, problems


def _where(names: Sequence[str]) -> str:
    """Return how often each split is named: `3 in id_test.mnli, 1 in ood_dev.hans`."""
    return ", ".join(f"{count} in {name}" for name, count in Counter(names).most_common())


def _samples(split: Split) -> str:
    return "texts" if split.second is None else "pairs"


def _nothing_left(split: Split, found: str) -> Problem:
    return Problem(
        f"task.{split.name}",
        f"must keep samples, but each of its {len(split)} {_samples(split)} is also in a split "
        f"that wins over it (test over dev over train): {found}; does one file have two roles? "
        "Give this one rows that no other split has",
    )


def _too_much(split: Split, lost: int, found: str) -> Problem:
    share = 100 * lost / len(split)
    return Problem(
        f"task.{split.name}",
        f"at most {100 * MAX_OVERLAP:g} % of a split may also be in a split that wins over it "
        f"(test over dev over train), but {lost} of {len(split)} {_samples(split)} are "
        f"({share:.1f} %): {found}; "
        "leave them out on the test side (exclude: FILE), or set allow_overlap: true to drop them",
    )
