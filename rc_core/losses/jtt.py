"""Just train twice: cross-entropy with more weight on what a first, short training got wrong.

The dense model is trained for `first_epochs`. Samples it predicts wrong get weight `up_weight`, the
others 1, divided by the mean over the training set (Liu et al. 2021; weight 2 in Du et al. 2023).
The first stage of Du et al. runs for the full number of epochs; but a converged model makes no
errors on its training data, so here the number is a setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from rc_core.config import PluginConfig
from rc_core.losses._base import LossContext, Need
from rc_core.losses._soft import checked_log_probs

# Below this share of errors, `jtt` hardly differs from `vanilla`.
FEW_ERRORS = 0.02


class Config(PluginConfig):
    """Settings of just-train-twice.

    Attributes:
        up_weight: weight of a sample that the first stage got wrong, above 0; 1 is cross-entropy.
        first_epochs: length of the first stage.
    """

    up_weight: Annotated[float, Field(gt=0.0)] = 2.0
    first_epochs: Annotated[float, Field(gt=0.0)] = 1.0


def jtt_weights(errors: Tensor, *, up_weight: float) -> Tensor:
    """Return each sample's weight: `up_weight` for errors, 1 for the others, over their mean.

    Args:
        errors: (N,) bool, N at least 1.
        up_weight: above 0.

    Returns:
        (N,) float32 with mean 1.
    """
    weights = torch.where(errors, up_weight, 1.0).double()
    return (weights / weights.mean()).float()


def weighted_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over the batch of w_i CE_i.

    Args:
        logits: (B, C), B at least 1.
        labels: (B,) int64.
        weights: (B,) with mean 1 over the training set (not the batch).

    Returns:
        Scalar float32.
    """
    return (weights * functional.cross_entropy(logits.float(), labels, reduction="none")).mean()


class Loss:
    """Cross-entropy weighted by the first stage's errors."""

    needs: ClassVar[frozenset[Need]] = frozenset({"first_stage_log_probs"})
    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config

    def rows(self, context: LossContext) -> dict[str, Tensor]:
        """Return `weights`, (N,) float32; report the share of errors, and warn below 2 %.

        Raises:
            TrialError: the first stage diverged.
        """
        log_probs = checked_log_probs(
            context.first_stage_log_probs,
            context.labels,
            "first_stage_log_probs",
            "the first stage diverged; lower teacher.learning_rate",
        )
        errors = log_probs.argmax(dim=1) != context.labels.to(log_probs.device)
        share = float(errors.double().mean())
        context.report["errors"] = share
        if share < FEW_ERRORS:
            context.report["warning"] = (
                f"the first stage is wrong on {100 * share:.1f} % of train, below "
                f"{100 * FEW_ERRORS:g} %: jtt comes close to vanilla; lower loss.first_epochs"
            )
        return {"weights": jtt_weights(errors, up_weight=self.config.up_weight)}

    def __call__(self, logits: Tensor, labels: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of a batch; logits (B, C), labels (B,) int64."""
        return weighted_loss(logits, labels, rows["weights"])
