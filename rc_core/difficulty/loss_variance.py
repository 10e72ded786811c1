"""A sample is hard when its loss varies over sub-networks of different sparsity.

Stage 1 of robust model compression (Du et al. 2023, section 5.1): the teacher is pruned to several
levels, l_it is the loss of sample i in sub-network t, and

    v_i = (1/n) sum_t (l_it - mean_t l_it)^2
    d_i = alpha + (1 - alpha) (v_i - Vmin) / (Vmax - Vmin)        in [alpha, 1], 1: hardest

Everything is computed in float64 and returned as float32. Losses are cross-entropies in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from rc_core.config import PluginConfig
from rc_core.errors import TrialError

# Below this, relative to the largest squared loss, variances differ by rounding only.
_SAME = 1e-12


class Config(PluginConfig):
    """The sub-networks whose losses are compared.

    Attributes:
        levels: sparsities of the pruned teacher, at least two, strictly increasing, in [0, 1).
        mode: `gradual` prunes one run through all levels; `independent` trains one run per level.
        epochs: length of the gradual run, or of each independent run.
        learning_rate: peak; None takes the training's.
    """

    levels: tuple[Annotated[float, Field(ge=0.0, lt=1.0)], ...] = (0.2, 0.35, 0.5, 0.65, 0.85)
    mode: Literal["gradual", "independent"] = "gradual"
    epochs: Annotated[float, Field(gt=0.0)] = 1.0
    learning_rate: Annotated[float, Field(gt=0.0)] | None = None

    @field_validator("levels")
    @classmethod
    def _check_levels(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if len(levels) < 2 or list(levels) != sorted(set(levels)):
            raise ValueError("levels must be at least two strictly increasing sparsities")
        return levels


def per_sample_losses(level_log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of every sample in every sub-network, -log p[t, i, y_i].

    Args:
        level_log_probs: (L, N, C) log-probabilities.
        labels: (N,) int64 in [0, C).

    Returns:
        (L, N) float32.
    """
    if level_log_probs.ndim != 3 or labels.shape != level_log_probs.shape[1:2]:
        raise ValueError(
            "level_log_probs must be (levels, samples, classes) and labels (samples,), but are "
            f"{tuple(level_log_probs.shape)} and {tuple(labels.shape)}"
        )
    rows = torch.arange(len(labels), device=level_log_probs.device)
    return -level_log_probs[:, rows, labels.to(level_log_probs.device)].float()


def check_levels(losses: Tensor, levels: Sequence[float] = ()) -> None:
    """Check that every sub-network's losses are finite.

    Args:
        losses: (L, N).
        levels: the L sparsities, to name a level by; its position is named without them.

    Raises:
        TrialError: losses of a level are NaN or infinite; names every such level.
    """
    bad = (~torch.isfinite(losses)).sum(dim=1).tolist()
    names = [f"level {level:g}" for level in levels] or [f"level {i}" for i in range(len(bad))]
    wrong = [f"{name} ({count})" for name, count in zip(names, bad, strict=True) if count]
    if wrong:
        raise TrialError(
            f"every sub-network's losses must be finite, but of {losses.shape[1]} samples some are "
            f"NaN or infinite in {', '.join(wrong)}: its training diverged; lower "
            "difficulty.learning_rate or leave the level out of difficulty.levels"
        )


def loss_variance(losses: Tensor) -> Tensor:
    """Return each sample's population variance of the loss over the levels.

    Args:
        losses: (L, N), L and N at least 1.

    Returns:
        (N,) float32.

    Raises:
        TrialError: a level has NaN or infinite losses.
    """
    return _variance(_checked(losses)).float()


def difficulty_degree(losses: Tensor, alpha: float) -> Tensor:
    """Return each sample's degree d_i: min-max normalised loss variance, scaled to [alpha, 1].

    Where all variances are equal (up to rounding) nothing tells samples apart, and all degrees
    are 1: the teacher's probabilities stay as they are.

    Args:
        losses: (L, N), loss of sample i in the sub-network of level t; L and N at least 1.
        alpha: in [0, 1]: the degree of the easiest sample.

    Returns:
        (N,) float32 in [alpha, 1].

    Raises:
        TrialError: a level has NaN or infinite losses.
        ValueError: alpha outside [0, 1], or losses not (levels, samples).
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must be in [0, 1], but got {alpha}")
    checked = _checked(losses)
    variance = _variance(checked)
    low, high = variance.min(), variance.max()
    if float(high - low) <= _SAME * float(checked.abs().max()) ** 2:
        return torch.ones_like(variance, dtype=torch.float32)
    return (alpha + (1.0 - alpha) * (variance - low) / (high - low)).float()


def variance_shares(losses: Tensor) -> list[float | None]:
    """Return which share of the summed variance each level contributes.

    Level t contributes sum_i (l_it - mean_t l_it)^2. A level that holds most of it decides the
    degrees almost alone.

    Args:
        losses: (L, N), L and N at least 1.

    Returns:
        L shares that sum to 1; all None where no loss varies.

    Raises:
        TrialError: a level has NaN or infinite losses.
    """
    checked = _checked(losses)
    parts = _squared_deviation(checked).sum(dim=1)
    total = float(parts.sum())
    if total <= _SAME * float(checked.abs().max()) ** 2:
        return [None] * len(parts)
    return [float(part) / total for part in parts]


def _checked(losses: Tensor) -> Tensor:
    checked = torch.as_tensor(losses, dtype=torch.float64)
    if checked.ndim != 2 or 0 in checked.shape:
        raise ValueError(
            f"losses must be (levels, samples) and not empty, but are {tuple(checked.shape)}"
        )
    check_levels(checked)
    return checked


def _squared_deviation(losses: Tensor) -> Tensor:
    return (losses - losses.mean(dim=0, keepdim=True)) ** 2


def _variance(losses: Tensor) -> Tensor:
    return _squared_deviation(losses).mean(dim=0)
