"""Intervals over training seeds and evaluation clusters together, for functions of accuracies.

Another training run makes other errors, and other samples would be harder or easier; an interval
must cover both. Seeds and clusters are resampled crossed. Compared models share every draw, so
effects of a seed or a subcase on both cancel. Clusters are drawn within strata (a suite's labels),
because the number of entailed pairs in a suite was designed, not sampled.

n - 1 of n units are drawn (Rao and Wu 1988), as drawing n underestimates the spread of few units.
The percentiles are then widened by Student's t for the number of units, and each side is at least
as wide as Student's interval: percentiles of few values end at those values, with two seeds at one
standard deviation. Seeds and clusters each use the quantile of their own degrees of freedom, and
the half-widths add as squares: joint degrees of freedom (Welch and Satterthwaite) would count few
seeds as many wherever they agree by chance. Simulated data showed that coverage needs all of this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sweeps.selection.statistics import LEVEL, Estimate

Floats = NDArray[np.float64]
_DRAWS = 2_000
# Draws are shrunk by this factor so that a figure responds linearly: a ratio has heavy tails.
_SMALL = 1e-3


@dataclass(frozen=True)
class Answers:
    """Right and wrong answers of several models on the same samples.

    Attributes:
        correct: one (s, n) table per model, s seeds by n samples; row i is the same seed in all.
        clusters: (n,) cluster of each sample, any values (subcase, template).
        strata: (n,) stratum of each sample; a cluster lies in one. None: a single stratum.
    """

    correct: Sequence[ArrayLike]
    clusters: ArrayLike
    strata: ArrayLike | None = None


# Maps one array (models, draws) of accuracies per role to (draws,).
Figure = Callable[[Sequence[Floats]], Floats]


def crossed_interval(
    roles: Sequence[Answers],
    figure: Figure,
    *,
    level: float = LEVEL,
    draws: int = _DRAWS,
    seed: int = 0,
) -> Estimate:
    """Return a function of mean accuracies with its interval.

    Args:
        roles: sets of samples, with the same seeds; clusters are drawn in each set by itself.
        figure: maps the accuracies (models, draws) of each set to (draws,).
        level: coverage, in (0, 1).
        draws: number of draws.
        seed: of the draws.

    Returns:
        The figure at the plain means; low and high are NaN where there is nothing to resample (one
        seed, one cluster) or a draw is not finite.

    Raises:
        ValueError: tables of different shapes, or a cluster in two strata.
    """
    rng = np.random.default_rng(seed)
    tables = [_Table(each) for each in roles]
    seeds = tables[0].hits.shape[1]
    if any(table.hits.shape[1] != seeds for table in tables):
        raise ValueError("every set of samples must have the same seeds")
    even = np.full((1, seeds), 1 / seeds)
    seed_draws = _multinomial(rng, [np.arange(seeds)], seeds, draws) / seeds
    cluster_draws = [_multinomial(rng, t.members, len(t.sizes), draws) for t in tables]

    def drawn(weights: Floats, counts: Sequence[Floats]) -> Floats:
        return figure([t.accuracies(weights, c) for t, c in zip(tables, counts, strict=True)])

    whole = [np.ones((1, len(table.sizes))) for table in tables]
    value = float(drawn(even, whole)[0])
    nearly = [1 + _SMALL * (each - 1) for each in cluster_draws]
    by_seed = drawn(even + _SMALL * (seed_draws - even), whole) / _SMALL
    by_cluster = drawn(even, nearly) / _SMALL
    both = drawn(seed_draws, cluster_draws)
    units = (seeds - 1, sum(len(each) - 1 for table in tables for each in table.members))
    if max(units) < 1 or not np.isfinite(both).all():
        return Estimate(value, math.nan, math.nan, seeds)
    tail = 0.5 + level / 2
    deviation, half = _spread(by_seed, by_cluster, units, tail)
    stretch = half / (deviation * stats.norm.ppf(tail)) if deviation else 1.0
    low, high = np.quantile(both, [1 - tail, tail])
    below, above = (max(half, float(stretch * side)) for side in (value - low, high - value))
    return Estimate(value, value - below, value + above, seeds)


def accuracy_interval(answers: Answers, *, seed: int = 0, draws: int = _DRAWS) -> Estimate:
    """Return the accuracy of the first model, a share."""
    return crossed_interval([answers], lambda role: role[0][0], seed=seed, draws=draws)


def difference_interval(answers: Answers, *, seed: int = 0, draws: int = _DRAWS) -> Estimate:
    """Return the first model's accuracy minus the second's, in points."""
    return crossed_interval(
        [answers], lambda role: 100 * (role[0][0] - role[0][1]), seed=seed, draws=draws
    )


def gap_interval(inside: Answers, outside: Answers, *, model: int = 0, seed: int = 0) -> Estimate:
    """Return a model's ID minus its OOD accuracy, a share."""
    return crossed_interval(
        [inside, outside], lambda roles: roles[0][model] - roles[1][model], seed=seed
    )


def relative_bias_interval(
    inside: Answers, outside: Answers, *, seed: int = 0, draws: int = _DRAWS
) -> Estimate:
    """Return F_bias of the first model against the second (Du et al. 2023; our reading).

    The ratio is of mean accuracies over seeds. Small gaps are not guarded against here, but in
    `rc_core.metrics.robustness`.
    """

    def ratio(roles: Sequence[Floats]) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            gaps = [(roles[0][i] - roles[1][i]) / roles[0][i] for i in (0, 1)]
            found: Floats = gaps[0] / gaps[1]
        return found

    return crossed_interval([inside, outside], ratio, seed=seed, draws=draws)


class _Table:
    """Right answers per model, seed and cluster.

    Attributes:
        hits: (models, seeds, clusters).
        sizes: (clusters,) samples in each.
        members: indices of the clusters in each stratum.
    """

    def __init__(self, answers: Answers) -> None:
        tables = [np.atleast_2d(np.asarray(each, dtype=np.float64)) for each in answers.correct]
        if len({table.shape for table in tables}) != 1:
            raise ValueError(f"tables must have one shape, but got {[t.shape for t in tables]}")
        _, index = np.unique(np.asarray(answers.clusters), return_inverse=True)
        count = int(index.max()) + 1
        strata = np.zeros(len(index), dtype=np.int64)
        if answers.strata is not None:
            strata = np.unique(np.asarray(answers.strata), return_inverse=True)[1]
        of_cluster = np.zeros(count, dtype=np.int64)
        of_cluster[index] = strata
        if (of_cluster[index] != strata).any():
            raise ValueError("a cluster must lie in one stratum")
        self.hits = np.stack(
            [[np.bincount(index, row, minlength=count) for row in table] for table in tables]
        )
        self.sizes = np.bincount(index, minlength=count).astype(np.float64)
        self.members = [np.flatnonzero(of_cluster == each) for each in np.unique(of_cluster)]

    def accuracies(self, seeds: Floats, clusters: Floats) -> Floats:
        """Return (models, draws) for weights (draws, seeds) and counts (draws, clusters)."""
        found = []
        for hits in self.hits:
            right = (seeds @ hits) * clusters
            # Strata keep their shares, which are fixed by design.
            parts = [
                self.sizes[members].sum()
                * right[:, members].sum(axis=1)
                / (clusters[:, members] @ self.sizes[members])
                for members in self.members
            ]
            found.append(np.sum(parts, axis=0) / self.sizes.sum())
        return np.stack(found)


def _multinomial(
    rng: np.random.Generator, strata: Sequence[NDArray[np.int64]], count: int, draws: int
) -> Floats:
    """Return the weight of each of `count` units, (draws, count), 1 on average.

    From a stratum of n units, n - 1 are drawn with weight n / (n - 1); a single unit is kept.
    """
    weights = np.ones((draws, count))
    for members in strata:
        n = len(members)
        if n > 1:
            drawn = rng.multinomial(n - 1, np.full(n, 1 / n), draws)
            weights[:, members] = drawn * (n / (n - 1))
    return weights


def _spread(
    by_seed: Floats, by_cluster: Floats, units: tuple[int, int], tail: float
) -> tuple[float, float]:
    """Return the standard deviation of both sources combined, and half of Student's interval.

    Args:
        by_seed, by_cluster: (draws,) the figure where only that source varies.
        units: degrees of freedom of each source; 0 if it cannot vary.
        tail: share below the interval's upper end.
    """
    deviations = [float(np.std(each)) for each in (by_seed, by_cluster)]
    halves = [
        float(stats.t.ppf(tail, df)) * deviation
        for deviation, df in zip(deviations, units, strict=True)
        if df > 0
    ]
    return math.hypot(*deviations), math.hypot(*halves)
