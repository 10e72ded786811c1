"""Confidence regularisation: distillation from a teacher made less certain where a biased model is.

s_ij = p_ij^(1 - b_i) / sum_k p_ik^(1 - b_i), with b_i the bias expert's probability of the true
label (Utama et al. 2020, equations 1 and 2). This is `rmc` with another degree, d_i = 1 - b_i:
samples that the expert gets right with certainty are smoothed most. Not among the baselines of Du
et al. 2023.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rc_core.losses._base import LossContext, Need
from rc_core.losses._degrees import degree_report, smooth_log_probs
from rc_core.losses._expert import Expert, LevelExpert, expert_log_probs
from rc_core.losses._soft import (
    SoftConfig,
    SoftLoss,
    shuffled_rows,
    teacher_log_probs,
)


class Config(SoftConfig):
    """Settings of confidence regularisation.

    Attributes:
        expert: `{level: 0.75}`, or `hypothesis_only`; see `poe`.
        lambda_: `lambda` in YAML: weight of the teacher, in [0, 1]; 1 as published.
        shuffled: give each sample the degree of another one, as a control.
    """

    expert: Expert = LevelExpert()
    lambda_: Annotated[float, Field(alias="lambda", ge=0.0, le=1.0)] = 1.0
    shuffled: bool = False


def trust(expert_log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return d_i = 1 - b_i[y_i]: how far the teacher's probabilities are left as they are.

    Args:
        expert_log_probs: (N, C) log b.
        labels: (N,) int64.

    Returns:
        (N,) float64 in [0, 1].
    """
    right = expert_log_probs.double().gather(1, labels.view(-1, 1)).squeeze(1)
    return (-torch.expm1(right)).clamp(0.0, 1.0)


class Loss(SoftLoss):
    """Distillation from the dense reference's probabilities, smoothed by the expert's certainty."""

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher_log_probs", "expert_log_probs"})
    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config

    def rows(self, context: LossContext) -> dict[str, Tensor]:
        """Return `soft_targets`, (N, C) float32 log s; report the degrees.

        Raises:
            TrialError: the teacher or the expert diverged.
        """
        teacher = teacher_log_probs(context)
        expert = expert_log_probs(context)
        degree = trust(expert, context.labels.to(expert.device))
        context.report["degree"] = degree_report(degree, alpha=0.0)
        if self.config.shuffled:
            degree = shuffled_rows(degree, context)
        return {"soft_targets": smooth_log_probs(teacher, degree)}
