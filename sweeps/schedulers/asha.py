"""The usual successive halving, on one objective (ASHA, Li et al. 2020); for comparison.

It keeps only what is good on its metric: with ID accuracy, the trials that are good out of
distribution are stopped first. Rungs count from the end of a compression's ramp (see
sweeps/engine/rungs.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rc_core.errors import Problem, did_you_mean
from sweeps.engine.ranking import MetricRanking
from sweeps.engine.rungs import RungRule
from sweeps.schedulers._base import RungConfig, no_rung_problems, rung_metrics


class Config(RungConfig):
    """How many trials continue, and by which objective.

    Attributes:
        metric: one of the objectives that rungs measure; null for the first of them.
    """

    metric: str | None = None


def problems(config: Config, objectives: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what is wrong: no objective at rungs, an unknown metric."""
    yield from no_rung_problems(config.name, objectives)
    known = [name.removeprefix("rung/") for name in rung_metrics(objectives)]
    if config.metric is not None and known and config.metric not in known:
        yield Problem(
            "scheduler.metric",
            f"must be an objective that rungs measure: {did_you_mean(config.metric, known)}",
        )


def build(config: Config, objectives: Mapping[str, str]) -> RungRule:
    """Return the rule."""
    metrics = rung_metrics(objectives)
    name = next(iter(metrics)) if config.metric is None else f"rung/{config.metric}"
    return RungRule(
        MetricRanking,
        {name: metrics[name]},
        eta=config.eta,
        grace=config.grace,
        variant=config.variant,
    )
