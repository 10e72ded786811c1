"""No early stopping: every trial runs to its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rc_core.errors import Problem
from sweeps.engine.rungs import RungRule
from sweeps.settings import SchedulerConfig


class Config(SchedulerConfig):
    """Nothing to set."""


def problems(config: Config, objectives: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what is wrong: never anything."""
    del config, objectives
    yield from ()


def build(config: Config, objectives: Mapping[str, str]) -> RungRule | None:
    """Return no rule."""
    del config, objectives
    return None
