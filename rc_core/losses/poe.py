"""Product of experts: the model need not learn again what a biased model already explains.

L = (1 - lambda) CE(y, softmax(log q + beta log b)) + lambda KL(p || q), with b a fixed bias expert,
q the model, which is used alone at test time, and p the teacher (Clark et al. 2019; He et al. 2019;
with weak models as experts Sanh et al. 2021). The expert is an over-pruned sub-network from stage 1
(our own idea, not in Du et al. 2023), or a classifier of the second text alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from rc_core.labels import short
from rc_core.losses._base import LossContext, Need
from rc_core.losses._expert import Expert, LevelExpert, expert_log_probs
from rc_core.losses._soft import (
    SoftConfig,
    shuffled_rows,
    soft_loss,
    teacher_log_probs,
)

# Lower bound, so that an expert that is certain but wrong does not drown the model's own logits:
# e^-15 is 3 in 10 million.
_LEAST_LOG_PROB = -15.0


class Config(SoftConfig):
    """Settings of the product of experts.

    Attributes:
        expert: `{level: 0.75}`, or `hypothesis_only`.
        beta: weight of the expert, at least 0; 0 leaves it out.
        lambda_: `lambda` in YAML: weight of the teacher, in [0, 1]; with 0.5, the default until
            2026-11-27, a full product did harm (tune_configs/paper/RESULTS.md).
        shuffled: give each sample the expert's opinion on another one, as a control.
    """

    expert: Expert = LevelExpert()
    beta: Annotated[float, Field(ge=0.0)] = 1.0
    lambda_: Annotated[float, Field(alias="lambda", ge=0.0, le=1.0)] = 0.9
    shuffled: bool = False

    def label(self) -> str:
        """Return `poe expert=0.75 beta=0.5`: the expert always, the rest unless it is a default."""
        parts = self.label_parts(leave_out=["expert"])
        return " ".join([self.name, f"expert={short(self.expert)}", *parts])


def product_loss(logits: Tensor, labels: Tensor, expert: Tensor, *, beta: float) -> Tensor:
    """Return CE(y, softmax(log q + beta log b)), a mean over the batch.

    Args:
        logits: (B, C), B at least 1; log q up to a constant per row.
        labels: (B,) int64.
        expert: (B, C) log b, finite, fixed.
        beta: at least 0.

    Returns:
        Scalar float32.
    """
    return functional.cross_entropy(logits.float().log_softmax(dim=-1) + beta * expert, labels)


class Loss:
    """Product of experts, with distillation from the dense reference."""

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher_log_probs", "expert_log_probs"})
    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config

    def rows(self, context: LossContext) -> dict[str, Tensor]:
        """Return `soft_targets` and `expert`, (N, C) float32 log-probabilities each.

        Reports how good the expert is: its accuracy, mean confidence and entropy on train.

        Raises:
            TrialError: the teacher or the expert diverged.
        """
        teacher = teacher_log_probs(context)
        expert = expert_log_probs(context)
        labels = context.labels.to(expert.device)
        context.report["expert"] = {
            "accuracy": float((expert.argmax(dim=1) == labels).double().mean()),
            "confidence": float(expert.exp().max(dim=1).values.double().mean()),
            "entropy": float(torch.special.entr(expert.exp()).sum(dim=1).double().mean()),
        }
        expert = expert.clamp(min=_LEAST_LOG_PROB).log_softmax(dim=-1)
        if self.config.shuffled:
            expert = shuffled_rows(expert, context)
        return {"soft_targets": teacher, "expert": expert}

    def __call__(self, logits: Tensor, labels: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of a batch; logits (B, C), labels (B,) int64."""
        config = self.config
        hard = product_loss(logits, labels, rows["expert"], beta=config.beta)
        log_probs = logits.float().log_softmax(dim=-1)
        soft = soft_loss(log_probs, rows["soft_targets"], temperature=config.temperature)
        return (1.0 - config.lambda_) * hard + config.lambda_ * soft
