"""Successive halving on each objective alone; a trial stops only if every objective drops it.

More than one in `eta` trials continue (up to that many per objective), and trials between the
extremes are not protected. Rungs count from the end of a compression's ramp (see
sweeps/engine/rungs.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rc_core.errors import Problem
from sweeps.engine.ranking import AnyMetricRanking
from sweeps.engine.rungs import RungRule
from sweeps.schedulers._base import RungConfig, no_rung_problems, rung_metrics


class Config(RungConfig):
    """How many trials continue, for each objective."""


def problems(config: Config, objectives: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what is wrong: no objective at rungs."""
    yield from no_rung_problems(config.name, objectives)


def build(config: Config, objectives: Mapping[str, str]) -> RungRule:
    """Return the rule."""
    metrics = rung_metrics(objectives)
    return RungRule(
        lambda: AnyMetricRanking(len(metrics)),
        metrics,
        eta=config.eta,
        grace=config.grace,
        variant=config.variant,
    )
