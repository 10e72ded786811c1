"""Reading a sweep's data before anything starts, and holding its objectives against it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rc_core import plugins
from rc_core.config import DEFAULTS, PLUGIN_PACKAGES, PluginConfig, decode
from rc_core.data._task import DEV_ROLES, Role, Task, check_task
from rc_core.errors import ConfigError, DataError, Problem, did_you_mean
from rc_core.metrics import footprint
from rc_core.metrics.classification import role_metrics
from rc_core.metrics.easy_hard import easy_hard_metrics
from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.constraints import parse

# Beside problems that were found without the data: nobody waits for a download to be told of them.
UNREAD = Problem(
    "task",
    "was not looked at yet, as it may have to be downloaded; that is done once the rest is right",
)


def check_data(sweep: SweepConfig) -> Task:
    """Return the sweep's task, loaded and checked.

    Raises:
        DataError: a missing file, column or split, a label the map does not know, one label only.
        ConfigError: an objective or a constraint names what is not measured of this task: a suite
            or a slice that it does not have. Every trial would lack it, and so be off the front.
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
    """Return what is wrong with the data of a configuration that is wrong elsewhere.

    Nothing where its task cannot be read; one that says so where its data may have to be fetched.

    Args:
        values: of a sweep's YAML.
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
    """Tell whether a task's data is read without fetching anything; see `TaskModule`."""
    told = getattr(task, "is_here", None)
    return told is not None and bool(told())


def check_same_data(sweep: SweepConfig, records: Sequence[TrialRecord]) -> None:
    """Check that what is trained from now on learns from what finished trials did.

    Args:
        sweep: any.
        records: of trials that its own are compared with.

    Raises:
        DataError: the data's files are others by now.
    """
    if not _digests(records):
        return
    try:
        task = _load(sweep)
    except DataError:
        # Nothing may be left that needs data, as where trials were adopted: preparation tells.
        return
    check_digest(task, records)


def check_digest(task: Task, records: Sequence[TrialRecord]) -> None:
    """Check that a task's train and dev splits are those that finished trials were trained on.

    Raises:
        DataError: they are others by now.
    """
    digest, known = task.digest(), _digests(records)
    if known and digest not in known:
        raise DataError(
            f"the data must be what this sweep's trials were trained on (digest {known[0]}), but "
            f"has changed ({digest}); put the old files back, or launch a new sweep for these"
        )


def _digests(records: Sequence[TrialRecord]) -> list[str]:
    return [r.data["digest"] for r in records if r.status == "finished" and "digest" in r.data]


def _load(sweep: SweepConfig) -> Task:
    config = sweep.reference().task
    return check_task(plugins.load(PLUGIN_PACKAGES["task"], config.name).load(config))


def measured(task: Task) -> set[str]:
    """Return the keys of what a trial's record may hold of the open roles of a task."""
    return set(footprint.METRICS) | {key for role in DEV_ROLES for key in _of_role(task, role)}


def _of_role(task: Task, role: Role) -> Iterator[str]:
    splits, labels = task.of_role(role), task.label_names
    # The keys are what the metrics themselves say, of a model that knows nothing.
    unsure = -math.log(len(labels))
    pairs = [(split, np.full((len(split), len(labels)), unsure)) for split in splits]
    yield from role_metrics(role, pairs, labels)
    yield from (f"{role}/{name}" for name in ("agreement", "difference"))
    if len(splits) > 1:
        yield from (f"{role}/{split.suite}/agreement" for split in splits)
    if role == "ood_dev":
        yield f"{role}/relative_bias"
    else:
        # Where a loss of the sweep reads difficulty.
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
    return f"'{parts[-1]}' is not measured of {'/'.join(parts[:-1])}; available: " + ", ".join(
        metrics
    )


def _split(known: Collection[str], start: list[str]) -> list[list[str]]:
    found = [name.split("/") for name in known]
    return [parts for parts in found if parts[: len(start)] == start]
