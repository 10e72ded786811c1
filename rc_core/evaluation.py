"""Full evaluation of a model on splits: metrics, and the per-sample predictions behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import nn

from rc_core.atomic import replacing
from rc_core.data._task import Role, Split, Task
from rc_core.errors import TrialError
from rc_core.metrics.classification import (
    balanced_accuracy,
    collapsed_confidences,
    collapsed_predictions,
    role_metrics,
)
from rc_core.metrics.easy_hard import easy_hard_metrics
from rc_core.metrics.robustness import (
    difference_in_points,
    gap_standard_error,
    guarded_relative_bias,
)
from rc_core.record import TrialFolder
from rc_core.training import predict
from rc_core.workspace import TaskData

LogProbs = NDArray[np.float32]


def predict_splits(
    model: nn.Module, data: TaskData, splits: Iterable[Split]
) -> dict[str, LogProbs]:
    """Return log-probabilities by split name, (N, C) float32 each.

    Raises:
        TrialError: some are not finite.
    """
    return {
        split.name: _finite(predict(model, data.encoded(split)), split.name) for split in splits
    }


def _finite(log_probs: LogProbs, name: str) -> LogProbs:
    if not np.isfinite(log_probs).all():
        raise TrialError(f"predictions on {name} must be finite, but hold NaN or inf")
    return log_probs


def rung_metrics(
    model: nn.Module, data: TaskData, roles: Sequence[Role], precision: str
) -> dict[str, float]:
    """Return `rung/<role>/accuracy` and `balanced_accuracy`, from each split's fixed sample.

    The samples have equal sizes, the splits do not. The metrics that these predict,
    `<role>/accuracy` and the like, weigh splits by size, so these do too.
    """
    metrics: dict[str, float] = {}
    for role in roles:
        splits = data.task.of_role(role)
        sizes = [int(split.headline_rows().sum()) for split in splits]
        found, correct, labels, weights = 0.0, [], [], []
        for split, size in zip(splits, sizes, strict=True):
            sample = data.sample(split)
            encoded = data.encoded(sample, sample=True)
            log_probs = _finite(predict(model, encoded, precision=precision), split.name)
            collapse = sample.collapse(data.task.label_names)
            right = collapsed_predictions(log_probs, collapse) == sample.labels
            found += float(right.mean()) * (size / sum(sizes))
            correct.append(right)
            labels.append(np.array(sample.label_names)[sample.labels])
            weights.append(np.full(len(sample), size / len(sample)))
        metrics[f"rung/{role}/accuracy"] = found
        metrics[f"rung/{role}/balanced_accuracy"] = balanced_accuracy(
            *map(np.concatenate, (correct, labels, weights))
        )
    return metrics


def split_metrics(
    data: TaskData, roles: Sequence[Role], predictions: Mapping[str, LogProbs]
) -> dict[str, float]:
    """Return every metric of the given roles, with the keys used in records."""
    metrics: dict[str, float] = {}
    for role in roles:
        pairs = [(split, predictions[split.name]) for split in data.task.of_role(role)]
        if pairs:
            metrics |= role_metrics(role, pairs, data.task.label_names)
    return metrics


def agreement_metrics(
    predictions: Mapping[str, LogProbs], splits: Sequence[Split], reference: Path
) -> dict[str, float]:
    """Return `<role>/agreement` with the dense reference, and one per suite if a role has several.

    A role's agreement counts only the headlines of its splits, as its accuracy does; a suite's
    counts all samples.

    Args:
        predictions: split name -> (N, C) of the compressed model.
        splits: which to compare.
        reference: folder of the reference's predictions, as written by `write_predictions`; splits
            that it does not hold are left out.
    """
    same: dict[Role, dict[str, NDArray[np.bool_]]] = {}
    counted: dict[Role, list[NDArray[np.bool_]]] = {}
    for split in splits:
        path = reference / f"{split.name}.parquet"
        if path.is_file():
            expected = read_predictions(path).argmax(axis=1)
            found = predictions[split.name].argmax(axis=1) == expected
            same.setdefault(split.role, {})[split.suite] = found
            counted.setdefault(split.role, []).append(found[split.headline_rows()])
    metrics = {}
    for role, suites in same.items():
        metrics[f"{role}/agreement"] = float(np.concatenate(counted[role]).mean())
        if len(suites) > 1:
            for suite, equal in suites.items():
                metrics[f"{role}/{suite}/agreement"] = float(equal.mean())
    return metrics


def difficulty_metrics(
    log_probs: LogProbs, split: Split, task_labels: Sequence[str], hard: NDArray[np.bool_]
) -> tuple[dict[str, float], dict[str, str]]:
    """Return `<role>/difficulty...` of a split's easy and hard samples, and what is undefined.

    Args:
        log_probs: (M, C).
        split: of M samples.
        task_labels: the C labels, in output order.
        hard: (M,), which samples count as hard.
    """
    collapse = split.collapse(task_labels)
    correct = collapsed_predictions(log_probs, collapse) == split.labels
    metrics, undefined = easy_hard_metrics(
        correct, collapsed_confidences(log_probs, collapse), hard
    )
    return (
        {f"{split.role}/{key}": value for key, value in metrics.items()},
        {f"{split.role}/{key}": why for key, why in undefined.items()},
    )


def relative_metrics(
    metrics: Mapping[str, float],
    reference: Mapping[str, float],
    stage: str,
    *,
    sizes: tuple[int, int] | None = None,
) -> tuple[dict[str, float], dict[str, str]]:
    """Compare with the dense reference.

    Args:
        metrics: of the compressed model.
        reference: of the dense reference, same keys.
        stage: `dev` or `test`.
        sizes: number of samples counted in distribution and out of it, used to tell whether the
            reference's gap is clear of zero; None skips that test.

    Returns:
        `<role>/difference` in points (compressed minus reference) and `ood_<stage>/relative_bias`;
        and the reason if the relative bias is undefined.
    """
    id_key, ood_key = f"id_{stage}/accuracy", f"ood_{stage}/accuracy"
    result = {
        f"{key.partition('/')[0]}/difference": difference_in_points(metrics[key], reference[key])
        for key in (id_key, ood_key)
        if key in metrics and key in reference
    }
    undefined: dict[str, str] = {}
    if all(key in values for key in (id_key, ood_key) for values in (metrics, reference)):
        name = f"ood_{stage}/relative_bias"
        error = None
        if sizes is not None:
            error = gap_standard_error(reference[id_key], reference[ood_key], sizes=sizes)
        value, reason = guarded_relative_bias(
            metrics[id_key],
            metrics[ood_key],
            reference[id_key],
            reference[ood_key],
            reference_gap_standard_error=error,
        )
        result[name] = value
        if reason is not None:
            undefined[name] = reason
    return result, undefined


def counted_sizes(task: Task, stage: str) -> tuple[int, int] | None:
    """Return how many samples `id_<stage>` and `ood_<stage>` figures count; None if one is 0."""
    roles: tuple[Role, Role] = ("id_dev", "ood_dev") if stage == "dev" else ("id_test", "ood_test")
    found = [sum(int(s.headline_rows().sum()) for s in task.of_role(role)) for role in roles]
    return (found[0], found[1]) if all(found) else None


def write_predictions(
    path: Path, split: Split, log_probs: LogProbs, label_names: Sequence[str]
) -> None:
    """Write one split's predictions: columns idx, label, and `log_prob.<task label>`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, object] = {
        "idx": pa.array(np.arange(len(split)), pa.int32()),
        "label": pa.array([split.label_names[label] for label in split.labels]),
    }
    for i, name in enumerate(label_names):
        columns[f"log_prob.{name}"] = pa.array(log_probs[:, i], pa.float32())
    # Atomic, because a worker that should be gone may still write the same file.
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


def stored_metrics(
    data: TaskData, roles: Sequence[Role], folder: TrialFolder
) -> dict[str, float] | None:
    """Return every metric of the given roles from a trial's test predictions, without its weights.

    None if a split was not predicted by the recorded run, had other samples then, or its file
    cannot be read.
    """
    stamp = folder.tested_splits() or {}
    predictions = {}
    for split in (split for role in roles for split in data.task.of_role(role)):
        if stamp.get(split.name) != data.digest(split):
            return None
        try:
            found = read_predictions(folder.predictions(split.role, split.suite))
        except (OSError, pa.ArrowException):
            return None
        if len(found) != len(split):
            return None
        predictions[split.name] = found
    return split_metrics(data, roles, predictions)


def read_predictions(path: Path) -> LogProbs:
    """Return the log-probabilities (N, C) that `write_predictions` wrote."""
    table = pq.read_table(path)
    names = [name for name in table.column_names if name.startswith("log_prob.")]
    return np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float32)
