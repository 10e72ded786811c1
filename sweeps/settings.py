"""The sections of a sweep that are not one trial's: search, budget, resources, tracking."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rc_core import plugins
from rc_core.errors import ConfigError, Problem, did_you_mean
from rc_core.schema import Section
from sweeps.constraints import parse as parse_constraint
from sweeps.objectives import check_objective

Direction = Literal["max", "min"]


class SearchConfig(Section):
    """How points are chosen.

    Attributes:
        name: a file in sweeps/search.
        trials: how many trials the sweep has in all, reference points included.
        seed: of the sampler.
        points: points to try first, after the dense reference; keys as in `space`.
    """

    name: str = "tpe"
    trials: Annotated[int, Field(ge=1)] = 12
    seed: Annotated[int, Field(ge=0)] = 0
    points: tuple[dict[str, Any], ...] = ()


class SchedulerConfig(Section):
    """Which trials are stopped early: a file in sweeps/schedulers."""

    name: str = "none"


class BudgetConfig(Section):
    """Limits of a sweep besides `search.trials`; the first one reached ends it.

    Attributes:
        hours: wall-clock time after which no new trial starts.
    """

    hours: Annotated[float, Field(gt=0)] | None = None


class ResourcesConfig(Section):
    """What one trial holds while it runs.

    Attributes:
        cpu: cores; torch's threads are limited to them.
        gpu: GPUs; a fraction packs several trials on one. A trial uses at most one.
        device: what a trial computes on: `auto` is the GPU that it holds, else the CPU. `cpu`
            leaves a held GPU alone, to try out how trials are placed.
        auto: cpu and gpu are measured at the start: as many trials at once as get through the most
            samples. `resources: auto` is short for it; numbers take its place.
        retries: how often a trial whose worker was lost (with its node, or killed) goes on from
            its last rung on another. A trial that fails by itself is not run again.
    """

    cpu: Annotated[float, Field(gt=0)] = 1
    gpu: Annotated[float, Field(ge=0, le=1)] = 0
    device: Literal["auto", "cpu"] = "auto"
    auto: bool = False
    retries: Annotated[int, Field(ge=0)] = 2

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, values: Any) -> Any:
        return {"auto": True} if values == "auto" else values

    @model_validator(mode="after")
    def _numbers_or_auto(self) -> ResourcesConfig:
        if self.auto and (self.cpu, self.gpu) != (1, 0):
            raise ValueError("must have cpu and gpu as numbers, or auto, not both")
        return self

    @property
    def torch_device(self) -> str:
        """Return what trials compute on, as torch names it."""
        return "cuda" if self.gpu > 0 and self.device == "auto" else "cpu"


class ConfirmConfig(Section):
    """What a confirmation confirms (`rc-sweep confirm` writes this section).

    Attributes:
        sweep: name of the sweep beside this one whose trials get more seeds; null: none.
        also: ids of its trials that get seeds whether or not they may be on the front.
        whole: the teacher and what follows from it get new seeds too.
    """

    sweep: str | None = None
    also: tuple[str, ...] = ()
    whole: bool = False


class TrackingConfig(Section):
    """Where MLflow's runs go.

    Attributes:
        uri: a tracking server; null for SQLite in the storage.
    """

    uri: str | None = None


def _default_objectives() -> dict[str, Direction]:
    return {"id_dev/accuracy": "max", "ood_dev/accuracy": "max"}


class SweepSettings(Section):
    """The sections of a sweep that are not one trial's."""

    objectives: dict[str, Direction] = Field(default_factory=_default_objectives)
    constraints: tuple[str, ...] = ()
    search: SearchConfig = SearchConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    budget: BudgetConfig = BudgetConfig()
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = TrackingConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    design: Literal["search", "fixed"] = "search"
    health_gate: Literal["stop", "warn"] = "stop"
    storage: str | None = None


def check_settings(settings: SweepSettings) -> Iterator[Problem]:
    """Yield what is wrong with settings that are valid one by one: names, objectives."""
    if not settings.objectives:
        yield Problem("objectives", "must name at least one metric, but is empty")
    for name in settings.objectives:
        reason = check_objective(name)
        if reason is not None:
            yield Problem(f"objectives.{name}", reason)
        elif name.endswith("/relative_bias"):
            yield Problem(
                f"objectives.{name}", "rewards models that are simply broken; use ood_dev/accuracy"
            )
    for text in settings.constraints:
        try:
            reason = check_objective(parse_constraint(text).metric)
        except ConfigError as error:
            yield from (Problem("constraints", problem.message) for problem in error.problems)
        else:
            if reason is not None:
                yield Problem("constraints", f"'{text}': {reason}")
    if settings.search.name == "race" and settings.confirm.sweep is None:
        yield Problem("search.name", "race gives more seeds to a sweep: use rc-sweep confirm SWEEP")
    for key, package in (("search", "sweeps.search"), ("scheduler", "sweeps.schedulers")):
        name = getattr(settings, key).name
        names = plugins.available(package)
        if name not in names:
            yield Problem(f"{key}.name", f"unknown {key} '{name}': {did_you_mean(name, names)}")
