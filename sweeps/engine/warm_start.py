"""Results of earlier sweeps for a new sweep's sampler: `search.warm_start: [NAME, ...]`.

A trial counts if its point lies in the new space and everything else is the same (except the seed
and the location of the data), as values of another model, task or length of training are not
comparable. Trials that lack an objective or a constraint do not count either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rc_core.config import seedless, without_place
from rc_core.errors import ConfigError, InputError, Problem, StorageError
from rc_core.former import completed
from rc_core.record import TrialRecord
from rc_core.yaml_files import lookup
from sweeps.comparable import COMPARED, other_data
from sweeps.config import SweepConfig
from sweeps.folder import SweepFolder
from sweeps.search._base import Known, Proposals, outcome_of
from sweeps.space import Point


def known_trials(
    sweep: SweepConfig, storage: Path, data: Mapping[str, Any] | None = None
) -> tuple[list[Known], str]:
    """Return the trials of `search.warm_start` that count, and a line to print.

    Args:
        sweep: the new one.
        storage: where the earlier sweeps are.
        data: `TrialRecord.data` of the new sweep's reference, once it has one: trials whose data
            has another digest do not count.

    Raises:
        ConfigError: no such sweep, or one with another model, task or objectives.
    """
    found: list[Known] = []
    lines, problems = [], []
    for name in sweep.settings.search.warm_start:
        try:
            folder = SweepFolder.find(name, storage)
        except StorageError as error:
            problems.append(Problem("search.warm_start", str(error)))
            continue
        other = folder.read_config()
        problems.extend(_differences(name, sweep, other))
        if problems:
            continue
        records = [r for r in folder.records() if r.status == "finished"]
        reference = next((dict(r.metrics) for r in records if r.reference), {})
        compared = [record for record in records if not record.reference]
        same = [record for record in compared if not other_data(data or {}, record.data)]
        trials = [t for r in same if (t := _known(name, sweep, r, reference)) is not None]
        found.extend(trials)
        others = f", {len(compared) - len(same)} trained on other data" if same != compared else ""
        lines.append(f"{len(trials)} of {len(compared)} finished trials of {name}{others}")
    if problems:
        raise ConfigError(problems)
    text = f"warm start: the search knows {', '.join(lines)} (the others are not comparable)"
    return found, text if lines else ""


def tell_known(
    sweep: SweepConfig,
    folder: SweepFolder,
    proposals: Proposals,
    attempt: int,
    say: Callable[[str], None],
    *,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Tell the search of earlier sweeps; each driver does, in case an earlier one was killed."""
    try:
        known, line = known_trials(sweep, folder.storage, data)
    except InputError as error:
        if attempt == 1:
            raise
        # Whatever happened to those sweeps, this one continues; its study keeps what it was told.
        say(f"warning: the warm start learns nothing more: {error}")
        return
    for trial in known:
        proposals.know(trial)
    if line:
        say(line)


def point_of(config: Mapping[str, Any], sweep: SweepConfig) -> Point | None:
    """Return the point of the space with a recorded configuration, None if there is none."""
    config = completed(config)
    point = sweep.space.sample(lambda parameter: lookup(config, parameter.key))
    if not sweep.space.contains(point):
        return None
    try:
        own = sweep.trial(point).as_dict()
        same = seedless(own) == seedless(config)
    except ConfigError:
        return None
    return point if same else None


def _known(
    name: str, sweep: SweepConfig, record: TrialRecord, reference: Mapping[str, float]
) -> Known | None:
    found = outcome_of(record, sweep.settings, reference)
    measured = all(map(math.isfinite, [*found.values.values(), *found.violations.values()]))
    if not measured:
        return None
    point = point_of(record.config, sweep)
    if point is None:
        return None
    return Known(f"{name}/{record.id}", point, found.values, found.violations)


def _differences(name: str, sweep: SweepConfig, other: Mapping[str, Any]) -> list[Problem]:
    mine = sweep.as_dict()
    # Each trial is compared as a whole afterwards.
    pairs = [(key, mine[key], other.get(key)) for key in (*COMPARED, "objectives")]
    return [
        Problem(
            "search.warm_start",
            f"{name} must have this sweep's {key}, {own!r}, but has {given!r}",
        )
        for key, own, given in pairs
        if without_place(own) != without_place(given)
    ]
