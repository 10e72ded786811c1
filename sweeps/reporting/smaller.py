"""A smaller model that the noise does not separate from the chosen one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rc_core.record import counted_samples
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.reporting.facts import Facts
from sweeps.rows import Row
from sweeps.selection.statistics import Difference, paired_difference

_KEYS = (ID_KEY, OOD_KEY)
# A model with hardly fewer parameters is not an alternative.
_LEAST_SMALLER = 0.05


_Both = tuple[Difference, Difference]


@dataclass(frozen=True)
class Smaller:
    """A smaller model, and how its accuracies differ from the chosen one's.

    Attributes:
        row: of the model.
        inside: its ID accuracy minus the chosen one's, in points.
        outside: the same out of distribution.
        seeds: number that both share; 1: the search's own, with intervals over samples only.
    """

    row: Row
    inside: Difference
    outside: Difference
    seeds: int


def smaller_alike(facts: Facts, chosen: Row) -> Smaller | None:
    """Return the smallest model that is not shown to differ from the chosen one.

    That is, both 95 % intervals, ID and OOD, contain zero: paired over seeds with pooled noise if
    the chosen model has seeds that played no part in the choice, else over samples alone. This does
    not show equality; the intervals say how far apart the two may be.
    """
    rows = [
        row
        for row in facts.compared
        if not row.reference
        and row.id != chosen.id
        and row.excluded is None
        and row.size <= (1 - _LEAST_SMALLER) * chosen.size
    ]
    found = []
    for row in rows:
        both = _over_seeds(facts, chosen, row)
        if both is None and facts.measured(chosen).seeds < 2:
            both = _of_samples(facts, chosen, row)
        if both is not None and all(each.low <= 0 <= each.high for each in both):
            found.append(Smaller(row, both[0], both[1], seeds=both[0].n))
    return min(found, key=lambda each: (each.row.size, each.row.id), default=None)


def _over_seeds(facts: Facts, chosen: Row, row: Row) -> _Both | None:
    """Return both differences over the seeds that the two share, None for fewer than two."""
    known = {each.id: each for each in facts.confirmed_rows if each.excluded is None}
    if facts.confirmation is None or not {chosen.id, row.id} <= set(known):
        return None
    noise = facts.confirmation.noise
    both = []
    for key in _KEYS:
        ours, theirs = known[row.id].values(key), known[chosen.id].values(key)
        shared = sorted(set(ours) & set(theirs))
        if len(shared) < 2:
            return None
        both.append(
            paired_difference(
                [100 * ours[seed] for seed in shared],
                [100 * theirs[seed] for seed in shared],
                deviation=100 * noise.pairs[key],
                df=noise.pairs_df[key],
            )
        )
    return both[0], both[1]


def _of_samples(facts: Facts, chosen: Row, row: Row) -> _Both | None:
    """Return both differences of single runs, with intervals for the choice of samples.

    As if the two had different samples, which is conservative: they have the same.
    """
    sizes = counted_samples(facts.records[0].data, "dev")
    if sizes is None:
        return None
    both = []
    for samples, ours, theirs in zip(
        sizes,
        (row.id_accuracy, row.ood_accuracy),
        (chosen.id_accuracy, chosen.ood_accuracy),
        strict=True,
    ):
        half = 196 * math.sqrt((ours * (1 - ours) + theirs * (1 - theirs)) / samples)
        mean = 100 * (ours - theirs)
        both.append(Difference(mean, mean - half, mean + half, math.nan, 1))
    return both[0], both[1]
