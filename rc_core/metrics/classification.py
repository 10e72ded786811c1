"""Accuracy and calibration of predictions, including suites with fewer labels than the task.

The argmax is taken over the task's labels and merged into the suite's afterwards (McCoy et al.
2019, HANS); a prediction that corresponds to no label of the suite is always wrong. Accuracies are
shares in [0, 1]. Log-probabilities are (N, C) over the task's labels, natural logarithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rc_core.data._task import Role, Split
from rc_core.metrics._base import Metric, catalogue

METRICS: dict[str, Metric] = catalogue(
    Metric("accuracy", "max", "share of samples predicted right, after merging labels"),
    Metric(
        "balanced_accuracy",
        "max",
        "mean over labels of the share of their samples predicted right: rare labels count as much",
    ),
    Metric(
        "calibration_error",
        "min",
        "expected calibration error: |accuracy - confidence| over 15 equal-width bins",
    ),
    Metric(
        "masked_accuracy",
        "max",
        "accuracy when only labels that the suite knows may be answered (FEVER: NEI masked)",
    ),
    Metric(
        "outside_share",
        "min",
        "share of predictions on labels that the suite does not know (FEVER: share of NEI)",
    ),
    Metric("agreement", "max", "share of samples predicted as the dense reference does"),
)

_BINS = 15

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.int64]


def collapsed_predictions(log_probs: FloatArray, collapse: IntArray) -> IntArray:
    """Return the suite label that each sample is predicted as, -1 if there is none for it.

    Args:
        log_probs: (N, C); ties go to the first label.
        collapse: (C,) suite label of each task label, -1 for none (`Split.collapse`).

    Returns:
        (N,) int64.

    Raises:
        ValueError: NaN or +inf, or shapes that do not fit.
    """
    _check(log_probs, collapse)
    predictions: IntArray = collapse[log_probs.argmax(axis=1)]
    return predictions


def collapsed_confidences(log_probs: FloatArray, collapse: IntArray) -> NDArray[np.float64]:
    """Return the probability of each sample's predicted suite label, summed over what it merges.

    Args and errors as in `collapsed_predictions`. Task labels without a suite label together count
    as one label.

    Returns:
        (N,) float64 in [0, 1].
    """
    predictions = collapsed_predictions(log_probs, collapse)
    same = predictions[:, None] == collapse[None, :]
    probabilities = np.exp(log_probs.astype(np.float64))
    summed: NDArray[np.float64] = (probabilities * same).sum(axis=1)
    return np.minimum(summed, 1.0)


def calibration_error(confidences: FloatArray, correct: NDArray[np.bool_]) -> float:
    """Return sum_b (n_b / N) |accuracy_b - mean confidence_b| over 15 equal-width bins.

    Expected calibration error (Guo et al. 2017, equation 3); bin b holds confidences in (b/15,
    (b+1)/15], and the first one 0 as well.

    Args:
        confidences: (N,) in [0, 1].
        correct: (N,).

    Returns:
        A share in [0, 1].

    Raises:
        ValueError: no samples, or different lengths.
    """
    if confidences.shape != correct.shape or correct.size == 0:
        raise ValueError(
            "confidences and correct must have the same length and not be empty, but have shapes "
            f"{confidences.shape} and {correct.shape}"
        )
    bins = np.clip(np.ceil(confidences * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
    surplus = np.bincount(bins, weights=correct - confidences, minlength=_BINS)
    return float(np.abs(surplus).sum() / correct.size)


def balanced_accuracy(
    correct: NDArray[np.bool_], labels: NDArray[Any], weights: NDArray[np.float64] | None = None
) -> float:
    """Return the mean over labels of their recall: the share of a label's samples that are right.

    If some labels are rare, a model that never predicts them may have a high accuracy, but not a
    high balanced accuracy: always predicting one label gives 1 / number of labels (Brodersen et al.
    2010).

    Args:
        correct: (N,).
        labels: (N,) true labels, names or positions; labels without samples do not count.
        weights: (N,) above 0, how many samples each one represents; None: one.

    Returns:
        A share in [0, 1].

    Raises:
        ValueError: no samples, or different lengths.
    """
    _, places = np.unique(labels, return_inverse=True)
    if places.shape != correct.shape or correct.size == 0:
        raise ValueError(
            "labels and correct must have the same length and not be empty, but have shapes "
            f"{places.shape} and {correct.shape}"
        )
    counted = np.ones(len(places)) if weights is None else weights
    right = np.bincount(places, weights=correct * counted)
    return float((right / np.bincount(places, weights=counted)).mean())


def evaluate(split: Split, log_probs: FloatArray, task_labels: Sequence[str]) -> dict[str, float]:
    """Return a split's metrics, with keys relative to its role.

    Keys: `<suite>/accuracy`, `<suite>/balanced_accuracy`, `<suite>/calibration_error`,
    `<suite>/<slice>.<value>/accuracy`; and, if the suite lacks some of the task's labels,
    `<suite>/masked_accuracy` and `<suite>/outside_share`.

    Args:
        split: evaluated.
        log_probs: (N, C), rows as in the split.
        task_labels: the C labels, in output order.

    Raises:
        ValueError: NaN or +inf, wrong shapes, an empty split.
    """
    correct, confidences = _outcomes(split, log_probs, task_labels)
    metrics = {
        f"{split.suite}/accuracy": float(correct.mean()),
        f"{split.suite}/balanced_accuracy": balanced_accuracy(correct, split.labels),
        f"{split.suite}/calibration_error": calibration_error(confidences, correct),
    }
    masked = _masked(split, log_probs, task_labels)
    if masked is not None:
        metrics[f"{split.suite}/masked_accuracy"] = float(masked[0].mean())
        metrics[f"{split.suite}/outside_share"] = float(masked[1].mean())
    for name, values in split.slices.items():
        column = np.array([_key_part(value) for value in values])
        for value in np.unique(column).tolist():
            inside = correct[column == value]
            metrics[f"{split.suite}/{_key_part(name)}.{value}/accuracy"] = float(inside.mean())
    return metrics


def role_metrics(
    role: Role, evaluated: Sequence[tuple[Split, FloatArray]], task_labels: Sequence[str]
) -> dict[str, float]:
    """Return all metrics of a role under their full keys.

    `<role>/accuracy` and `<role>/calibration_error` are over the union of the suites' samples, so
    each suite weighs by its size; of a split with a headline only that part counts.
    `<role>/balanced_accuracy` is over the same samples and the names of their labels. If a suite
    lacks some of the task's labels, `<role>/masked_accuracy` and `<role>/outside_share` are there
    too. The metrics of whole suites, from `evaluate`, stand below `<role>/`.

    Args:
        role: of all the splits.
        evaluated: the role's splits, each with (N, C) log-probabilities; at least one.
        task_labels: the C labels, in output order.

    Raises:
        ValueError: a split of another role, none at all, or as `evaluate`.
    """
    others = [split.name for split, _ in evaluated if split.role != role]
    if others or not evaluated:
        raise ValueError(f"splits must be of role {role}, at least one, but got {others}")
    counted = [split.headline_rows() for split, _ in evaluated]
    outcomes = [_outcomes(split, log_probs, task_labels) for split, log_probs in evaluated]
    together = list(zip(outcomes, counted, strict=True))
    correct = np.concatenate([right[rows] for (right, _), rows in together])
    confidences = np.concatenate([confidence[rows] for (_, confidence), rows in together])
    labels = [
        np.array(split.label_names)[split.labels[rows]]
        for (split, _), rows in zip(evaluated, counted, strict=True)
    ]
    metrics = {
        f"{role}/accuracy": float(correct.mean()),
        f"{role}/balanced_accuracy": balanced_accuracy(correct, np.concatenate(labels)),
        f"{role}/calibration_error": calibration_error(confidences, correct),
    }
    masked = [_masked(split, log_probs, task_labels) for split, log_probs in evaluated]
    if any(each is not None for each in masked):
        # For a suite that knows every label, masking changes nothing.
        pairs = [
            each or (right, np.zeros(len(right), dtype=np.bool_))
            for each, (right, _) in zip(masked, outcomes, strict=True)
        ]
        for i, name in enumerate(("masked_accuracy", "outside_share")):
            values = [pair[i][rows] for pair, rows in zip(pairs, counted, strict=True)]
            metrics[f"{role}/{name}"] = float(np.concatenate(values).mean())
    for split, log_probs in evaluated:
        for key, value in evaluate(split, log_probs, task_labels).items():
            metrics[f"{role}/{key}"] = value
    return metrics


def _outcomes(
    split: Split, log_probs: FloatArray, task_labels: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which predictions of a split are right, and their confidences, (N,) each."""
    if log_probs.shape != (len(split), len(task_labels)) or len(split) == 0:
        raise ValueError(
            f"log-probabilities of {split.name} must be ({len(split)}, {len(task_labels)}) and "
            f"not empty, but have shape {log_probs.shape}"
        )
    collapse = split.collapse(task_labels)
    correct: NDArray[np.bool_] = collapsed_predictions(log_probs, collapse) == split.labels
    return correct, collapsed_confidences(log_probs, collapse)


def _masked(
    split: Split, log_probs: FloatArray, task_labels: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Return (right among the suite's labels, predicted outside them); None if all are known."""
    collapse = split.collapse(task_labels)
    if (collapse >= 0).all():
        return None
    inside = np.where(collapse >= 0, log_probs, -np.inf)
    right: NDArray[np.bool_] = collapse[inside.argmax(axis=1)] == split.labels
    outside: NDArray[np.bool_] = collapse[log_probs.argmax(axis=1)] < 0
    return right, outside


def _check(log_probs: FloatArray, collapse: IntArray) -> None:
    if log_probs.ndim != 2 or collapse.shape != log_probs.shape[1:]:
        raise ValueError(
            "log-probabilities must be (samples, labels) and collapse (labels,), but have shapes "
            f"{log_probs.shape} and {collapse.shape}"
        )
    bad = int((np.isnan(log_probs) | np.isposinf(log_probs)).any(axis=1).sum())
    if bad:
        raise ValueError(
            f"log-probabilities must be numbers, but {bad} of {len(log_probs)} rows hold NaN or "
            "+inf: the model diverged"
        )


def _key_part(text: str) -> str:
    """Return text without slashes, which would read as another level of the key."""
    return text.replace("/", "_")
