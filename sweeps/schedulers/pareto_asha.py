"""Successive halving on all objectives: by non-dominated rank, ties broken by an epsilon net.

Asynchronous (Li et al. 2020), with the rank of Schmucker et al. 2021 (MO-ASHA) and its epsilon-net
tie-break. Halving on a single objective would discard the half of the front that is good on the
other. Rungs count from the end of a compression's ramp (see sweeps/engine/rungs.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args

from rc_core.errors import Problem, did_you_mean
from sweeps.engine.ranking import Opening, ParetoRanking
from sweeps.engine.rungs import RungRule
from sweeps.schedulers._base import RungConfig, no_rung_problems, rung_metrics

_OPENINGS: tuple[Opening, ...] = get_args(Opening)


class Config(RungConfig):
    """How many trials continue, and which of equal rank first.

    Attributes:
        first: which trial an epsilon net starts from, so which one is kept if only one can be:
            `alternate` (the best on each objective in turn), `compromise` (the smallest sum of
            scaled losses), or the name of an objective (the best on it, which favours it).
    """

    first: str = "alternate"


def problems(config: Config, objectives: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what is wrong: no objective at rungs, an unknown `first`."""
    yield from no_rung_problems(config.name, objectives)
    known = [*_OPENINGS, *_names(objectives)]
    if config.first not in known:
        yield Problem("scheduler.first", f"unknown: {did_you_mean(config.first, known)}")


def build(config: Config, objectives: Mapping[str, str]) -> RungRule:
    """Return the rule."""
    names = _names(objectives)
    openings: dict[str, int | Opening] = {name: name for name in _OPENINGS}
    openings |= {name: number for number, name in enumerate(names)}
    return RungRule(
        lambda: ParetoRanking(len(names), openings[config.first]),
        rung_metrics(objectives),
        eta=config.eta,
        grace=config.grace,
        variant=config.variant,
    )


def _names(objectives: Mapping[str, str]) -> list[str]:
    return [name.removeprefix("rung/") for name in rung_metrics(objectives)]
