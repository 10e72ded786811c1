"""How much more biased than the reference a model is: relative bias, and what goes with it.

delta(m) = (F_id - F_ood) / F_id and F_bias = delta(model) / delta(reference), F an accuracy (Du et
al. 2023, section 4). Above 1: more biased than the reference.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rc_core.metrics._base import Metric, catalogue

METRICS: dict[str, Metric] = catalogue(
    Metric(
        "relative_bias",
        "min",
        "(ID - OOD) / ID over the same of the dense reference; undefined where it misleads",
    ),
    Metric("difference", "max", "accuracy minus the dense reference's, in points"),
)

MIN_REFERENCE_GAP = 0.02
MAX_ID_LOSS = 0.03
_Z95 = 1.96
# How the reason for a model that lost too much begins: records keep nothing but the text.
_LOST = "ID accuracy is "
# 0.57 - 0.55 is a hair under 0.02 in binary.
_ROUNDING = 1e-9


def relative_bias(
    id_accuracy: float,
    ood_accuracy: float,
    reference_id_accuracy: float,
    reference_ood_accuracy: float,
) -> float:
    """Return F_bias, the model's relative ID-OOD gap over the reference's.

    Pure: it also rewards broken models (see `guarded_relative_bias`). All accuracies may be shares,
    or all percentages.

    Returns:
        1 for the reference itself, smaller is better; NaN if a division is by zero.
    """
    if id_accuracy == 0 or reference_id_accuracy == 0:
        return math.nan
    delta = (id_accuracy - ood_accuracy) / id_accuracy
    reference = (reference_id_accuracy - reference_ood_accuracy) / reference_id_accuracy
    return delta / reference if reference != 0 else math.nan


def guarded_relative_bias(
    id_accuracy: float,
    ood_accuracy: float,
    reference_id_accuracy: float,
    reference_ood_accuracy: float,
    *,
    reference_gap_standard_error: float | None = None,
) -> tuple[float, str | None]:
    """Return F_bias if it is meaningful, else NaN and the reason.

    A collapsed model has no gap left and would look best of all, and a reference without a gap
    makes the ratio noise. So F_bias is undefined when the reference's gap is below 2 points or not
    clear of zero (below 1.96 standard errors), or when the model's ID accuracy is more than 3
    points below the reference's.

    Args:
        id_accuracy, ood_accuracy: of the model, shares in [0, 1]; NaN if not measured.
        reference_id_accuracy, reference_ood_accuracy: of the dense reference.
        reference_gap_standard_error: of the reference's ID - OOD, a share; None skips that test.

    Raises:
        ValueError: an accuracy outside [0, 1].
    """
    given = (id_accuracy, ood_accuracy, reference_id_accuracy, reference_ood_accuracy)
    if any(value < 0 or value > 1 for value in given):
        raise ValueError(f"accuracies must be shares in [0, 1], but got {given}")
    gap = reference_id_accuracy - reference_ood_accuracy
    loss = reference_id_accuracy - id_accuracy
    reason = None
    if any(math.isnan(value) for value in given):
        reason = "an accuracy was not measured"
    elif gap < MIN_REFERENCE_GAP - _ROUNDING:
        reason = f"the reference's ID-OOD gap is {_points(gap)}, below {_points(MIN_REFERENCE_GAP)}"
    elif reference_gap_standard_error is not None and gap < _Z95 * reference_gap_standard_error:
        reason = (
            f"the reference's ID-OOD gap of {_points(gap)} is not clear of zero (standard error "
            f"{_points(reference_gap_standard_error)})"
        )
    elif loss > MAX_ID_LOSS + _ROUNDING:
        reason = f"{_LOST}{_points(loss)} below the reference's, more than {_points(MAX_ID_LOSS)}"
    return (math.nan, reason) if reason else (relative_bias(*given), None)


def is_lost_accuracy(reason: str) -> bool:
    """Tell whether F_bias is undefined because the model lost too much ID accuracy.

    Args:
        reason: from `guarded_relative_bias`, in this process or in a record.
    """
    return reason.startswith(_LOST)


def without_amounts(reason: str, *, below: str = "the reference's") -> str:
    """Return a reason without its amounts, as a note for all rows that share it.

    Args:
        reason: from `guarded_relative_bias`.
        below: what the models are compared with.
    """
    if not is_lost_accuracy(reason):
        return reason
    return f"{_LOST}more than {100 * MAX_ID_LOSS:.0f} points below {below}"


def gap_standard_error(
    id_accuracy: float,
    ood_accuracy: float,
    *,
    sizes: tuple[int, int] | None,
    half_width: float = math.nan,
) -> float:
    """Return the standard error of an ID - OOD gap, a share: from the samples and from the seeds.

    Args:
        id_accuracy, ood_accuracy: shares in [0, 1], means over seeds if there are several. All
            seeds answer the same samples, so more seeds do not reduce the samples' part.
        sizes: number of samples counted in distribution and out of it; None: unknown, counted as no
            error.
        half_width: of the gap's 95 % interval over seeds; NaN for one seed.
    """
    shares = (id_accuracy, ood_accuracy)
    of_samples = sum(p * (1 - p) / n for p, n in zip(shares, sizes, strict=True)) if sizes else 0.0
    of_seeds = 0.0 if math.isnan(half_width) else half_width / _Z95
    return math.hypot(math.sqrt(of_samples), of_seeds)


def difference_in_points(accuracy: float, reference_accuracy: float) -> float:
    """Return accuracy minus the reference's, in percentage points, from shares in [0, 1]."""
    return 100.0 * (accuracy - reference_accuracy)


def majority_share(labels: NDArray[np.integer[Any]]) -> float:
    """Return the share of the most frequent label, in (0, 1]: the accuracy of always guessing it.

    Args:
        labels: (N,) integers.

    Raises:
        ValueError: no labels.
    """
    if labels.size == 0:
        raise ValueError("labels must not be empty")
    return float(np.unique(labels, return_counts=True)[1].max() / labels.size)


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"
