"""Accuracy and confidence on the easy and the hard samples of a split.

A compressed model that overfits shortcuts stays right on the easy half, gets worse on the hard one
(Du et al. 2023, section 5, table 6 and figure 1), and is over-confident on the easy one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rc_core.metrics._base import Metric, catalogue

METRICS: dict[str, Metric] = catalogue(
    Metric("difficulty_gap", "min", "accuracy on easy minus accuracy on hard samples, in points"),
    Metric("confidence", "min", "mean probability of the predicted label (on easy samples)"),
)


def easy_hard_metrics(
    correct: NDArray[np.bool_], confidences: NDArray[np.floating[Any]], hard: NDArray[np.bool_]
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the metrics of both halves, with keys relative to the role, and why one is undefined.

    Keys: `difficulty.<easy|hard>/accuracy`, `difficulty.<easy|hard>/confidence`, `difficulty_gap`.

    Args:
        correct: (M,), whether each prediction is right.
        confidences: (M,) in [0, 1], of the predicted labels.
        hard: (M,), which samples count as hard.

    Raises:
        ValueError: different lengths.
    """
    if not correct.shape == confidences.shape == hard.shape:
        raise ValueError(
            "correct, confidences and hard must have the same length, but have shapes "
            f"{correct.shape}, {confidences.shape} and {hard.shape}"
        )
    metrics: dict[str, float] = {}
    undefined: dict[str, str] = {}
    for name, chosen in (("easy", ~hard), ("hard", hard)):
        for metric, values in (("accuracy", correct), ("confidence", confidences)):
            key = f"difficulty.{name}/{metric}"
            metrics[key] = float(values[chosen].mean()) if chosen.any() else math.nan
            if not chosen.any():
                undefined[key] = f"no sample counts as {name}"
    gap = metrics["difficulty.easy/accuracy"] - metrics["difficulty.hard/accuracy"]
    metrics["difficulty_gap"] = 100.0 * gap
    if math.isnan(gap):
        undefined["difficulty_gap"] = "all samples count as easy, or all as hard"
    return metrics, undefined


def relative_robustness(easy: float, hard: float) -> float:
    """Return (A_easy - A_hard) / A_easy: how much of the easy accuracy is lost on hard samples.

    The criterion for alpha in Du et al. 2023, as we read it: smaller is more robust. NaN if A_easy
    is 0.

    Args:
        easy: accuracy on easy samples.
        hard: accuracy on hard samples.
    """
    return (easy - hard) / easy if easy != 0 else math.nan
