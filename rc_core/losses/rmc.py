"""Robust model compression: distillation from a teacher made less certain on easy samples.

L = (1 - lambda) CE(y, q) + lambda KL(s || q), s_ij = p_ij^d_i / sum_k p_ik^d_i, with p the teacher
and d_i in [alpha, 1] the sample's difficulty (Du et al. 2023, section 5.2). Paper's alpha: 0.5
MNLI, 0.3 FEVER, 0.2 QQP.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from rc_core.difficulty._base import Normalisation, degrees
from rc_core.losses._base import LossContext, Need
from rc_core.losses._soft import SoftConfig, SoftLoss, shuffled_rows, teacher_log_probs

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_BINS = 10
_NEAR = 0.02


class Config(SoftConfig):
    """Settings of robust model compression.

    Attributes:
        alpha: degree of the easiest sample, in (0, 1]; 1 is plain distillation. `auto` chooses it
            on in-distribution data (`rc_core.alpha`), at the cost of nine trainings, once.
        normalisation: of the difficulty scores to [0, 1]: `minmax` (the paper), `rank`, or
            `winsorized` (min-max after clipping to the 5 % and 95 % quantiles).
        shuffled: give each sample the degree of another one: the same degrees on the wrong
            samples, as a control.
        alpha_on: the compression that `alpha: auto` is judged on, as a section; null takes the
            trial's own. A sweep fills in its cheapest.
    """

    alpha: Annotated[float, Field(gt=0.0, le=1.0)] | Literal["auto"] = 0.5
    normalisation: Normalisation = "minmax"
    shuffled: bool = False
    alpha_on: dict[str, Any] | None = None

    def label(self) -> str:
        """Return `rmc alpha=0.3`, without what alpha was judged on."""
        return self.model_copy(update={"alpha_on": None})._plain_label()

    def _plain_label(self) -> str:
        return super().label()


def smooth_log_probs(log_probs: Tensor, degree: Tensor) -> Tensor:
    """Return log s_ij = d_i log p_ij - log sum_k p_ik^d_i: d = 1 leaves p, a smaller d flattens it.

    A probability of zero stays zero for every degree.

    Args:
        log_probs: (..., C) log p, normalised or not; -inf for a probability of zero.
        degree: (...), or one number for all; at least 0.

    Returns:
        (..., C) tensor of the type of `log_probs`.

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
    # 0 * -inf is NaN, so a degree of 0 needs the absent classes put back afterwards.
    powers = (degrees.unsqueeze(-1) * given.double().masked_fill(absent, 0.0)).masked_fill(
        absent, -torch.inf
    )
    return powers.log_softmax(dim=-1).to(given.dtype)


def degree_report(degree: Tensor, *, alpha: float) -> dict[str, Any]:
    """Return what the degrees look like: mean, quantiles, histogram, share close to alpha.

    When most degrees are close to alpha, the loss comes close to one global degree.

    Args:
        degree: (N,) in [alpha, 1].

    Returns:
        `mean`; `quantiles` by probability; `histogram` of 10 equal bins over [0, 1], with `edges`
        (11) and `counts` (10); `near_alpha`, the share within 0.02 of alpha.
    """
    values = degree.double().cpu()
    counts = torch.histc(values, bins=_BINS, min=0.0, max=1.0)
    ordered = values.sort().values
    # torch.quantile refuses more than 16 million entries; nearest ranks are exact samples.
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


class Loss(SoftLoss):
    """Distillation from the dense reference's probabilities, smoothed by difficulty."""

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher_log_probs", "difficulty"})
    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config

    def rows(self, context: LossContext) -> dict[str, Tensor]:
        """Return `soft_targets`, (N, C) float32 log s; report the degrees in `context.report`.

        Raises:
            ValueError: alpha is still `auto`, or the scores are missing or not one per sample.
            TrialError: the teacher holds NaN or infinite values.
        """
        alpha = self.config.alpha
        if alpha == "auto":
            raise ValueError("alpha must be a number here; resolve `auto` first (rc_core.alpha)")
        teacher = teacher_log_probs(context)
        scores = context.difficulty
        if scores is None or scores.shape != context.labels.shape:
            given = None if scores is None else tuple(scores.shape)
            raise ValueError(f"difficulty must be ({len(context.labels)},), but got {given}")
        degree = degrees(scores, alpha, self.config.normalisation)
        context.report["degree"] = degree_report(degree, alpha=alpha)
        if self.config.shuffled:
            degree = shuffled_rows(degree, context)
        return {"soft_targets": smooth_log_probs(teacher, degree)}
