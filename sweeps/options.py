"""What there is to choose from in a sweep: means over new seeds once they exist.

Before a confirmation every finished trial, with the one seed it was chosen by. After it only the
configurations that got new seeds: the search's own values of the others would flatter them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from rc_core.errors import StorageError, did_you_mean
from rc_core.record import TrialRecord
from sweeps.choose import ID_KEY, OOD_KEY, PICKS, Option, check_wheres, choose, parse_weights
from sweeps.confirmed import Confirmed, ConfirmedRow, cannot_be_told_apart, confirmed
from sweeps.constraints import Constraint, parse
from sweeps.sweep import Sweep


def options(sweep: Sweep, found: Confirmed | None = None) -> list[Option]:
    """Return one option per configuration of the search, in the order of its trials.

    Args:
        sweep: any.
        found: its confirmation, where there is one.
    """
    known = {row.id: row for row in found.rows} if found is not None else {}
    excluded = {row.id: row.excluded for row in sweep.rows}
    return [
        _confirmed(record, known[record.id])
        if record.id in known
        else Option(
            id=record.id,
            name=record.name,
            reference=record.reference,
            metrics=record.metrics,
            excluded=excluded[record.id] or (_without_seeds(sweep, record) if known else None),
        )
        for record in sweep.records
    ]


def constraints(sweep: Sweep, wheres: Iterable[str] = ()) -> list[Constraint]:
    """Return the sweep's constraints and the user's. Raises ConfigError."""
    return [*(parse(text) for text in sweep.constraints), *check_wheres(wheres)]


def pick(
    sweep: Sweep, which: str, *, wheres: Iterable[str] = (), weights: Iterable[str] = ()
) -> str:
    """Return the id of the trial that a pick names.

    Args:
        sweep: any.
        which: a key of `sweeps.choose.PICKS`, or a trial's id.
        wheres: constraints on top of the sweep's, as `footprint/parameters <= 20e6`.
        weights: `metric=weight` for `weighted`.

    Raises:
        ConfigError: constraints or weights that cannot be read.
        StorageError: no such pick, or nothing meets the constraints.
    """
    extra = check_wheres(wheres)
    wanted = parse_weights(weights, sweep.objectives)
    ids = [record.id for record in sweep.records]
    if which in ids:
        return which
    if which not in PICKS:
        raise StorageError(
            f"no pick '{which}' in sweep {sweep.name}: {did_you_mean(which, [*PICKS, *ids])}"
        )
    every = [*constraints(sweep), *extra]
    available = options(sweep, confirmed(sweep))
    if not any(option.excluded is None for option in available):
        raise StorageError(f"the front of sweep {sweep.name} is empty: no trial finished")
    return choose(available, sweep.objectives, which, wheres=every, weights=wanted).id


def alike(found: Confirmed | None) -> Callable[[str, str], bool] | None:
    """Return what tells whether new seeds cannot tell two configurations apart, None without."""
    if found is None or not found.df:
        return None
    rows = {row.id: row for row in found.rows}

    def same(first: str, second: str) -> bool:
        return all(
            first in rows
            and second in rows
            and cannot_be_told_apart(found, rows[first], rows[second], key)
            for key in (ID_KEY, OOD_KEY)
        )

    return same


def _confirmed(record: TrialRecord, row: ConfirmedRow) -> Option:
    trials = list(row.trials.values())
    keys = [key for key in trials[0].metrics if all(key in trial.metrics for trial in trials)]
    return Option(
        id=record.id,
        name=record.name,
        reference=record.reference,
        metrics={key: float(np.mean([trial.metric(key) for trial in trials])) for key in keys},
        seeds=row.seeds,
    )


def _without_seeds(sweep: Sweep, record: TrialRecord) -> str:
    return (
        "new seeds did not go to it, its place was clear without; give it some: "
        f"rc-sweep confirm {sweep.name} --also {record.id}"
    )
