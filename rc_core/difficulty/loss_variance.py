"""A sample is hard when its loss varies over sub-networks of different sparsity.

Stage 1 of robust model compression (Du et al. 2023, section 5.1): the teacher is pruned to several
levels, l_it is the loss of sample i in sub-network t, and

    v_i = (1/n) sum_t (l_it - mean_t l_it)^2
    d_i = alpha + (1 - alpha) (v_i - Vmin) / (Vmax - Vmin)        in [alpha, 1], 1: hardest

Losses are cross-entropies in nats, float32. Variances are computed and returned in float64; degrees
(`_base.degrees`) are float32.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rc_core.difficulty._base import (
    DifficultyContext,
    Outputs,
    above_median,
    rank_correlation,
)
from rc_core.difficulty._levels import LevelsConfig
from rc_core.errors import DifficultyError

# Variances whose range, relative to the largest squared loss, is below this differ by rounding
# only: float32 losses within eight units in the last place of the largest count as equal.
_SAME = (8 * torch.finfo(torch.float32).eps) ** 2


class Config(LevelsConfig):
    """Which sub-networks' losses are compared."""


def title(config: Config) -> str:
    """Return what is built, for people."""
    how = {"gradual": "one run", "independent": f"{len(config.levels)} runs", "both": "both ways"}
    return f"difficulty: outputs of {len(config.levels)} pruned levels ({how[config.mode]})"


def outputs(config: Config, context: DifficultyContext) -> Outputs:
    """Prune the teacher to every level and return the outputs of the sub-networks.

    Raises:
        DifficultyError: a level diverged; names it.
    """
    main: Literal["gradual", "independent"] = (
        "independent" if config.mode == "independent" else "gradual"
    )
    log_probs, rows = _collect(config, context, main)
    report: dict[str, Any] = {"mode": main, "levels": rows}
    if config.mode == "both":
        others, other_rows = _collect(config, context, "independent")
        labels = torch.from_numpy(context.task.train.labels)
        report["independent"] = {
            "levels": other_rows,
            "rank_correlation": rank_correlation(
                scores(log_probs["train"], labels), scores(others["train"], labels)
            ),
        }
        for name, part in (("gradual", rows), ("independent", other_rows)):
            report[f"{name}_seconds"] = round(sum(row["train_seconds"] for row in part), 2)
    return Outputs(log_probs, report)


def scores(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return each sample's loss variance over the levels; all exactly 0 if only rounding differs.

    Args:
        log_probs: (L, N, C).
        labels: (N,) int64.

    Returns:
        (N,) float64.

    Raises:
        DifficultyError: a level has NaN or infinite losses.
    """
    losses = _checked(per_sample_losses(log_probs, labels))
    variance = _squared_deviation(losses).mean(dim=0)
    spread = float(variance.max() - variance.min())
    same = spread <= _SAME * float(losses.abs().max()) ** 2
    return torch.zeros_like(variance) if same else variance


def hard(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return the half of the samples with the larger loss variance, (N,) bool."""
    return above_median(scores(log_probs, labels))


def summary(log_probs: Tensor, labels: Tensor, config: Config) -> dict[str, Any]:
    """Return each level's share of the summed variance: one with most of it decides alone."""
    shares = variance_shares(per_sample_losses(log_probs, labels))
    return {
        "variance_share": {
            f"{level:g}": share for level, share in zip(config.levels, shares, strict=True)
        }
    }


def _collect(
    config: Config, context: DifficultyContext, mode: Literal["gradual", "independent"]
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return the levels' outputs by split, (L, N, C) each, and a row of the report per level."""
    task = context.task
    splits = {"train": task.train, "id_dev": task.id_dev}
    parts: dict[str, list[Tensor]] = {name: [] for name in splits}
    rows = []
    for found in context.prune_levels(
        config.levels, mode=mode, epochs=config.epochs, learning_rate=config.learning_rate
    ):
        row: dict[str, Any] = {"level": found.level, "train_seconds": round(found.seconds, 2)}
        for name, split in splits.items():
            log_probs = found.predict(split)
            if not np.isfinite(log_probs).all():
                raise DifficultyError(
                    f"difficulty level {found.level:g} diverged: its outputs on {name} are not "
                    "finite; lower difficulty.learning_rate or leave the level out of "
                    "difficulty.levels"
                )
            parts[name].append(torch.from_numpy(log_probs))
            right = log_probs.argmax(axis=1) == split.labels
            row[f"{name}_accuracy"] = float(right.mean())
            if name == "train" and task.bias_conflicting is not None:
                # Known for generated tasks only; reported, never used in training.
                for kind, chosen in (
                    ("conflicting", task.bias_conflicting),
                    ("aligned", ~task.bias_conflicting),
                ):
                    row[f"{kind}_accuracy"] = float(right[chosen].mean()) if chosen.any() else None
        rows.append(row)
    return {name: torch.stack(found) for name, found in parts.items()}, rows


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


def variance_shares(losses: Tensor) -> list[float | None]:
    """Return each level's share of the summed variance.

    Level t contributes sum_i (l_it - mean_t l_it)^2. A level with most of it decides the degrees
    almost alone.

    Args:
        losses: (L, N), L and N at least 1.

    Returns:
        L shares that sum to 1; all None if no loss varies.

    Raises:
        DifficultyError: a level has NaN or infinite losses.
    """
    checked = _checked(losses)
    parts = _squared_deviation(checked).sum(dim=1)
    total = float(parts.sum())
    if total <= _SAME * float(checked.abs().max()) ** 2:
        return [None] * len(parts)
    return [float(part) / total for part in parts]


def _checked(losses: Tensor) -> Tensor:
    """Return losses (L, N) as float64.

    Raises:
        DifficultyError: losses of a level are NaN or infinite; names every such level by its
            position.
        ValueError: not (levels, samples), or empty.
    """
    checked = torch.as_tensor(losses, dtype=torch.float64)
    if checked.ndim != 2 or 0 in checked.shape:
        raise ValueError(
            f"losses must be (levels, samples) and not empty, but are {tuple(checked.shape)}"
        )
    bad = (~torch.isfinite(checked)).sum(dim=1).tolist()
    wrong = [f"level {i} ({count})" for i, count in enumerate(bad) if count]
    if wrong:
        raise DifficultyError(
            f"every sub-network's losses must be finite, but of {checked.shape[1]} samples some "
            f"are NaN or infinite in {', '.join(wrong)}: its training diverged; lower "
            "difficulty.learning_rate or leave the level out of difficulty.levels"
        )
    return checked


def _squared_deviation(losses: Tensor) -> Tensor:
    return (losses - losses.mean(dim=0, keepdim=True)) ** 2
