"""A sample is hard when the teacher's pruned sub-networks are mostly wrong about it.

Not in the paper, whose loss variance (loss_variance.py) is small for a sample that every
sub-network gets wrong; this score is largest there. On MNLI it predicts better what is hard for
other models (tune_configs/paper/RESULTS.md). Both read the same stored outputs, so having both
costs one run:

    e_i = (1/n) sum_t (1 - p_t(y_i | x_i))        in [0, 1]
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rc_core.difficulty import loss_variance
from rc_core.difficulty._base import DifficultyContext, Outputs, above_median, error_probability

# `outputs` is that plugin's, with the same settings; the result is stored once for both.
OUTPUTS_OF = "loss_variance"


class Config(loss_variance.Config):
    """Which sub-networks are used: the settings of `loss_variance`.

    With `mode: both`, the reported rank correlation is that of `loss_variance`'s scores.
    """


def title(config: Config) -> str:
    """Return what is built, for people."""
    return loss_variance.title(config)


def outputs(config: Config, context: DifficultyContext) -> Outputs:
    """Prune the teacher to every level and return the outputs of the sub-networks.

    Raises:
        DifficultyError: a level diverged; names it.
    """
    return loss_variance.outputs(config, context)


def scores(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over levels of 1 - p(y), (N,) float64 in [0, 1].

    Args:
        log_probs: (L, N, C).
        labels: (N,) int64.
    """
    return torch.stack([error_probability(level, labels) for level in log_probs]).mean(dim=0)


def hard(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return the half of the samples with the larger score, (N,) bool."""
    return above_median(scores(log_probs, labels))


def summary(log_probs: Tensor, labels: Tensor, config: Config) -> dict[str, Any]:
    """Return the share of samples that every level gets wrong."""
    wrong = (log_probs.argmax(dim=2) != labels).all(dim=0)
    return {"wrong_at_every_level": float(wrong.double().mean())}
