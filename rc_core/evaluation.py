"""Full evaluation of a model on splits: metrics, and the per-sample predictions behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import nn

from rc_core.data._task import Role, Split
from rc_core.errors import TrialError
from rc_core.metrics.classification import role_metrics
from rc_core.metrics.robustness import difference_in_points, guarded_relative_bias
from rc_core.training import predict
from rc_core.workspace import TaskData

LogProbs = NDArray[np.float32]


def predict_splits(
    model: nn.Module, data: TaskData, splits: Iterable[Split]
) -> dict[str, LogProbs]:
    """Return, per split name, log-probabilities (N, C) in float32.

    Raises:
        TrialError: some are not finite.
    """
    predictions = {}
    for split in splits:
        log_probs = predict(model, data.encoded(split))
        if not np.isfinite(log_probs).all():
            raise TrialError(f"predictions on {split.name} must be finite, but hold NaN or inf")
        predictions[split.name] = log_probs
    return predictions


def rung_metrics(
    model: nn.Module, data: TaskData, roles: Sequence[Role], precision: str
) -> dict[str, float]:
    """Return `rung/<role>/accuracy` on the fixed sample of each split."""
    metrics: dict[str, float] = {}
    for role in roles:
        pairs = []
        for split in data.task.of_role(role):
            sample = data.sample(split)
            log_probs = predict(model, data.encoded(sample, sample=True), precision=precision)
            if not np.isfinite(log_probs).all():
                raise TrialError(f"predictions on {split.name} must be finite, but hold NaN or inf")
            pairs.append((sample, log_probs))
        measured = role_metrics(role, pairs, data.task.label_names)
        metrics[f"rung/{role}/accuracy"] = measured[f"{role}/accuracy"]
    return metrics


def split_metrics(
    data: TaskData, roles: Sequence[Role], predictions: Mapping[str, LogProbs]
) -> dict[str, float]:
    """Return every metric of the given roles, keyed as in records."""
    metrics: dict[str, float] = {}
    for role in roles:
        pairs = [(split, predictions[split.name]) for split in data.task.of_role(role)]
        if pairs:
            metrics |= role_metrics(role, pairs, data.task.label_names)
    return metrics


def relative_metrics(
    metrics: Mapping[str, float], reference: Mapping[str, float], stage: str
) -> tuple[dict[str, float], dict[str, str]]:
    """Compare with the dense reference.

    Args:
        metrics: of the compressed model.
        reference: of the dense reference, same keys.
        stage: `dev` or `test`.

    Returns:
        `<role>/difference` in points (compressed minus reference) and `ood_<stage>/relative_bias`,
        and for an undefined relative bias the reason.
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
        value, reason = guarded_relative_bias(
            metrics[id_key], metrics[ood_key], reference[id_key], reference[ood_key]
        )
        result[name] = value
        if reason is not None:
            undefined[name] = reason
    return result, undefined


def write_predictions(
    path: Path, split: Split, log_probs: LogProbs, label_names: Sequence[str]
) -> None:
    """Write one split's predictions: idx, label, and `log_prob.<task label>` columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, object] = {
        "idx": pa.array(np.arange(len(split)), pa.int32()),
        "label": pa.array([split.label_names[label] for label in split.labels]),
    }
    for i, name in enumerate(label_names):
        columns[f"log_prob.{name}"] = pa.array(log_probs[:, i], pa.float32())
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(pa.table(columns), temporary, compression="zstd")
    temporary.replace(path)


def read_predictions(path: Path) -> LogProbs:
    """Return the log-probabilities (N, C) that `write_predictions` wrote."""
    table = pq.read_table(path)
    names = [name for name in table.column_names if name.startswith("log_prob.")]
    return np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float32)
