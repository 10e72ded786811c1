"""The bias expert that `poe` and `conf_reg` learn against."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from rc_core.losses._base import LossContext
from rc_core.losses._soft import checked_log_probs
from rc_core.schema import Section


class LevelExpert(Section):
    """A sub-network of the teacher.

    Attributes:
        level: its sparsity, in (0, 1). If it is one of `difficulty.levels`, it is the milestone of
            that run; otherwise the teacher is pruned to it separately, in `difficulty.epochs`.
    """

    level: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.75


Expert = LevelExpert | Literal["hypothesis_only"]


def expert_log_probs(context: LossContext) -> Tensor:
    """Return the bias expert's log-probabilities, (N, C) float32. Raises TrialError for NaN."""
    return checked_log_probs(
        context.expert_log_probs,
        context.labels,
        "expert_log_probs",
        "the bias expert diverged; take a lower loss.expert.level",
    )
