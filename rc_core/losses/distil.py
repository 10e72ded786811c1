"""Knowledge distillation: cross-entropy mixed with KL to the teacher's probabilities.

L = (1 - lambda) CE(y, q) + lambda KL(p || q), lambda 0.9, temperature 1 (Du et al. 2023).
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from rc_core.losses._base import LossContext, Need
from rc_core.losses._soft import SoftConfig, SoftLoss, teacher_log_probs


class Config(SoftConfig):
    """Settings of distillation: `lambda` and `temperature`."""


class Loss(SoftLoss):
    """Distillation from the dense reference."""

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher_log_probs"})
    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config

    def rows(self, context: LossContext) -> dict[str, Tensor]:
        """Return `soft_targets`, (N, C) float32 log-probabilities. Raises TrialError for NaN."""
        return {"soft_targets": teacher_log_probs(context)}
