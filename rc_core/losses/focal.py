"""Cross-entropy that gives less weight to samples the model is already certain of.

L = mean_i w_i CE_i, with w_i = (1 - q_i[y_i])^gamma divided by its batch mean, gamma 2 (Lin et al.
2017; normalised as in Du et al. 2023, so that the mean weight is 1). The weights are constants: no
gradient flows through them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rc_core.config import PluginConfig
from rc_core.losses._base import LossContext, Need


class Config(PluginConfig):
    """Settings of the focal loss.

    Attributes:
        gamma: exponent, at least 0; 0 is cross-entropy.
    """

    gamma: Annotated[float, Field(ge=0.0)] = 2.0


def focal_weights(log_probs: Tensor, labels: Tensor, *, gamma: float) -> Tensor:
    """Return (1 - q[y])^gamma over its batch mean; all 1 if every sample is certain.

    Args:
        log_probs: (B, C) log q.
        labels: (B,) int64.
        gamma: at least 0.

    Returns:
        (B,) float32 with mean 1, detached.
    """
    chosen = log_probs.detach().float().gather(1, labels.view(-1, 1)).squeeze(1)
    # -expm1(log q) is 1 - q without the cancellation that would round certain samples to 0.
    weights = (-torch.expm1(chosen)).clamp(min=0.0) ** gamma
    mean = weights.mean()
    return torch.where(mean > 0, weights / mean.clamp(min=1e-38), torch.ones_like(weights))


def focal_loss(logits: Tensor, labels: Tensor, *, gamma: float) -> Tensor:
    """Return the mean over the batch of w_i CE_i.

    Args:
        logits: (B, C), B at least 1.
        labels: (B,) int64.
        gamma: at least 0.

    Returns:
        Scalar float32.
    """
    log_probs = logits.float().log_softmax(dim=-1)
    losses = -log_probs.gather(1, labels.view(-1, 1)).squeeze(1)
    return (focal_weights(log_probs, labels, gamma=gamma) * losses).mean()


class Loss:
    """Focal loss; needs nothing but the labels."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config

    def rows(self, context: LossContext) -> dict[str, Tensor]:
        """Return no rows."""
        return {}

    def __call__(self, logits: Tensor, labels: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of a batch; logits (B, C), labels (B,) int64."""
        return focal_loss(logits, labels, gamma=self.config.gamma)
