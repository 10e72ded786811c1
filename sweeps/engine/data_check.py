"""Reading a sweep's data before anything starts, and holding its objectives against it."""

from __future__ import annotations

from rc_core import plugins
from rc_core.config import PLUGIN_PACKAGES
from rc_core.data._task import Task, check_task
from rc_core.errors import ConfigError, Problem, did_you_mean
from sweeps.config import SweepConfig


def check_data(sweep: SweepConfig) -> Task:
    """Return the sweep's task, loaded and checked.

    Raises:
        DataError: a missing file, column or split, a label the map does not know, one label only.
        ConfigError: an objective names a suite that the task does not have.
    """
    config = sweep.reference().task
    task = check_task(plugins.load(PLUGIN_PACKAGES["task"], config.name).load(config))
    problems = []
    for name in sweep.settings.objectives:
        role, *middle = name.split("/")[:-1]
        suites = [split.suite for split in task.splits if split.role == role]
        if middle and suites and middle[0] not in suites and "." not in middle[0]:
            hint = did_you_mean(middle[0], suites)
            problems.append(Problem(f"objectives.{name}", f"no suite '{middle[0]}': {hint}"))
    if problems:
        raise ConfigError(problems)
    return task
