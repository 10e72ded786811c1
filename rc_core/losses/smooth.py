"""Distillation from a teacher made less certain on every sample alike: one degree for all.

s_ij = p_ij^d / sum_k p_ik^d with d = 0.9 (Du et al. 2023, baseline "Smooth"); the rest is as in
`distil`. With d at the mean degree of `rmc`, it is the control that shows what knowing the samples'
difficulty adds.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rc_core.losses._base import LossContext, Need
from rc_core.losses._degrees import smooth_log_probs
from rc_core.losses._soft import SoftConfig, SoftLoss, teacher_log_probs


class Config(SoftConfig):
    """Settings of global smoothing.

    Attributes:
        degree: d of every sample, in (0, 1]; 1 is plain distillation.
    """

    degree: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9


class Loss(SoftLoss):
    """Distillation from the dense reference's probabilities, all smoothed by one degree."""

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher_log_probs"})
    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config

    def rows(self, context: LossContext) -> dict[str, Tensor]:
        """Return `soft_targets`, (N, C) float32 log s. Raises TrialError for NaN."""
        degree = torch.tensor(self.config.degree, dtype=torch.float64)
        return {"soft_targets": smooth_log_probs(teacher_log_probs(context), degree)}
