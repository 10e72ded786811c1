"""Trivial baselines: majority class, chance, a bag of words, the known shortcut.

A model has learned something about language only if it beats these. A compressed model that falls
to them out of distribution has kept the shortcut and lost the rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rc_core.data._task import Role, Split, Task

NAMES = {
    "majority": "majority class",
    "chance": "chance",
    "bag_of_words": "bag of words",
    "heuristic": "word-overlap heuristic",
}
_WORD = re.compile(r"\w+")
# Words that only the second text has are counted up to this number.
_MOST_OWN = 5

IntArray = NDArray[np.int64]


def floors(task: Task, roles: Sequence[Role]) -> dict[str, dict[str, float]]:
    """Return role -> baseline -> accuracy, a share, over the samples that the role's figures count.

    majority: always train's most frequent label. chance: expected accuracy of a uniform guess over
    the task's labels, merged into the suite's. bag_of_words: logistic regression on the words of
    each text and the words that both share, fitted on train. heuristic: `Task.heuristic`; left out
    if the task has none.

    Args:
        task: with train and the roles asked for; roles without a split are left out.
        roles: to evaluate.
    """
    asked = {role: task.of_role(role) for role in roles if task.of_role(role)}
    counts = np.bincount(task.train.labels, minlength=len(task.label_names))
    majority = int(counts.argmax())
    lines: dict[str, dict[str, float]] = {role: {} for role in asked}
    bag = _bag_of_words(task.train)
    for role, splits in asked.items():
        rows = [split.headline_rows() for split in splits]

        def over_union(right: Sequence[NDArray[Any]], rows: Any = rows) -> float:
            kept = [values[chosen] for values, chosen in zip(right, rows, strict=True)]
            return float(np.concatenate(kept).mean())

        collapses = [split.collapse(task.label_names) for split in splits]
        together = list(zip(splits, collapses, strict=True))
        lines[role]["majority"] = over_union([s.labels == c[majority] for s, c in together])
        lines[role]["chance"] = over_union(
            [(c[None, :] == s.labels[:, None]).mean(axis=1) for s, c in together]
        )
        lines[role]["bag_of_words"] = over_union(
            [c[_answers(bag, s)] == s.labels for s, c in together]
        )
        if task.heuristic is not None:
            lines[role]["heuristic"] = over_union(
                [c[_heuristic(task, s)] == s.labels for s, c in together]
            )
    return lines


def _heuristic(task: Task, split: Split) -> IntArray:
    assert task.heuristic is not None
    second = split.second if split.second is not None else [""] * len(split)
    answers = map(task.heuristic, split.first, second)
    return np.array([task.label_names.index(answer) for answer in answers], dtype=np.int64)


def _bag_of_words(train: Split) -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # At least one feature must occur often enough, or fitting fails. With more samples than there
    # are values of `own:`, two samples share one of those.
    least = 2 if len(train) > _MOST_OWN + 1 else 1
    vectorizer = CountVectorizer(analyzer=_features, binary=True, min_df=least)
    counts = vectorizer.fit_transform(_pairs(train))
    classifier = LogisticRegression(C=0.3, max_iter=200)
    # More threads only wait for each other; see rc_core/difficulty/_text.py.
    with threadpool_limits(1):
        classifier.fit(counts, train.labels)
    return vectorizer, classifier


def _answers(bag: tuple[Any, Any], split: Split) -> IntArray:
    vectorizer, classifier = bag
    found: IntArray = classifier.predict(vectorizer.transform(_pairs(split)))
    return found


def _pairs(split: Split) -> list[tuple[str, str]]:
    second = split.second if split.second is not None else [""] * len(split)
    return list(zip(split.first, second, strict=True))


def _features(pair: tuple[str, str]) -> list[str]:
    """Return the words of each text, those of both, and how many only the second has."""
    first, second = (set(_WORD.findall(text.lower())) for text in pair)
    own = min(len(second - first), _MOST_OWN)
    return [
        *(f"1:{word}" for word in sorted(first)),
        *(f"2:{word}" for word in sorted(second)),
        *(f"both:{word}" for word in sorted(first & second)),
        f"own:{own}",
    ]
