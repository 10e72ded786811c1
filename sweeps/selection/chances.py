"""P(on the front): how likely each configuration's true mean is on the Pareto front.

A seed moves all configurations alike (data order, the new head), and each a little by itself. What
it does to all alike moves no front where all have the same seeds, and where they have not it tells
them apart for nothing. So a value is taken to be the configuration's mean, plus what the seed does
to every configuration, plus the rest: both normal, and the same for all configurations. What speaks
against a seed is taken from the configurations that have several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sweeps.pareto import pareto_fronts
from sweeps.selection.statistics import Floats, pooled_covariance

# Seed -> one value per objective.
Row = Mapping[int, Sequence[float]]

_DRAWS = 4_000
# Of a metric's variance, added where weights divide by noise: objectives may have none (a size).
_FLOOR = 1e-6
# Of a value: a smaller deviation is none.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class SeedNoise:
    """What another training seed does.

    Attributes:
        own: (k, k) covariance of what it does to one configuration alone.
        own_df: its degrees of freedom, at least 1.
        shared: (k, k) covariance of what it does to all configurations alike; zero where that is
            unknown: then it is in `own`.
        shared_df: its degrees of freedom, at least 1.
    """

    own: Floats
    own_df: int
    shared: Floats
    shared_df: int


def seed_noise(rows: Sequence[Row]) -> SeedNoise | None:
    """Return the noise of one seed in its two parts, pooled over configurations.

    The own part is what is left of the values without configurations' and seeds' means (a two-way
    analysis of variance, exact also where seeds are missing). Where too few values are left for
    that, all noise is taken as a configuration's own: too much rather than too little, for seeds
    that move all alike.

    Args:
        rows: of each configuration, k finite values per seed.

    Returns:
        None where no configuration has two seeds.
    """
    groups = [np.array([*row.values()], dtype=np.float64) for row in rows if len(row) > 1]
    whole, whole_df = pooled_covariance(groups)
    if not whole_df:
        return None
    alone = SeedNoise(whole, whole_df, np.zeros_like(whole), 1)
    values, of_row, of_seed = _layout(rows)
    effects = np.hstack([of_row, of_seed])
    fitted, _, rank, _ = np.linalg.lstsq(effects, values)
    df = len(values) - int(rank)
    moved = _moves(whole, values)
    # With fewer than the objectives that move, the covariance would be singular.
    if df < max(1, int(moved.sum())):
        return alone
    rest = values - effects @ fitted
    own = rest.T @ rest / df
    # By chance, accuracies being counts: no noise at all is no noise that is known.
    if (np.diag(own)[moved] <= _FLOOR * np.diag(whole)[moved]).any():
        return alone
    return SeedNoise(own, df, _positive(whole - own), of_seed.shape[1] - 1)


def front_probabilities(
    rows: Sequence[Row],
    noise: SeedNoise,
    directions: Sequence[str],
    *,
    draws: int = _DRAWS,
    seed: int = 0,
) -> Floats:
    """Return for each configuration how likely its true mean is on the Pareto front.

    True means are drawn around the estimated ones (a flat prior, each part of the noise a
    multivariate t). Those are plain means where all have the same seeds; else what seeds do to all
    alike is taken out, as far as the rows show it (generalised least squares). Values must be free
    of selection: from seeds that chose nothing.

    Args:
        rows: of each configuration, at least one seed with k finite values.
        noise: of one seed.
        directions: k times "max" or "min".
        draws: more is smoother; the error of a share is at most 0.5 / sqrt(draws).
        seed: of the draws.

    Returns:
        (c,) shares.
    """
    values, of_row, of_seed = _layout(rows)
    moves = _moves(noise.own + noise.shared, values)
    # What no seed moves (a size) stays as it is, to the bit: of two of one size, with a hair of
    # rounding on each, neither would beat the other.
    drawn = np.repeat(values[of_row.argmax(axis=0)][None], draws, axis=0)
    if moves.any():
        both = np.ix_(moves, moves)
        alone = replace(noise, own=noise.own[both], shared=noise.shared[both])
        drawn[:, :, moves] = _drawn_means(
            values[:, moves], of_row, of_seed, alone, np.random.default_rng(seed), draws
        )
    fronts = pareto_fronts(drawn, directions)
    shares: Floats = fronts.mean(axis=0)
    return shares


def _drawn_means(
    values: Floats,
    of_row: Floats,
    of_seed: Floats,
    noise: SeedNoise,
    rng: np.random.Generator,
    draws: int,
) -> Floats:
    """Return true means as they may be, (draws, c, k), of values (n, k) that seeds move."""
    number, width = values.shape
    estimator = _estimator(of_row, of_seed, noise)
    centre = estimator @ values.ravel()
    # What each part of the noise does to the estimates: (c * k, anything) with its covariance.
    own = estimator.reshape(-1, number, width) @ _root(noise.own)
    shared = estimator @ np.kron(of_seed, _root(noise.shared))
    drawn = centre + np.zeros((draws, 1))
    for part, df in ((own.reshape(len(centre), -1), noise.own_df), (shared, noise.shared_df)):
        root = _root(part @ part.T)
        # One noise level for all configurations: they share it in each draw.
        scale = np.sqrt(df / rng.chisquare(df, draws))[:, None]
        drawn = drawn + scale * (rng.standard_normal((draws, len(centre))) @ root.T)
    return drawn.reshape(draws, -1, width)


def _moves(covariance: Floats, values: Floats) -> NDArray[np.bool_]:
    """Return which of k metrics a seed moves by more than rounding, (k,); values (n, k)."""
    found: NDArray[np.bool_] = np.diag(covariance) > (_ROUNDING * np.abs(values).max(axis=0)) ** 2
    return found


def _layout(rows: Sequence[Row]) -> tuple[Floats, Floats, Floats]:
    """Return the (n, k) values, and which row (n, c) and which seed (n, s) each is of."""
    places = [(i, seed) for i, row in enumerate(rows) for seed in row]
    seeds = sorted({seed for _, seed in places})
    values = np.array([rows[i][seed] for i, seed in places], dtype=np.float64)
    of_row = np.eye(len(rows))[[i for i, _ in places]]
    of_seed = np.eye(len(seeds))[[seeds.index(seed) for _, seed in places]]
    return values, of_row, of_seed


def _estimator(of_row: Floats, of_seed: Floats, noise: SeedNoise) -> Floats:
    """Return the (c * k, n * k) weights that make estimates of the values.

    A row's estimate is the mean of its values less what its seeds do to all rows. That is shrunk
    towards nothing as far as the noise says: not at all where seeds do much to all rows alike.
    """
    width = len(noise.own)
    mean = of_row.T / of_row.sum(axis=0)[:, None]
    within = of_seed - of_row @ (mean @ of_seed)
    floor = _FLOOR * np.diag(noise.own + noise.shared)
    known = noise.own + np.diag(np.where(floor > 0, floor, 1.0))
    ratio = noise.shared @ np.linalg.inv(known)
    # The mixed model's equations for seeds, which need no inverse of the shared part.
    left = np.kron(of_seed.T @ within, ratio) + np.eye(of_seed.shape[1] * width)
    seeds = np.linalg.solve(left, np.kron(within.T, ratio))
    found: Floats = np.kron(mean, np.eye(width)) - np.kron(mean @ of_seed, np.eye(width)) @ seeds
    return found


def _positive(covariance: Floats) -> Floats:
    """Return the nearest covariance: a difference of two may have negative variances."""
    root = _root(covariance)
    found: Floats = root @ root.T
    return found


def _root(covariance: NDArray[np.float64]) -> Floats:
    """Return a matrix whose product with its transpose is the covariance."""
    values, vectors = np.linalg.eigh(covariance)
    found: Floats = vectors * np.sqrt(np.clip(values, 0.0, None))
    return found
