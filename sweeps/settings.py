"""The sections of a sweep that are not one trial's: search, budget, resources, tracking."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from rc_core import plugins
from rc_core.config import Seed
from rc_core.errors import ConfigError, Problem, did_you_mean
from rc_core.schema import Section, validate_section
from sweeps.constraints import parse as parse_constraint
from sweeps.objectives import check_direction, check_objective

Direction = Literal["max", "min"]
_SCHEDULERS = "sweeps.schedulers"
_SEARCH = "sweeps.search"
# Of MLflow's own stores, and of the two that come with packages of others.
_DATABASES = ("sqlite", "mysql", "mssql", "postgresql")
_TRACKING = ("http", "https", *_DATABASES, "databricks", "file", "arn", "azureml")
_SERVER = re.compile(r"https?://[^/]", re.IGNORECASE)
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/|$)")
# What `check_settings` holds against other keys, and those keys.
_JUDGED_BY = {
    "search.name": ("confirm.sweep",),
    "confirm.sweep": ("search.name",),
    "scheduler": ("objectives", "design"),
    "budget.accelerator_hours": ("resources.gpu", "resources.auto"),
}


class SearchConfig(Section):
    """How points are chosen.

    Attributes:
        name: a file in sweeps/search.
        trials: how many distinct trials the sweep has in all; at least the dense reference and the
            first points (each compression with vanilla, `points`), to which less is raised.
        seed: of the sampler.
        points: points to try first, after the dense reference; keys as in `space`.
        warm_start: names of earlier sweeps beside this one; the sampler is told of their finished
            trials whose points lie in the space. They count neither as trials nor for the front.
    """

    name: str = "tpe"
    trials: Annotated[int, Field(ge=1)] = 12
    seed: Seed = 0
    points: tuple[dict[str, Any], ...] = ()
    warm_start: tuple[str, ...] = ()


class SchedulerConfig(Section):
    """Which trials are stopped early: a file in sweeps/schedulers, whose `Config` adds its keys."""

    name: str = "none"


class StallConfig(Section):
    """A sweep that no longer finds anything.

    Attributes:
        trials: how many trials that ended are looked back on.
        gain: share of the front's hypervolume; what these trials added to it was less.
    """

    trials: Annotated[int, Field(ge=1)]
    gain: Annotated[float, Field(gt=0, lt=1)] = 0.001


class BudgetConfig(Section):
    """Limits of a sweep besides `search.trials`; the first one reached ends it.

    After it no trial starts and none that is paused goes on; those that run end in their own time.

    Attributes:
        hours: wall-clock time of all drivers of the sweep, idle time between them not counted.
        accelerator_hours: GPU time: what each trial held of a GPU, times how long.
        stall: the hypervolume has stopped growing.
    """

    hours: Annotated[float, Field(gt=0)] | None = None
    accelerator_hours: Annotated[float, Field(gt=0)] | None = None
    stall: StallConfig | None = None


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
        if isinstance(values, str) and values != "auto":
            near = did_you_mean(values, ["auto"]).partition("available")[0].strip()
            raise ValueError(f"must be auto, or like {{cpu: 1, gpu: 0.5}}{near and f' ({near})'}")
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
        uri: a tracking server (`http://host:5000`, `databricks`) or a database
            (`sqlite:////path/mlflow.db`); a folder only where MLflow is told to take one,
            MLFLOW_ALLOW_FILE_STORE=true. null: SQLite in the storage.
    """

    uri: str | None = None

    @field_validator("uri")
    @classmethod
    def _known_scheme(cls, uri: str | None) -> str | None:
        # MLflow itself says so only when it is given the first event: then nothing is tracked.
        if uri is None or (":" not in uri and uri.strip()):
            return uri
        scheme = uri.partition(":")[0].partition("+")[0].lower()
        if scheme in _TRACKING and (not scheme.startswith("http") or _SERVER.match(uri)):
            return uri
        hint = f" (did you mean http://{uri}?)" if _HOST_AND_PORT.match(uri) else ""
        raise ValueError(
            "must be http://HOST:PORT, https://..., sqlite:////PATH or another database's URI, "
            f"databricks, file:///FOLDER or a folder{hint}"
        )


def _default_objectives() -> dict[str, Direction]:
    return {"id_dev/accuracy": "max", "ood_dev/accuracy": "max"}


class SweepSettings(Section):
    """The sections of a sweep that are not one trial's.

    Attributes:
        objectives: metric -> max or min; the search and the front weigh them against each other.
            Of the dev roles only (`rc-sweep list metrics`); by default id_dev/accuracy and
            ood_dev/accuracy, both max.
        constraints: what must hold of a trial that may be chosen, each like
            `id_dev/accuracy >= reference - 0.02`: a metric, >= or <=, and a number,
            `reference - NUMBER` or `NUMBER * reference` (the dense reference's). Accuracies are
            shares: 0.80, not 80.
        search: how points are chosen.
        scheduler: which trials are stopped early.
        budget: limits besides `search.trials`.
        resources: what one trial holds while it runs, or `auto`.
        tracking: where MLflow's runs go.
        confirm: whose trials get more seeds; `rc-sweep confirm` writes it.
        design: `search` chooses by results. `fixed` runs every row of the space whatever is found
            (search.name grid, random or qmc, no budget.stall): nothing is selected, so `rc-sweep
            table` gives means and intervals over `training.seed`, and the sealed test is opened
            for all rows.
        defaults: of the plugins, by section and name, as they were at the launch that wrote them
            here: a later version's change no sweep that goes on.
        health_gate: what happens where the dense reference hardly beats the majority class: the
            launch ends (`stop`), or goes on and says so (`warn`).
        storage: folder or s3://bucket/prefix of all sweeps; `--storage` goes before it. null:
            RC_STORAGE, else ./rc_storage.
    """

    objectives: dict[str, Direction] = Field(default_factory=_default_objectives)
    constraints: tuple[str, ...] = ()
    search: SearchConfig = SearchConfig()
    scheduler: SerializeAsAny[SchedulerConfig] = SchedulerConfig()
    budget: BudgetConfig = BudgetConfig()
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = TrackingConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    design: Literal["search", "fixed"] = "search"
    defaults: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    health_gate: Literal["stop", "warn"] = "stop"
    storage: str | None = None


def decode_settings(raw: Mapping[str, Any]) -> tuple[SweepSettings, list[Problem]]:
    """Validate the sections one by one; what is wrong is left at its default and reported.

    One key that is wrong hides no other, so that `check_settings` still sees the rest. What stands
    or falls with it (`_JUDGED_BY`) is left at its default too: held against a default that the user
    has not chosen, it would be called wrong where it may not be.
    """
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, value in ({"scheduler": {}} | dict(raw)).items():
        try:
            found[key] = _decode(key, value)
        except ConfigError as error:
            problems.extend(error.problems)
            rest = _right_part(key, value, error.problems)
            if rest is not None:
                found[key] = rest
    wrong = [problem.where for problem in problems]
    for judged, others in _JUDGED_BY.items():
        if any(_overlap(where, other) for where in wrong for other in others):
            section, _, field = judged.partition(".")
            if not field:
                found.pop(section, None)
            elif section in found:
                default = getattr(type(found[section])(), field)
                found[section] = found[section].model_copy(update={field: default})
    return SweepSettings().model_copy(update=found), problems


def _decode(key: str, value: Any) -> Any:
    """Validate one section. Raises ConfigError."""
    if key == "scheduler":
        return _decode_scheduler(value)
    if key == "search" and not isinstance(value, Mapping):
        raise ConfigError(Problem(key, plugins.not_a_mapping(key, value, _SEARCH)))
    return getattr(validate_section(SweepSettings, {key: value}), key)


def _right_part(key: str, value: Any, problems: Sequence[Problem]) -> Section | None:
    """Return a section without its wrong keys, None where more is wrong with it than these.

    Keys of a scheduler are held against each other and against training: a default beside them
    would be called wrong where the user's own value is not.
    """
    own = SweepSettings.model_fields[key].default
    if key == "scheduler" or not isinstance(own, Section) or not isinstance(value, Mapping):
        return None
    wrong = {problem.where.split(".")[1] for problem in problems if "." in problem.where}
    try:
        rest: Section = _decode(key, {k: v for k, v in value.items() if str(k) not in wrong})
    except ConfigError:
        return None
    return rest


def _overlap(one: str, other: str) -> bool:
    """Tell whether one dotted key is the other, or holds it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _decode_scheduler(raw: Any) -> SchedulerConfig:
    """Validate the scheduler's section with its own `Config`."""
    if not isinstance(raw, Mapping):
        reason = plugins.not_a_mapping("scheduler", raw, _SCHEDULERS)
        raise ConfigError(Problem("scheduler", reason))
    name = raw.get("name", "none")
    names = plugins.available(_SCHEDULERS)
    if name not in names:
        raise ConfigError(
            Problem(
                "scheduler.name", f"unknown scheduler '{name}': {did_you_mean(str(name), names)}"
            )
        )
    module = plugins.load(_SCHEDULERS, name)
    found: SchedulerConfig = validate_section(module.Config, {"name": name, **raw}, "scheduler")
    return found


def check_settings(settings: SweepSettings) -> Iterator[Problem]:
    """Yield what is wrong with settings that are valid one by one: names, objectives."""
    if not settings.objectives:
        yield Problem("objectives", "must name at least one metric, but is empty")
    for name, direction in settings.objectives.items():
        reason = check_objective(name) or check_direction(name, direction)
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
    if settings.search.name != "race" and settings.confirm.sweep is not None:
        yield Problem(
            "confirm.sweep",
            "is written by rc-sweep confirm, for search.name: race, but here that is "
            f"{settings.search.name}; leave it out",
        )
    name = settings.search.name
    names = plugins.available(_SEARCH)
    if name not in names:
        # The race is no search of a user's.
        known = [each for each in names if each != "race"]
        yield Problem("search.name", f"unknown search '{name}': {did_you_mean(name, known)}")
    scheduler = settings.scheduler
    if scheduler.name != "none":
        module = plugins.load(_SCHEDULERS, scheduler.name)
        yield from module.problems(scheduler, settings.objectives)
        if settings.design == "fixed":
            yield Problem(
                "scheduler.name",
                f"must be none in a fixed design, which runs every row to its end, but is "
                f"{scheduler.name}",
            )
    gpus = settings.resources.gpu > 0 or settings.resources.auto
    if settings.budget.accelerator_hours is not None and not gpus:
        yield Problem(
            "budget.accelerator_hours",
            "counts GPU time, but resources.gpu is 0: it would never be reached; use budget.hours",
        )
