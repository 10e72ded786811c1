"""Settings of the estimates that prune the teacher to several levels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from rc_core.config import PluginConfig


class LevelsConfig(PluginConfig):
    """Which sub-networks are used, and how they are trained.

    Attributes:
        levels: sparsities of the pruned teacher, at least two, strictly increasing, in [0, 1).
        mode: `gradual` prunes one run through all levels; `independent` trains one run per level,
            as the paper does, in parallel if a sweep has the resources; `both` does both, uses the
            gradual run's outputs, and reports the cost of each and the rank correlation between the
            two.
        epochs: length of the gradual run, or of each independent run.
        learning_rate: peak; null takes the training's.
    """

    levels: tuple[Annotated[float, Field(ge=0.0, lt=1.0)], ...] = (0.2, 0.35, 0.5, 0.65, 0.85)
    mode: Literal["gradual", "independent", "both"] = "gradual"
    epochs: Annotated[float, Field(gt=0.0)] = 1.0
    learning_rate: Annotated[float, Field(gt=0.0)] | None = None

    @field_validator("levels")
    @classmethod
    def _check_levels(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if len(levels) < 2 or list(levels) != sorted(set(levels)):
            raise ValueError("levels must be at least two strictly increasing sparsities")
        return levels
