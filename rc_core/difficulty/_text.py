"""A cross-fitted text classifier on words alone: no sample is judged by a model that saw it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rc_core.errors import DifficultyError

# Keeps log-probabilities finite where the classifier is certain.
_SMALLEST = 1e-6


def folds(
    labels: NDArray[np.int64], keys: Sequence[str], count: int, seed: int
) -> NDArray[np.int64]:
    """Return each sample's fold, (N,) in [0, count), drawn so that folds keep the labels' shares.

    Samples with the same key go to the same fold, that of the first one: a model that saw one of
    them saw them all.

    Args:
        labels: (N,); samples with the same key may have different ones.
        keys: N strings that identify a sample (see `rc_core.data._splits.split_keys`).
        count: at least 1.
        seed: for the draw.

    Raises:
        DifficultyError: a fold is empty.
    """
    first_of: dict[str, int] = {}
    firsts = np.array([first_of.setdefault(key, i) for i, key in enumerate(keys)], dtype=np.int64)
    heads = np.unique(firsts)
    generator = np.random.default_rng(seed)
    found = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels[heads]):
        rows = generator.permutation(heads[labels[heads] == label])
        found[rows] = np.arange(len(rows)) % count
    filled = len(np.unique(found[heads]))
    if filled < count:
        raise DifficultyError(
            f"train must have different texts for each of {count} folds, but its {len(heads)} "
            f"fill only {filled}; give it more data or fewer difficulty.folds"
        )
    return found[firsts]


def cross_fitted(
    texts: Sequence[str],
    labels: NDArray[np.int64],
    others: Sequence[str],
    *,
    keys: Sequence[str],
    num_labels: int,
    num_folds: int,
    seed: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return log-probabilities of a bag-of-words classifier: cross-fitted, and for other texts.

    Logistic regression on tf-idf weighted counts of words and pairs of words.

    Args:
        texts: N of train.
        labels: (N,) in [0, num_labels).
        others: M texts that are not in train; judged by a model fitted on all of train.
        keys: N strings, equal for what counts as the same sample (see `folds`).
        num_labels: C.
        num_folds: parts of train that are held out in turn.
        seed: for drawing the folds.

    Returns:
        (N, C) and (M, C) float32.

    Raises:
        DifficultyError: a part of train is empty, has only one label, or has no word of at least
            two characters that occurs twice.
    """
    assigned = folds(labels, keys, num_folds, seed)
    inside = np.empty((len(texts), num_labels), dtype=np.float32)
    for fold in range(num_folds):
        seen = np.flatnonzero(assigned != fold)
        held = np.flatnonzero(assigned == fold)
        inside[held] = _fit_predict(
            _take(texts, seen), labels[seen], _take(texts, held), num_labels
        )
    return inside, _fit_predict(texts, labels, others, num_labels)


def _fit_predict(
    texts: Sequence[str], labels: NDArray[np.int64], others: Sequence[str], num_labels: int
) -> NDArray[np.float32]:
    classifier, vectorizer = _classifier()
    if len(np.unique(labels)) < 2:
        raise DifficultyError(
            "a text classifier needs two labels in every part of train, but one part has only one; "
            "give it more data or fewer difficulty.folds"
        )
    probabilities = np.full((len(others), num_labels), _SMALLEST)
    # The vectors are so small that BLAS threads spend their time waiting for each other: ten times
    # as slow as one thread, and worse with several processes (measured on 17,000 claims).
    with _one_thread():
        try:
            words = vectorizer.fit_transform(texts)
        except ValueError as error:
            # Raised for texts without words, or if no word occurs twice.
            raise DifficultyError(
                "a text classifier needs words of two characters or more that occur in several "
                f"samples, but found none ({error}); take another difficulty or expert"
            ) from error
        classifier.fit(words, labels)
        found = classifier.predict_proba(vectorizer.transform(others))
    probabilities[:, classifier.classes_] = found
    probabilities = np.maximum(probabilities, _SMALLEST)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    log_probs: NDArray[np.float32] = np.log(probabilities).astype(np.float32)
    return log_probs


def _take(texts: Sequence[str], rows: NDArray[np.int64]) -> list[str]:
    return [texts[i] for i in rows.tolist()]


def _one_thread() -> AbstractContextManager[Any]:
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


def _classifier() -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    return LogisticRegression(C=2.0, max_iter=300), vectorizer
