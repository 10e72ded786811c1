"""The contract of a scheduler, without Ray: a `Config`, and a rule that decides at rungs.

    class Config(RungConfig): ...               # its section of the YAML, `name` is the file's name
    def problems(config, objectives): ...       # problems beyond single keys
    def build(config, objectives): ...          # the rule, or None if nothing is stopped

sweeps/engine/ray_scheduler.py puts the rule behind Ray's interface; the simulator uses it directly.
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

# The metrics of a quick evaluation; other objectives are known only at the end.
_AT_RUNGS = tuple(
    f"{role}/{name}" for role in ("id_dev", "ood_dev") for name in ("accuracy", "balanced_accuracy")
)


class RungConfig(SchedulerConfig):
    """The keys of every scheduler with rungs.

    Attributes:
        eta: about one in eta trials continues past each rung.
        grace: the first rung that decides, counted from 1 (there are `training.rungs`; the last is
            the end of training).
        variant: `stopping` judges a trial once, when it reaches the rung; `promotion` pauses it
            with its checkpoint and resumes it once it is among the best.
    """

    eta: Annotated[float, Field(gt=1)] = 3.0
    grace: Annotated[int, Field(ge=1)] = 1
    variant: Variant = "stopping"


def rung_metrics(objectives: Mapping[str, str]) -> dict[str, str]:
    """Return the rung metrics that stand for the objectives, with their directions."""
    return {f"rung/{name}": way for name, way in objectives.items() if name in _AT_RUNGS}


def no_rung_problems(name: str, objectives: Mapping[str, str]) -> Iterator[Problem]:
    """Yield a problem if no objective is measured at rungs."""
    if not rung_metrics(objectives):
        yield Problem(
            "scheduler.name",
            f"{name} needs an objective that rungs measure ({', '.join(_AT_RUNGS)}), but the "
            f"objectives are {', '.join(objectives)}; use scheduler.name: none",
        )
