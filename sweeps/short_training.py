"""Trainings of so few optimizer steps that their accuracies say little of a compression or loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# A choice, not a measurement: the quickstart's task is learned in 300 steps, half of which pruning
# takes to reach its sparsity.
FEW_STEPS = 200


def too_few(steps: int) -> str | None:
    """Return what is to be said of trainings of so many steps; None: they are not few."""
    if steps >= FEW_STEPS:
        return None
    return f"{steps} optimizer steps are few: below some hundred, accuracies say little"


def remedy(steps: int, training: Mapping[str, Any]) -> str:
    """Return what makes them more.

    Args:
        steps: optimizer steps of `training`.
        training: its settings, `epochs` among them.
    """
    epochs = math.ceil(training["epochs"] * FEW_STEPS / steps)
    return f"raise training.epochs (to {epochs}, say), or lower training.batch_size"
