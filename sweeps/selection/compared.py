"""A configuration's seeds compared with the dense reference's, answer by answer.

Intervals are over seeds and evaluation clusters (bootstrap.py). One seed has none, as it does not
show how much training varies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rc_core.metrics.robustness import gap_standard_error, guarded_relative_bias
from rc_core.record import TrialFolder
from sweeps.selection.answers import Clusters, Part, answers, flat
from sweeps.selection.bootstrap import (
    Answers,
    accuracy_interval,
    crossed_interval,
    difference_interval,
    gap_interval,
    relative_bias_interval,
)
from sweeps.selection.statistics import Estimate

# Fewer than for a single figure, as a table has many.
_DRAWS = 1_000
Seeds = Mapping[int, TrialFolder]


class Reader:
    """Reads the answers of each trial once.

    Args:
        clusters: role -> clusters of its splits.
    """

    def __init__(self, clusters: Clusters) -> None:
        self.clusters = clusters
        self._read: dict[tuple[str, str, Part], NDArray[np.bool_] | None] = {}

    def table(self, trials: Seeds, role: str, part: Part) -> NDArray[np.bool_] | None:
        """Return (s, n) answers, seeds ascending; None if some are missing."""
        found = [self._one(trials[seed], role, part) for seed in sorted(trials)]
        kept = [each for each in found if each is not None]
        return np.stack(kept) if kept and len(kept) == len(found) and kept[0].size else None

    def pair(
        self, ours: Seeds, theirs: Seeds, role: str, part: Part = "headline"
    ) -> Answers | None:
        """Return both models' answers over the seeds that they share, None if there are none."""
        if role not in self.clusters:
            return None
        shared = set(ours) & set(theirs)
        tables = [
            self.table({s: t for s, t in side.items() if s in shared}, role, part)
            for side in (ours, theirs)
        ]
        if tables[0] is None or tables[1] is None:
            return None
        clusters, strata = flat(self.clusters[role], part)
        return Answers([tables[0], tables[1]], clusters, strata)

    def _one(self, trial: TrialFolder, role: str, part: Part) -> NDArray[np.bool_] | None:
        key = (str(trial.path), role, part)
        if key not in self._read:
            self._read[key] = answers(trial, role, self.clusters[role], part)
        return self._read[key]


def accuracy(reader: Reader, ours: Seeds, role: str, part: Part = "headline") -> Estimate | None:
    """Return mean accuracy over seeds, a share; None if there are no answers."""
    pair = reader.pair(ours, ours, role, part)
    return None if pair is None else _known(accuracy_interval(pair, draws=_DRAWS), len(ours))


def difference(
    reader: Reader, ours: Seeds, theirs: Seeds, role: str, part: Part = "headline"
) -> Estimate | None:
    """Return the difference of mean accuracies over shared seeds, in points."""
    pair = reader.pair(ours, theirs, role, part)
    if pair is None:
        return None
    return _known(difference_interval(pair, draws=_DRAWS), len(set(ours) & set(theirs)))


def relative_bias(
    reader: Reader, ours: Seeds, theirs: Seeds, stage: str
) -> tuple[Estimate, str | None] | None:
    """Return F_bias over shared seeds, or NaN and why it is undefined; None without answers.

    Args:
        reader: of both roles' answers.
        ours: of the compressed model.
        theirs: of the dense reference.
        stage: `dev` or `test`.
    """
    inside = reader.pair(ours, theirs, f"id_{stage}")
    outside = reader.pair(ours, theirs, f"ood_{stage}")
    if inside is None or outside is None:
        return None
    seeds = len(set(ours) & set(theirs))
    accuracies = [
        float(np.mean(np.asarray(each.correct[model])))
        for model in (0, 1)
        for each in (inside, outside)
    ]
    gap = _known(gap_interval(inside, outside, model=1), seeds)
    # With drawn clusters the interval also covers the samples' error: the stricter guard.
    sizes = (len(inside.clusters), len(outside.clusters))  # type: ignore[arg-type]
    error = gap_standard_error(*accuracies[2:], sizes=sizes, half_width=gap.half_width)
    value, reason = guarded_relative_bias(*accuracies, reference_gap_standard_error=error)
    if reason is not None:
        return Estimate(math.nan, math.nan, math.nan, seeds), reason
    found = _known(relative_bias_interval(inside, outside, draws=_DRAWS), seeds)
    # A model without a gap has 0, up to rounding.
    assert math.isclose(found.mean, value, abs_tol=1e-9)
    return found, None


def _known(found: Estimate, seeds: int) -> Estimate:
    """Return the estimate, without an interval if it is of one seed."""
    return found if seeds > 1 else replace(found, low=math.nan, high=math.nan)


def excess_drop(
    reader: Reader,
    chosen: Sequence[Seeds],
    reference: Seeds,
    roles: tuple[str, str],
    part: Part,
) -> Estimate | None:
    """Return how much more the chosen lose from dev to test than the reference, in points.

    The reference was not selected, so its loss is how much harder the test is; what the chosen lose
    beyond that is the optimism of selection. Mean over the chosen, over the seeds that all share.
    None if answers are missing.

    Args:
        reader: of both roles' answers.
        chosen: seeds of each chosen configuration, at least one configuration.
        reference: seeds of the dense reference.
        roles: the dev and the test role.
        part: which samples of the test role count.
    """
    models = [*chosen, reference]
    shared = set.intersection(*(set(model) for model in models))
    both = []
    parts: tuple[Part, Part] = ("headline", part)
    for role, where in zip(roles, parts, strict=True):
        if role not in reader.clusters or not shared:
            return None
        kept = [{s: t for s, t in model.items() if s in shared} for model in models]
        tables = [reader.table(each, role, where) for each in kept]
        found = [table for table in tables if table is not None]
        if len(found) < len(models):
            return None
        both.append(Answers(found, *flat(reader.clusters[role], where)))

    def figure(accuracies: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        drops = accuracies[0] - accuracies[1]
        excess: NDArray[np.float64] = 100 * (drops[:-1].mean(axis=0) - drops[-1])
        return excess

    return _known(crossed_interval(both, figure, draws=_DRAWS), len(shared))
