"""The sections that configure a sweep, not a single trial: search, budget, resources, ..."""

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
# Schemes of MLflow's own stores, and of the two that third-party packages add.
_DATABASES = ("sqlite", "mysql", "mssql", "postgresql")
_TRACKING = ("http", "https", *_DATABASES, "databricks", "file", "arn", "azureml")
_SERVER = re.compile(r"https?://[^/]", re.IGNORECASE)
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/|$)")
# Keys that `check_settings` compares with other keys -> those other keys.
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
        trials: total number of distinct trials. The dense reference and the first points (each
            compression with vanilla, then `points`) always run, so a smaller number is raised to
            theirs.
        seed: seed of the sampler.
        points: points to try first, after the dense reference; keys as in `space`.
        warm_start: names of earlier sweeps in the same storage. The sampler learns from their
            finished trials whose points lie in the space; these do not count as trials of this
            sweep and cannot be on its front.
    """

    name: str = "tpe"
    trials: Annotated[int, Field(ge=1)] = 12
    seed: Seed = 0
    points: tuple[dict[str, Any], ...] = ()
    warm_start: tuple[str, ...] = ()


class SchedulerConfig(Section):
    """Which trials are stopped early: a file in sweeps/schedulers, whose `Config` adds keys."""

    name: str = "none"


class StallConfig(Section):
    """When a sweep counts as no longer finding anything.

    Attributes:
        trials: number of trials, the last ones to end, whose gain is measured.
        gain: the sweep has stalled if those trials added less than this share of the front's
            hypervolume.
    """

    trials: Annotated[int, Field(ge=1)]
    gain: Annotated[float, Field(gt=0, lt=1)] = 0.001


class BudgetConfig(Section):
    """Limits of a sweep besides `search.trials`; the first one reached ends it.

    From then on no trial starts and no paused one continues; running trials finish.

    Attributes:
        hours: wall-clock hours over all runs of the sweep's driver (launch and every resume);
            the time between them does not count.
        accelerator_hours: GPU hours: the share of a GPU that each trial held, times how long.
        stall: end once the front's hypervolume has stopped growing.
    """

    hours: Annotated[float, Field(gt=0)] | None = None
    accelerator_hours: Annotated[float, Field(gt=0)] | None = None
    stall: StallConfig | None = None


class ResourcesConfig(Section):
    """What one trial holds while it runs.

    Attributes:
        cpu: number of cores; torch uses no more threads than that.
        gpu: number of GPUs, at most 1; a fraction puts several trials on one GPU.
        device: what a trial computes on. `auto` is the GPU it holds, otherwise the CPU; `cpu`
            leaves a held GPU idle, which is useful to test how trials are placed.
        auto: measure at the start how many trials at once process the most samples per second, and
            set cpu and gpu accordingly. `resources: auto` is short for this. Give either auto or
            numbers.
        retries: how often a trial whose worker was lost (killed, or with its node) continues from
            its last rung on another worker. A trial that fails by itself is not run again.
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
            raise ValueError("must have either auto or cpu and gpu as numbers, not both")
        return self

    @property
    def torch_device(self) -> str:
        """Return what trials compute on, as torch names it."""
        return "cuda" if self.gpu > 0 and self.device == "auto" else "cpu"


class ConfirmConfig(Section):
    """What a confirmation confirms (`rc-sweep confirm` writes this section).

    Attributes:
        sweep: name of the sweep, in the same storage, whose trials get more seeds; null for none.
        also: ids of its trials that get new seeds even if they cannot be on the front.
        whole: give new seeds to the teacher too, and to everything derived from it.
    """

    sweep: str | None = None
    also: tuple[str, ...] = ()
    whole: bool = False


class TrackingConfig(Section):
    """Where MLflow's runs go.

    Attributes:
        uri: a tracking server (`http://host:5000`, `databricks`) or a database
            (`sqlite:////path/mlflow.db`). MLflow accepts a folder only if
            MLFLOW_ALLOW_FILE_STORE=true is set. null: SQLite in the storage.
    """

    uri: str | None = None

    @field_validator("uri")
    @classmethod
    def _known_scheme(cls, uri: str | None) -> str | None:
        # MLflow would complain only at the first event, too late: nothing would be tracked.
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
    """The sections that configure a sweep, not a single trial.

    Attributes:
        objectives: metric -> max or min; what the search and the front trade off. Only metrics of
            the dev roles (`rc-sweep list metrics`); by default id_dev/accuracy and
            ood_dev/accuracy, both max.
        constraints: what a trial must satisfy to be chosen, for example
            `id_dev/accuracy >= reference - 0.02`: a metric, >= or <=, then a number,
            `reference - NUMBER` or `NUMBER * reference`, where `reference` is the dense
            reference's value. Accuracies are shares: 0.80, not 80.
        search: how points are chosen.
        scheduler: which trials are stopped early.
        budget: limits besides `search.trials`.
        resources: what one trial holds while it runs, or `auto`.
        tracking: where MLflow's runs go.
        confirm: which sweep's trials get more seeds; written by `rc-sweep confirm`.
        design: `search` chooses trials by their results. `fixed` runs every row of the space
            regardless of results (search.name grid, random or qmc, no budget.stall): nothing is
            selected, so `rc-sweep table` gives means and intervals over `training.seed`, and the
            sealed test is opened for all rows.
        defaults: the plugins' defaults, by section and name, as of the launch, which writes them
            here: a resumed sweep keeps them even if a later version has others.
        health_gate: what to do if the dense reference hardly beats the majority class: `stop` ends
            the launch, `warn` only prints a warning.
        storage: folder or s3://bucket/prefix of all sweeps; `--storage` takes precedence. null:
            RC_STORAGE if set, otherwise ./rc_storage.
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
    """Validate the sections one by one; an invalid key gets its default and is reported.

    An invalid key hides no other problem: `check_settings` still sees the rest. Keys that are
    judged by an invalid one (`_JUDGED_BY`) get their defaults too: compared with a default that
    the user did not choose, they might be reported as wrong when they are not.
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
    """Return a section without its invalid keys, None if that does not make it valid.

    None for a scheduler too: its keys are checked against each other and against training, so a
    default in place of the invalid key might be reported as wrong.
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
    """Tell whether two dotted keys are the same or one contains the other."""
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
    """Yield problems between settings that are each valid: names, objectives, combinations."""
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
        yield Problem(
            "search.name", "race is only for rc-sweep confirm SWEEP; name another search here"
        )
    if settings.search.name != "race" and settings.confirm.sweep is not None:
        yield Problem(
            "confirm.sweep",
            "is written by rc-sweep confirm, with search.name race, but search.name is "
            f"{settings.search.name}; leave it out",
        )
    name = settings.search.name
    names = plugins.available(_SEARCH)
    if name not in names:
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
