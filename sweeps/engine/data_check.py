"""Reading a sweep's data before anything starts, and checking its objectives against it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rc_core import plugins
from rc_core.config import DEFAULTS, PLUGIN_PACKAGES, PluginConfig, decode
from rc_core.data._doubts import doubts
from rc_core.data._task import DEV_ROLES, Role, Task, check_task
from rc_core.errors import ConfigError, DataError, Problem, did_you_mean
from rc_core.metrics import footprint
from rc_core.metrics.classification import role_metrics
from rc_core.metrics.easy_hard import easy_hard_metrics
from rc_core.record import TrialRecord, sealed_digests
from sweeps.config import SweepConfig
from sweeps.constraints import parse
from sweeps.short_training import remedy, too_few

# Reported with problems found without the data, so that these need not wait for a download.
UNREAD = Problem(
    "task",
    "was not checked yet, as it may have to be downloaded; correct the other problems first",
)


def data_warnings(sweep: SweepConfig, task: Task) -> list[str]:
    """Return what may be a mistake in the data, or in how long the sweep trains on it."""
    # torch is imported with it, which not every caller needs.
    from rc_core.training import num_steps

    training = sweep.reference().training
    steps = num_steps(len(task.train), training)
    few = too_few(steps)
    return [*doubts(task), *([f"{few}; {remedy(steps, training.as_dict())}"] if few else [])]


def check_data(sweep: SweepConfig) -> Task:
    """Return the sweep's task, loaded and checked.

    Raises:
        DataError: a missing file, column or split, a label missing from the map, only one label.
        ConfigError: an objective or a constraint names what is not measured for this task, such as
            a suite or a slice that it does not have. Every trial would lack it and be excluded.
    """
    task = _load(sweep)
    settings = sweep.settings
    asked = [(f"objectives.{name}", "", name) for name in settings.objectives]
    asked += [("constraints", f"'{text}': ", parse(text).metric) for text in settings.constraints]
    known = measured(task)
    problems = [
        Problem(where, f"{given}{_unmeasured(name, known)}")
        for where, given, name in asked
        if name not in known
    ]
    if problems:
        raise ConfigError(problems)
    return task


def data_problems(values: Mapping[str, Any]) -> list[Problem]:
    """Return problems with the data of a configuration that has other problems.

    None if its task section is invalid; `UNREAD` if its data may have to be downloaded.

    Args:
        values: those of a sweep's YAML.
    """
    try:
        # Only the task counts here; any encoder will do.
        config = decode({"model": "tiny:bert", "task": values.get("task", DEFAULTS["task"])}).task
        if not is_here(config):
            return [UNREAD]
        check_task(plugins.load(PLUGIN_PACKAGES["task"], config.name).load(config))
    except ConfigError:
        return []
    except DataError as error:
        return error.problems
    return []


def is_here(task: PluginConfig) -> bool:
    """Tell whether a task's data can be read without a download; see `TaskModule`."""
    told = getattr(task, "is_here", None)
    return told is not None and bool(told())


def check_same_data(
    sweep: SweepConfig, records: Sequence[TrialRecord], *, moved: bool = False
) -> None:
    """Check that further trials are trained on the same data as finished ones.

    Args:
        sweep: any.
        records: of the trials that its own are compared with.
        moved: it lies elsewhere now: it must be readable, and the sealed test's samples are
            compared too.

    Raises:
        DataError: the data's files have changed, or cannot be read at their new location.
    """
    if not moved and not _digests(records):
        return
    try:
        task = _load(sweep)
    except DataError:
        if moved:
            raise
        # Perhaps nothing left needs data, as with adopted trials; otherwise preparation fails.
        return
    check_digest(task, records)
    if moved:
        _check_sealed(task, records)


def _check_sealed(task: Task, records: Sequence[TrialRecord]) -> None:
    """Check by digest that the test splits are those of the launch, and as many.

    Raises:
        DataError: they are not.
    """
    if not any("sealed" in record.data for record in records):
        return
    known, now = sealed_digests(records), task.without_tests().sealed
    kinds = {"is missing": known.keys() - now.keys(), "was not there": now.keys() - known.keys()}
    kinds["has changed"] = {name for name in known.keys() & now.keys() if known[name] != now[name]}
    problems = [
        Problem(
            f"sealed test, {name}",
            f"must hold the samples of the launch, but {what}; restore the old file",
        )
        for what, names in kinds.items()
        for name in sorted(names)
    ]
    if problems:
        raise DataError(problems)


def check_digest(task: Task, records: Sequence[TrialRecord]) -> None:
    """Check that a task's train and dev splits are those that finished trials were trained on.

    Raises:
        DataError: they have changed.
    """
    digest, known = task.digest(), _digests(records)
    if known and digest not in known:
        raise DataError(
            f"the data must be what this sweep's trials were trained on (digest {known[0]}), but "
            f"has changed ({digest}); restore the old files, or launch a new sweep for the new ones"
        )


def _digests(records: Sequence[TrialRecord]) -> list[str]:
    return [r.data["digest"] for r in records if r.status == "finished" and "digest" in r.data]


def _load(sweep: SweepConfig) -> Task:
    config = sweep.reference().task
    return check_task(plugins.load(PLUGIN_PACKAGES["task"], config.name).load(config))


def measured(task: Task) -> set[str]:
    """Return the keys of all metrics that a trial's record may hold for a task's dev roles."""
    return set(footprint.METRICS) | {key for role in DEV_ROLES for key in _of_role(task, role)}


def _of_role(task: Task, role: Role) -> Iterator[str]:
    splits, labels = task.of_role(role), task.label_names
    # The metrics themselves say which keys there are, here for a model that knows nothing.
    unsure = -math.log(len(labels))
    pairs = [(split, np.full((len(split), len(labels)), unsure)) for split in splits]
    yield from role_metrics(role, pairs, labels)
    yield from (f"{role}/{name}" for name in ("agreement", "difference"))
    if len(splits) > 1:
        yield from (f"{role}/{split.suite}/agreement" for split in splits)
    if role == "ood_dev":
        yield f"{role}/relative_bias"
    else:
        # Measured if a loss of the sweep reads difficulty.
        nobody = np.zeros(0, dtype=np.bool_)
        yield from (f"{role}/{key}" for key in easy_hard_metrics(nobody, np.zeros(0), nobody)[0])


def _unmeasured(name: str, known: Collection[str]) -> str:
    """Return which part of a metric's name is wrong, and what it may be."""
    parts = name.split("/")
    for position, what in ((1, "suite"), (2, "slice")):
        before = parts[:position]
        beside = {each[position] for each in _split(known, before) if len(each) > position + 1}
        if len(parts) > position + 1 and parts[position] not in beside:
            of = f" of {before[-1]}" if position == 2 else ""
            hint = did_you_mean(parts[position], sorted(beside))
            return f"no {what} '{parts[position]}'{of}: {hint}"
    metrics = sorted(each[-1] for each in _split(known, parts[:-1]) if len(each) == len(parts))
    return f"'{parts[-1]}' is not measured for {'/'.join(parts[:-1])}; available: " + ", ".join(
        metrics
    )


def _split(known: Collection[str], start: list[str]) -> list[list[str]]:
    found = [name.split("/") for name in known]
    return [parts for parts in found if parts[: len(start)] == start]
