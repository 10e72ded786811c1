"""What a task is: splits with roles, label maps, and how out-of-distribution labels collapse.

Roles (which stage may look at a split):
    train     fitting
    id_dev    selection on in-distribution data
    ood_dev   selection on out-of-distribution data
    id_test   after selection only
    ood_test  after selection only
"""

from __future__ import annotations

import functools
import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rc_core.errors import DataError, Problem
from rc_core.labels import count_of

Role = Literal["train", "id_dev", "ood_dev", "id_test", "ood_test"]
ROLES: tuple[Role, ...] = ("train", "id_dev", "ood_dev", "id_test", "ood_test")
DEV_ROLES: tuple[Role, ...] = ("id_dev", "ood_dev")
TEST_ROLES: tuple[Role, ...] = ("id_test", "ood_test")
# Key of a task's notes: how many labels train lost by task.limit.
LABELS_LEFT_OUT = "labels_left_out_by_limit"


@dataclass(frozen=True)
class Split:
    """One set of texts that a model is trained or evaluated on.

    Attributes:
        role: what it may be used for.
        suite: its name within the role (`hans`); the task's own name for in-distribution roles.
        first: N texts.
        second: N texts for pairs, None for single texts.
        labels: (N,) integers into `label_names`.
        label_names: this suite's labels; may be fewer than the task's.
        merge: task label -> suite label, for those that differ. A predicted task label is looked up
            here, then by its own name; one that is found in neither way is always wrong (FEVER's
            symmetric sets have no NOT ENOUGH INFO).
        slices: name -> N values, reported separately as `<name>.<value>`.
        headline: (slice, value): the role's own figures count only these samples (HANS: subcases
            that ood_dev does not hold). None: all of them.
    """

    role: Role
    suite: str
    first: Sequence[str]
    second: Sequence[str] | None
    labels: NDArray[np.int64]
    label_names: tuple[str, ...]
    merge: Mapping[str, str] = field(default_factory=dict)
    slices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    headline: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        size = len(self.first)
        assert self.labels.shape == (size,)
        assert self.second is None or len(self.second) == size
        assert all(len(values) == size for values in self.slices.values())

    def __len__(self) -> int:
        return len(self.first)

    @property
    def name(self) -> str:
        return f"{self.role}.{self.suite}"

    def texts(self) -> Iterator[tuple[str, str]]:
        """Return both texts of each sample; the second one is empty for single texts."""
        return zip(self.first, self.second or [""] * len(self), strict=True)

    def headline_rows(self) -> NDArray[np.bool_]:
        """Return which samples the role's own figures count, (N,)."""
        if self.headline is None:
            return np.ones(len(self), dtype=np.bool_)
        name, value = self.headline
        return np.array([each == value for each in self.slices[name]], dtype=np.bool_)

    def take(self, rows: NDArray[np.int64]) -> Split:
        """Return the split reduced to `rows` (indices, in the order given)."""
        chosen = rows.tolist()
        return replace(
            self,
            first=[self.first[i] for i in chosen],
            second=None if self.second is None else [self.second[i] for i in chosen],
            labels=self.labels[rows],
            slices={key: [values[i] for i in chosen] for key, values in self.slices.items()},
        )

    def collapse(self, task_labels: Sequence[str]) -> NDArray[np.int64]:
        """Return, for each task label, the suite label it counts as, or -1 for none.

        Shape (len(task_labels),). The argmax is taken over the task's labels first and merged
        afterwards (McCoy et al. 2019, HANS).
        """
        position = {label: i for i, label in enumerate(self.label_names)}
        return np.array(
            [position.get(self.merge.get(label, label), -1) for label in task_labels],
            dtype=np.int64,
        )

    def digest(self) -> str:
        """Return a SHA-256 over texts, labels and slices, in order, and over how they count."""
        # Stored metrics depend on the label map and the headline as much as on the texts.
        counting = [self.label_names, dict(self.merge), self.headline]
        state = hashlib.sha256(json.dumps(counting, sort_keys=True).encode())
        for i, first in enumerate(self.first):
            second = "" if self.second is None else self.second[i]
            state.update(f"{first}\x1f{second}\x1f{self.label_names[self.labels[i]]}\x1e".encode())
        for name, values in sorted(self.slices.items()):
            state.update("\x1f".join([name, *values, "\x1e"]).encode())
        return state.hexdigest()


@dataclass(frozen=True)
class Task:
    """A classification task.

    Attributes:
        name: plugin name.
        label_names: the labels a model predicts, in the order of its outputs.
        splits: every split; exactly one has role train, exactly one id_dev.
        notes: counts that belong in every record (`removed_overlap/...`, `left_out_by_limit/...`,
            ...).
        bias_conflicting: (N_train,) whether the shortcut points to the wrong label, if the task's
            generator knows it; else None. Never used in training, only to check claims.
        heuristic: (first, second) -> the label of `label_names` that the known shortcut alone would
            predict (word overlap: entailment); None if no such rule is known. Used as a baseline.
        sealed: test splits that were left out, `seal_name` -> the first 16 digits of their digest.
    """

    name: str
    label_names: tuple[str, ...]
    splits: tuple[Split, ...]
    notes: Mapping[str, float] = field(default_factory=dict)
    bias_conflicting: NDArray[np.bool_] | None = None
    heuristic: Callable[[str, str], str] | None = None
    sealed: Mapping[str, str] = field(default_factory=dict)

    def of_role(self, role: Role) -> tuple[Split, ...]:
        return tuple(split for split in self.splits if split.role == role)

    @property
    def train(self) -> Split:
        return self.of_role("train")[0]

    @property
    def id_dev(self) -> Split:
        return self.of_role("id_dev")[0]

    def without_tests(self) -> Task:
        """Return the task as selection may see it: with only digests of the test roles."""
        tests = {seal_name(s): s.digest()[:16] for s in self.splits if s.role in TEST_ROLES}
        kept = tuple(s for s in self.splits if s.role not in TEST_ROLES)
        return replace(self, splits=kept, sealed={**self.sealed, **tests})

    def digest(self) -> str:
        """Return a digest of everything selection can see: train and the dev roles."""
        state = hashlib.sha256("|".join(self.label_names).encode())
        for split in self.splits:
            if split.role not in TEST_ROLES:
                state.update(f"{split.name}:{split.digest()}".encode())
        return state.hexdigest()[:16]


class TaskModule(Protocol):
    """What a file in rc_core/data has to define besides its `Config`.

    It may also define `TEXTS`: names of a sample's texts, one, or two for pairs in the order of
    `Split.first` and `second`, which are used in the model card. Without it, a key `text` of the
    task's section is used, if there is one.

    Its `Config` may have a method `is_here() -> bool`: whether `load` fetches nothing from
    elsewhere. Data that is here is read and checked together with the rest of a sweep's
    configuration; without the method, or if it returns False, only once everything else is right.
    """

    def load(self, config: object) -> Task: ...


def seal_name(split: Split) -> str:
    """Return the name of a test split of which a record has only the digest: `id.mnli`, `ood.hans`.

    It does not contain a test role: whoever searches a sweep's files for one finds whether it was
    opened.
    """
    return f"{split.role.removesuffix('_test')}.{split.suite}"


def pair_key(first: str, second: str | None) -> str:
    """Return the key by which pairs count as the same: lowercase, no spaces, no punctuation.

    Combining marks and symbols are kept: Hindi's vowel signs, C++ and C#, > and <, emoji. So is the
    punctuation of texts that consist of nothing else: `:)` is not `:(`.
    """
    texts = [first] if second is None else [first, second]
    keys = ["".join(filter(_tells, text.lower())) for text in texts]
    return "\x1f".join(keys if any(keys) else ["".join(text.split()) for text in texts])


@functools.cache
def _tells(character: str) -> bool:
    """Tell whether a character is kept in pair keys."""
    kept = character.isalnum() or unicodedata.category(character)[0] in "MS"
    return kept or character == "\x1f"


def check_task(task: Task) -> Task:
    """Check what every task must hold and return it.

    Raises:
        DataError: all problems at once: a missing role, an empty split, one label only, labels
            outside the map or in another order than the task's, a suite with labels that no task
            label maps to, a merge or headline that names nothing, an empty text.
    """
    problems: list[Problem] = []
    for role in ("train", "id_dev", "ood_dev"):
        if not task.of_role(role):
            problems.append(Problem(f"task.{role}", "a task needs this split, but there is none"))
    for split in task.splits:
        problems.extend(check_split(split, task.label_names))
        # A model's outputs are these labels by position: another order would swap them.
        first = task.label_names[: len(split.label_names)]
        if split.role in ("train", "id_dev") and split.label_names != first:
            problems.append(
                Problem(
                    f"task.{split.name}",
                    f"must have the task's labels {list(task.label_names)} in their order, but has "
                    f"{list(split.label_names)}; give label_names as the task does",
                )
            )
    problems += _check_conflicting(task)
    names = [split.name for split in task.splits]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(Problem(f"task.{name}", "suite names must differ within a role"))
    if problems:
        raise DataError(problems)
    return task


def check_split(split: Split, task_labels: tuple[str, ...]) -> list[Problem]:
    """Return what is wrong with one split of a task with the given labels."""
    where = f"task.{split.name}"
    if len(split) == 0:
        return [Problem(where, "must hold samples, but is empty")]
    present = np.unique(split.labels)
    # Some data sets use -1 for no label, which would be read as the last one, or as no prediction.
    outside = present[(present < 0) | (present >= len(split.label_names))].tolist()
    if outside:
        count = int(np.isin(split.labels, outside).sum())
        return [
            Problem(
                where,
                f"labels must be positions in {list(split.label_names)}, but {count} are "
                f"{', '.join(map(str, outside[:3]))}; leave out samples without a label",
            )
        ]
    problems = _check_names(split, task_labels, where)
    if present.size < 2:
        only = split.label_names[int(present[0])]
        problems.append(Problem(where, f"must hold at least two labels, but has only '{only}'"))
    reached = split.collapse(task_labels)
    unreached = [split.label_names[i] for i in present.tolist() if i not in reached]
    if unreached:
        problems.append(
            Problem(
                where,
                f"labels {unreached} are reached by none of the task's labels {list(task_labels)}; "
                "add a merge (task label: suite label)",
            )
        )
    texts = [("first text", split.first), ("second text", split.second or ())]
    for kind, column in texts:
        empty = [i for i, text in enumerate(column) if not text.strip()]
        if empty:
            problems.append(
                Problem(
                    where,
                    f"{count_of(len(empty), 'sample has', 'samples have')} an empty {kind} "
                    f"(first: sample {empty[0]} of the "
                    "split, counted from 0); fill them in or leave them out",
                )
            )
    return problems


def _check_names(split: Split, task_labels: tuple[str, ...], where: str) -> list[Problem]:
    """Return what is wrong with the names in a split: its suite, its merge and its headline."""
    problems = []
    if not split.suite or "/" in split.suite:
        problems.append(
            Problem(
                where,
                "a suite's name is part of metrics and of files, so it must be text without '/', "
                f"but is '{split.suite}'",
            )
        )
    for kind, given, known in (
        ("from labels of the task", split.merge.keys(), task_labels),
        ("to labels of the suite", split.merge.values(), split.label_names),
    ):
        unknown = sorted(set(given) - set(known))
        if unknown:
            # Otherwise these predictions would silently always be wrong.
            problems.append(
                Problem(where, f"merge must lead {kind} {list(known)}, but names {unknown}")
            )
    if split.headline is not None:
        name, value = split.headline
        if value not in split.slices.get(name, ()):
            problems.append(
                Problem(
                    where,
                    f"headline must be a slice and a value that samples have, but none has "
                    f"'{value}' in '{name}'; its slices are {sorted(split.slices)}",
                )
            )
    return problems


def _check_conflicting(task: Task) -> list[Problem]:
    """Return what is wrong with `bias_conflicting`: integers would index rows by position."""
    given = task.bias_conflicting
    if given is None or not task.of_role("train"):
        return []
    expected = (len(task.train),)
    if given.dtype == np.bool_ and given.shape == expected:
        return []
    return [
        Problem(
            "task.bias_conflicting",
            f"must be true or false for each training sample, {expected} of bool, but is "
            f"{given.shape} of {given.dtype}",
        )
    ]
