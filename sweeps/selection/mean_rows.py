"""A fixed design with several seeds as one row per configuration: means, and their ranks.

A front of single trials would be a front of lucky seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sweeps.pareto import pareto_front, pareto_ranks
from sweeps.rows import Row
from sweeps.selection.confirmed import Confirmed, ConfirmedRow
from sweeps.selection.noise import ID_KEY, OOD_KEY


def mean_rows(found: Confirmed, rows: Sequence[Row], objectives: Mapping[str, str]) -> list[Row]:
    """Return the configurations' rows, ordered by id.

    Args:
        found: means over a design's own seeds.
        rows: of its trials.
        objectives: metric -> "max" or "min".
    """
    known = {row.id: row for row in rows}
    ordered = sorted(found.rows, key=lambda each: each.id)
    means = [_mean(known[each.id], each, objectives) for each in ordered]
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
    """Return the trials' rows, each with the standing of its configuration."""
    standing = {mean.id: mean for mean in means}
    of = {
        trial.id: standing[each.id]
        for each in found.rows
        if each.id in standing
        for trial in each.trials.values()
    }
    return [
        replace(row, rank=of[row.id].rank, candidate=of[row.id].candidate)
        if row.rank is not None and row.id in of
        else row
        for row in rows
    ]


def _mean(row: Row, each: ConfirmedRow, objectives: Mapping[str, str]) -> Row:
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
    )
