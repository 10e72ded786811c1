"""R-Drop: two passes with different dropout must agree.

L = (CE(y, q1) + CE(y, q2)) / 2 + alpha (KL(q1 || q2) + KL(q2 || q1)) / 2, with q1 and q2 the
outputs of two forward passes on the same batch (Liang et al., NeurIPS 2021, equations 2 to 4).
Equation 3 adds the two cross-entropies; here their mean is taken, so that loss and gradients are
the size of `vanilla`'s, and an alpha here corresponds to twice that alpha there. The paper uses 0.1
to 1 for GLUE. A step costs two forward and two backward passes. Without dropout (ModernBERT by
default) both passes are identical: the loss is then `vanilla` at twice the cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from rc_core.config import PluginConfig
from rc_core.losses._base import Forward, LossContext, Need
from rc_core.losses._soft import kl_divergence


class Config(PluginConfig):
    """Settings of R-Drop.

    Attributes:
        alpha: weight of the disagreement between the two passes, at least 0; 0 is the cross-entropy
            of both.
    """

    alpha: Annotated[float, Field(ge=0.0)] = 1.0


def rdrop_loss(first: Tensor, second: Tensor, labels: Tensor, *, alpha: float) -> Tensor:
    """Return the mean cross-entropy of two passes plus alpha times their symmetric KL divergence.

    Args:
        first: (B, C) logits of one pass, B at least 1.
        second: (B, C) logits of the other; both get gradients, and the result does not depend on
            their order.
        labels: (B,) int64.
        alpha: at least 0.

    Returns:
        Scalar float32, a mean over the batch, in nats.
    """
    log_p, log_q = first.float().log_softmax(dim=-1), second.float().log_softmax(dim=-1)
    hard = functional.nll_loss(log_p, labels) + functional.nll_loss(log_q, labels)
    apart = kl_divergence(log_p, log_q) + kl_divergence(log_q, log_p)
    return 0.5 * hard + 0.5 * alpha * apart.mean()


class Loss:
    """Cross-entropy of two passes plus their disagreement; needs nothing but the labels."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    def __init__(self, config: Config) -> None:
        self.config = config

    def rows(self, context: LossContext) -> dict[str, Tensor]:
        """Return no rows."""
        return {}

    def on_model(self, forward: Forward, labels: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of a batch, on which the model runs twice; labels (B,) int64."""
        first, second = forward().logits, forward().logits
        return rdrop_loss(first, second, labels, alpha=self.config.alpha)
