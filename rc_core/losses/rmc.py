"""Robust model compression: distillation from a teacher made less certain on easy samples.

L = (1 - lambda) CE(y, q) + lambda KL(s || q), s_ij = p_ij^d_i / sum_k p_ik^d_i, with p the teacher
and d_i in [alpha, 1] the sample's difficulty (Du et al. 2023, section 5.2). The paper's alpha: 0.5
on MNLI, 0.3 on FEVER, 0.2 on QQP.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from rc_core.difficulty._base import Normalisation, degrees
from rc_core.losses._base import LossContext, Need
from rc_core.losses._degrees import degree_report, smooth_log_probs
from rc_core.losses._soft import SoftConfig, SoftLoss, shuffled_rows, teacher_log_probs


class Config(SoftConfig):
    """Settings of robust model compression.

    Attributes:
        alpha: degree of the easiest sample, in (0, 1]; 1 is plain distillation. `auto` chooses it
            on in-distribution data (`rc_core.alpha`), at the one-time cost of nine training runs.
        normalisation: how difficulty scores are mapped to [0, 1]: `minmax` (the paper), `rank`, or
            `winsorized` (min-max after clipping to the 5 % and 95 % quantiles).
        shuffled: give each sample the degree of another one: the same degrees on the wrong samples,
            as a control.
        alpha_on: the compression that `alpha: auto` is judged on, as a section; null takes the
            trial's own. A sweep fills in its cheapest.
    """

    alpha: Annotated[float, Field(gt=0.0, le=1.0)] | Literal["auto"] = 0.5
    normalisation: Normalisation = "minmax"
    shuffled: bool = False
    alpha_on: dict[str, Any] | None = None

    def label(self) -> str:
        """Return `rmc alpha=0.3`, without what alpha was judged on."""
        return " ".join([self.name, *self.label_parts(leave_out=["alpha_on"])])


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
            TrialError: the teacher's outputs contain NaN or infinite values.
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
