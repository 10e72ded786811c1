"""The contract of a scheduler, free of Ray: a `Config`, and a rule that decides at rungs.

    class Config(RungConfig): ...               # its section of the YAML, `name` is the file's name
    def problems(config, objectives): ...       # what is wrong beyond single keys
    def build(config, objectives): ...          # the rule, or None where nothing is stopped

The rule is what sweeps/engine/ray_scheduler.py puts behind Ray's interface, and what the
simulator asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from rc_core.errors import Problem
from rc_core.plugins import Contract
from sweeps.engine.rungs import Variant
from sweeps.settings import SchedulerConfig

CONTRACT = Contract("_base", config="SchedulerConfig", functions=("problems", "build"))

# What a quick evaluation measures; other objectives are known at the end only.
_AT_RUNGS = tuple(
    f"{role}/{name}" for role in ("id_dev", "ood_dev") for name in ("accuracy", "balanced_accuracy")
)


class RungConfig(SchedulerConfig):
    """What every scheduler with rungs has.

    Attributes:
        eta: about one of so many trials goes on at each rung.
        grace: the first rung that counts, from 1 (there are `training.rungs`, the last is the end).
        variant: `stopping` judges a trial once, on arrival; `promotion` pauses it with its
            checkpoint and goes on with it when it is among the best.
    """

    eta: Annotated[float, Field(gt=1)] = 3.0
    grace: Annotated[int, Field(ge=1)] = 1
    variant: Variant = "stopping"


def rung_metrics(objectives: Mapping[str, str]) -> dict[str, str]:
    """Return the rung values that stand for the objectives, with their directions."""
    return {f"rung/{name}": way for name, way in objectives.items() if name in _AT_RUNGS}


def no_rung_problems(name: str, objectives: Mapping[str, str]) -> Iterator[Problem]:
    """Yield a problem where no objective is measured at rungs."""
    if not rung_metrics(objectives):
        yield Problem(
            "scheduler.name",
            f"{name} needs an objective that rungs measure ({', '.join(_AT_RUNGS)}), but the "
            f"objectives are {', '.join(objectives)}; use none",
        )
