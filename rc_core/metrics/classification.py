"""Accuracy and calibration of predictions, also where a suite has fewer labels than the task.

The argmax is taken over the task's labels and merged into the suite's afterwards (McCoy et al.
2019, HANS); a prediction that no suite label stands for is always wrong. Accuracies are shares in
[0, 1]. Log-probabilities are (N, C) over the task's labels, natural logarithm.
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
        "calibration_error",
        "min",
        "expected calibration error: |accuracy - confidence| over 15 equal-width bins",
    ),
)

_BINS = 15

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.int64]


def collapsed_predictions(log_probs: FloatArray, collapse: IntArray) -> IntArray:
    """Return the suite label each sample is predicted as, -1 where none stands for it.

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
    """Return the probability of each sample's predicted suite label: summed over what it merges.

    Args and errors as `collapsed_predictions`. The task labels no suite label stands for count as
    one label of their own.

    Returns:
        (N,) float64 in [0, 1].
    """
    predictions = collapsed_predictions(log_probs, collapse)
    same = predictions[:, None] == collapse[None, :]
    probabilities = np.exp(log_probs.astype(np.float64))
    summed: NDArray[np.float64] = (probabilities * same).sum(axis=1)
    return np.minimum(summed, 1.0)


def accuracy(predictions: IntArray, labels: IntArray) -> float:
    """Return the share of equal entries, in [0, 1].

    Raises:
        ValueError: no samples, or different lengths.
    """
    if predictions.shape != labels.shape or labels.size == 0:
        raise ValueError(
            "predictions and labels must have the same length and not be empty, but have shapes "
            f"{predictions.shape} and {labels.shape}"
        )
    return float((predictions == labels).mean())


def calibration_error(confidences: FloatArray, correct: NDArray[np.bool_]) -> float:
    """Return sum_b (n_b / N) |accuracy_b - mean confidence_b| over 15 equal-width bins.

    Expected calibration error (Guo et al. 2017, equation 3); bin b holds confidences in
    (b/15, (b+1)/15], the first one 0 as well.

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


def evaluate(split: Split, log_probs: FloatArray, task_labels: Sequence[str]) -> dict[str, float]:
    """Return a split's metrics, keyed relative to its role.

    Keys: `<suite>/accuracy`, `<suite>/calibration_error`, `<suite>/<slice>.<value>/accuracy`.

    Args:
        log_probs: (N, C), rows as in the split.
        task_labels: the C labels, in output order.

    Raises:
        ValueError: NaN or +inf, wrong shapes, an empty split.
    """
    correct, confidences = _outcomes(split, log_probs, task_labels)
    metrics = {
        f"{split.suite}/accuracy": float(correct.mean()),
        f"{split.suite}/calibration_error": calibration_error(confidences, correct),
    }
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
    that each suite weighs by its size; `evaluate` gives the rest, below `<role>/`.

    Args:
        evaluated: the role's splits, each with (N, C) log-probabilities; at least one.
        task_labels: the C labels, in output order.

    Raises:
        ValueError: a split of another role, none at all, or as `evaluate`.
    """
    others = [split.name for split, _ in evaluated if split.role != role]
    if others or not evaluated:
        raise ValueError(f"splits must be of role {role}, at least one, but got {others}")
    outcomes = [_outcomes(split, log_probs, task_labels) for split, log_probs in evaluated]
    correct = np.concatenate([right for right, _ in outcomes])
    confidences = np.concatenate([confidence for _, confidence in outcomes])
    metrics = {
        f"{role}/accuracy": float(correct.mean()),
        f"{role}/calibration_error": calibration_error(confidences, correct),
    }
    for split, log_probs in evaluated:
        for key, value in evaluate(split, log_probs, task_labels).items():
            metrics[f"{role}/{key}"] = value
    return metrics


def _outcomes(
    split: Split, log_probs: FloatArray, task_labels: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    if log_probs.shape != (len(split), len(task_labels)) or len(split) == 0:
        raise ValueError(
            f"log-probabilities of {split.name} must be ({len(split)}, {len(task_labels)}) and "
            f"not empty, but have shape {log_probs.shape}"
        )
    collapse = split.collapse(task_labels)
    correct: NDArray[np.bool_] = collapsed_predictions(log_probs, collapse) == split.labels
    return correct, collapsed_confidences(log_probs, collapse)


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
    """A slash would read as another level of the key."""
    return text.replace("/", "_")
