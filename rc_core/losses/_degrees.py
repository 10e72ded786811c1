"""Making a teacher less certain by degrees: shared by `smooth`, `rmc` and `conf_reg`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_BINS = 10
_NEAR = 0.02


def smooth_log_probs(log_probs: Tensor, degree: Tensor) -> Tensor:
    """Return log s_ij = d_i log p_ij - log sum_k p_ik^d_i.

    d = 1 leaves p as it is, a smaller d flattens it. A probability of zero stays zero for every
    degree.

    Args:
        log_probs: (..., C) log p, normalised or not; -inf for a probability of zero.
        degree: (...), or one number for all; at least 0.

    Returns:
        (..., C), with the dtype of `log_probs`.

    Raises:
        ValueError: shapes that do not fit, a negative or NaN degree, a row without support.
    """
    given = torch.as_tensor(log_probs)
    degrees = torch.as_tensor(degree, dtype=torch.float64, device=given.device)
    if degrees.ndim > 0 and degrees.shape != given.shape[:-1]:
        raise ValueError(
            f"degree must have the shape {tuple(given.shape[:-1])} (one per row), or be one "
            f"number, but has {tuple(degrees.shape)}"
        )
    if not bool((degrees >= 0).all()):
        raise ValueError("degrees must be at least 0, but some are negative or NaN")
    absent = given == -torch.inf
    if bool(absent.all(dim=-1).any()):
        raise ValueError("every row must have a probability above 0, but some have none")
    # 0 * -inf is NaN, so absent classes are masked first and put back afterwards.
    powers = (degrees.unsqueeze(-1) * given.double().masked_fill(absent, 0.0)).masked_fill(
        absent, -torch.inf
    )
    return powers.log_softmax(dim=-1).to(given.dtype)


def degree_report(degree: Tensor, *, alpha: float) -> dict[str, Any]:
    """Return statistics of the degrees: mean, quantiles, histogram, share close to alpha.

    If most degrees are close to alpha, the loss is close to one with a single global degree.

    Args:
        degree: (N,) in [alpha, 1].
        alpha: degree of the easiest sample.

    Returns:
        `mean`; `quantiles` by probability; `histogram` of 10 equal bins over [0, 1], with `edges`
        (11) and `counts` (10); `near_alpha`, the share of degrees within 0.02 of alpha.
    """
    values = degree.double().cpu()
    counts = torch.histc(values, bins=_BINS, min=0.0, max=1.0)
    ordered = values.sort().values
    # Nearest ranks, because torch.quantile rejects more than 16 million entries.
    ranks = {q: round(q * (len(ordered) - 1)) for q in _QUANTILES}
    return {
        "mean": float(values.mean()),
        "quantiles": {f"{q:g}": float(ordered[rank]) for q, rank in ranks.items()},
        "histogram": {
            "edges": [i / _BINS for i in range(_BINS + 1)],
            "counts": [int(count) for count in counts],
        },
        "near_alpha": float((values <= alpha + _NEAR).double().mean()),
    }
