"""A fixed design with several seeds as one row per configuration: means, and their ranks.

A front of single trials would be a front of lucky seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rc_core.record import TrialRecord
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.pareto import pareto_front, pareto_ranks
from sweeps.rows import Row
from sweeps.selection.confirmed import Confirmed, ConfirmedRow, confirmed
from sweeps.stored_sweep import StoredSweep


def front(sweep: StoredSweep) -> list[TrialRecord]:
    """Return the records on the Pareto front, best on the first objective first.

    For a fixed design with several seeds: the configurations whose means are on it, each as the
    record that is exported for it, its first seed's.
    """
    now = sweep.still()
    return _records(now, [row for row in _compared(now) if row.on_front])


def candidates(sweep: StoredSweep) -> list[TrialRecord]:
    """Return the front without the dense reference: the models to choose from."""
    now = sweep.still()
    return _records(now, [row for row in _compared(now) if row.candidate]) or front(now)


def mean_rows(
    found: Confirmed,
    rows: Sequence[Row],
    objectives: Mapping[str, str],
    *,
    misses: Mapping[str, str] | None = None,
) -> list[Row]:
    """Return the configurations' rows, ordered by id.

    Args:
        found: means over a design's own seeds.
        rows: of its trials.
        objectives: metric -> "max" or "min".
        misses: configuration -> why it is excluded; None: as by the sweep's constraints.
    """
    known = {row.id: row for row in rows}
    ordered = sorted(found.rows, key=lambda each: each.id)
    why = {each.id: each.excluded for each in ordered} if misses is None else misses
    means = [_mean(known[each.id], each, objectives, why.get(each.id)) for each in ordered]
    points = [
        [math.nan if row.excluded else row.values[name] for name in objectives] for row in means
    ]
    directions = list(objectives.values())
    alone = [
        [math.nan] * len(point) if row.reference else point
        for row, point in zip(means, points, strict=True)
    ]
    ranks, candidates = pareto_ranks(points, directions), pareto_front(alone, directions)
    return [
        replace(row, rank=None if row.excluded else int(rank), candidate=bool(candidate))
        for row, rank, candidate in zip(means, ranks, candidates, strict=True)
    ]


def with_ranks_of(rows: Sequence[Row], means: Sequence[Row], found: Confirmed) -> list[Row]:
    """Return the trials' rows, each with the standing of its configuration.

    A trial that belongs to no mean (the searched teacher in a confirmation) has none.
    """
    standing = {mean.id: mean for mean in means}
    of = {
        trial.id: standing[each.id]
        for each in found.rows
        if each.id in standing
        for trial in each.trials.values()
    }
    return [
        replace(
            row,
            rank=of[row.id].rank,
            candidate=of[row.id].candidate,
            excluded=of[row.id].excluded,
        )
        if row.id in of and not row.without_value
        else replace(row, rank=None, candidate=False)
        for row in rows
    ]


def _mean(row: Row, each: ConfirmedRow, objectives: Mapping[str, str], excluded: str | None) -> Row:
    against = each.against_reference
    seconds = [trial.seconds.get("total", math.nan) for trial in each.trials.values()]
    return replace(
        row,
        values={name: each.estimates[name].mean for name in objectives},
        id_accuracy=each.estimates[ID_KEY].mean,
        ood_accuracy=each.estimates[OOD_KEY].mean,
        ood_difference=math.nan if against is None else against.mean,
        relative_bias=each.bias.mean,
        bias_reason=each.bias_reason,
        seconds=sum(seconds) / len(seconds),
        excluded=excluded,
    )


def _compared(sweep: StoredSweep) -> list[Row]:
    """Return the rows to compare: means in a design with several seeds, else trials."""
    found = confirmed(sweep) if sweep.config.get("design") == "fixed" else None
    if found is None or not found.own:
        return sweep.rows
    return mean_rows(found, sweep.rows, sweep.objectives)


def _records(sweep: StoredSweep, rows: Sequence[Row]) -> list[TrialRecord]:
    first, direction = next(iter(sweep.objectives.items()))
    ordered = sorted(rows, key=lambda row: row.values[first], reverse=direction == "max")
    known = {record.id: record for record in sweep.records}
    return [known[row.id] for row in ordered]
