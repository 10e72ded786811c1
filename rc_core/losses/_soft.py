"""Learning from soft targets: what `distil` and `rmc` share. Temperature 1, as in the paper."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rc_core.errors import TrialError
from rc_core.losses._base import LossContext


def kl_divergence(target_log_probs: Tensor, log_probs: Tensor) -> Tensor:
    """Return KL(s || q) of every sample, sum_j s_j (log s_j - log q_j), in nats.

    A class with s_j = 0 contributes nothing.

    Args:
        target_log_probs: (B, C) log s, fixed; -inf for a probability of zero.
        log_probs: (B, C) log q.

    Returns:
        (B,), at least 0 up to rounding.
    """
    finite = target_log_probs.masked_fill(target_log_probs == -torch.inf, 0.0)
    return (target_log_probs.exp() * (finite - log_probs)).sum(dim=-1)


def soft_target_loss(
    logits: Tensor, labels: Tensor, target_log_probs: Tensor, *, weight: float
) -> Tensor:
    """Return (1 - lambda) CE(y, q) + lambda KL(s || q), each a mean over the batch.

    Du et al. 2023, section 5.2 (there lambda is 0.9); both sides are float32.

    Args:
        logits: (B, C), B at least 1.
        labels: (B,) int64.
        target_log_probs: (B, C) log s.
        weight: lambda, in [0, 1].

    Returns:
        Scalar float32.
    """
    log_probs = logits.float().log_softmax(dim=-1)
    hard = functional.nll_loss(log_probs, labels)
    soft = kl_divergence(target_log_probs.float(), log_probs).mean()
    return (1.0 - weight) * hard + weight * soft


def teacher_log_probs(context: LossContext) -> Tensor:
    """Return the teacher's log-probabilities of the training set, (N, C) float32.

    Raises:
        ValueError: they were not handed in, or have another number of rows.
        TrialError: they hold NaN or +inf.
    """
    found = context.teacher_log_probs
    if found is None or found.shape[:1] != context.labels.shape:
        given = None if found is None else tuple(found.shape)
        raise ValueError(
            f"teacher_log_probs must be ({len(context.labels)}, classes), but got {given}"
        )
    if bool(torch.isnan(found).any()) or bool((found == torch.inf).any()):
        raise TrialError(
            "the teacher's log-probabilities must be numbers, but some are NaN or infinite: the "
            "dense reference diverged; lower teacher.learning_rate"
        )
    return found.float()
