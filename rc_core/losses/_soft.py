"""Learning from soft targets: shared by `distil`, `smooth`, `rmc`, `poe` and others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from rc_core.config import PluginConfig
from rc_core.errors import TrialError
from rc_core.losses._base import LossContext


class SoftConfig(PluginConfig):
    """Settings of every loss with a teacher.

    Attributes:
        lambda_: `lambda` in YAML: weight of the teacher against the labels, in [0, 1].
        temperature: T; KL compares both sides at probabilities proportional to p^(1/T), times T^2
            so that gradients keep their size (Hinton et al. 2015). Not in Du et al. 2023, so 1 by
            default.
    """

    lambda_: Annotated[float, Field(alias="lambda", ge=0.0, le=1.0)] = 0.9
    temperature: Annotated[float, Field(gt=0.0)] = 1.0


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


def soft_loss(log_probs: Tensor, target_log_probs: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return T^2 KL(s_T || q_T), a mean over the batch, with x_T proportional to x^(1/T).

    Args:
        log_probs: (B, C) log q, float32.
        target_log_probs: (B, C) log s.
        temperature: T, above 0.

    Returns:
        Scalar float32.
    """
    targets = target_log_probs.float()
    if temperature == 1.0:
        return kl_divergence(targets, log_probs).mean()
    softened = kl_divergence(
        (targets / temperature).log_softmax(dim=-1), (log_probs / temperature).log_softmax(dim=-1)
    )
    return temperature**2 * softened.mean()


def soft_target_loss(
    logits: Tensor,
    labels: Tensor,
    target_log_probs: Tensor,
    *,
    weight: float,
    temperature: float = 1.0,
) -> Tensor:
    """Return (1 - lambda) CE(y, q) + lambda KL(s || q), each a mean over the batch.

    Du et al. 2023, section 5.2 (where lambda is 0.9); both sides are float32.

    Args:
        logits: (B, C), B at least 1.
        labels: (B,) int64.
        target_log_probs: (B, C) log s.
        weight: lambda, in [0, 1].
        temperature: see `soft_loss`.

    Returns:
        Scalar float32.
    """
    log_probs = logits.float().log_softmax(dim=-1)
    hard = functional.nll_loss(log_probs, labels)
    soft = soft_loss(log_probs, target_log_probs, temperature=temperature)
    return (1.0 - weight) * hard + weight * soft


class SoftLoss:
    """Base of losses whose `rows` return `soft_targets`: mixes labels and targets."""

    def __init__(self, config: SoftConfig) -> None:
        self._weight, self._temperature = config.lambda_, config.temperature

    def __call__(self, logits: Tensor, labels: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of a batch; logits (B, C), labels (B,) int64."""
        return soft_target_loss(
            logits,
            labels,
            rows["soft_targets"],
            weight=self._weight,
            temperature=self._temperature,
        )


def teacher_log_probs(context: LossContext) -> Tensor:
    """Return the teacher's log-probabilities on the training set, (N, C) float32.

    Raises:
        ValueError: they are missing, or have the wrong number of rows.
        TrialError: they contain NaN or +inf.
    """
    return checked_log_probs(
        context.teacher_log_probs,
        context.labels,
        "teacher_log_probs",
        "the dense reference diverged; lower teacher.learning_rate",
    )


def checked_log_probs(log_probs: Tensor | None, labels: Tensor, name: str, advice: str) -> Tensor:
    """Return log-probabilities from a `LossContext`, (N, C) float32.

    Args:
        log_probs: (N, C); None if they are missing.
        labels: (N,) of the training set.
        name: of the field of `LossContext`.
        advice: what to do if they are not numbers, for the message.

    Raises:
        ValueError: they are missing, or have the wrong number of rows.
        TrialError: they contain NaN or +inf.
    """
    if log_probs is None or log_probs.ndim != 2 or log_probs.shape[:1] != labels.shape:
        given = None if log_probs is None else tuple(log_probs.shape)
        raise ValueError(f"{name} must be ({len(labels)}, classes), but got {given}")
    if bool(torch.isnan(log_probs).any()) or bool((log_probs == torch.inf).any()):
        raise TrialError(
            f"the outputs behind {name} must be numbers, but some are NaN or infinite: {advice}"
        )
    return log_probs.float()


def shuffled_rows(values: Tensor, context: LossContext) -> Tensor:
    """Return the rows in random order: the same values on the wrong samples, as a control."""
    return values[torch.randperm(len(values), generator=context.generator)]
