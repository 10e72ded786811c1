"""Trainings with too few optimizer steps for accuracies to say much about compression or loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Chosen, not measured: the quickstart's task is learned in 300 steps, during half of which pruning
# is still increasing its sparsity.
FEW_STEPS = 200


def too_few(steps: int) -> str | None:
    """Return the warning for trainings with this many steps, None if they are enough."""
    if steps >= FEW_STEPS:
        return None
    return f"{steps} optimizer steps are few: below a few hundred, accuracies say little"


def remedy(steps: int, training: Mapping[str, Any]) -> str:
    """Return how to get more steps.

    Args:
        steps: optimizer steps of `training`.
        training: its settings, including `epochs`.
    """
    epochs = math.ceil(training["epochs"] * FEW_STEPS / steps)
    return f"raise training.epochs (to {epochs}, say), or lower training.batch_size"
