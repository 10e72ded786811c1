"""Cross-entropy with the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from rc_core.config import PluginConfig
from rc_core.losses._base import LossContext, Need


class Config(PluginConfig):
    """No settings."""


def vanilla_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of -log q[y] over the batch.

    Args:
        logits: (B, C), B at least 1.
        labels: (B,) int64.

    Returns:
        Scalar float32.
    """
    return functional.cross_entropy(logits.float(), labels)


class Loss:
    """Cross-entropy; needs nothing but the labels."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config

    def rows(self, context: LossContext) -> dict[str, Tensor]:
        """Return no rows."""
        return {}

    def __call__(self, logits: Tensor, labels: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of a batch; logits (B, C), labels (B,) int64."""
        return vanilla_loss(logits, labels)
