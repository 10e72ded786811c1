"""P(on the front): the probability that a configuration's true mean is on the Pareto front.

A seed has an effect that all configurations share (data order, the new head) and one on each alone.
The shared effect does not change the front where all have the same seeds; where they do not, it
separates configurations that are alike. A value is therefore modelled as the configuration's mean,
plus the seed's shared effect, plus a rest; both are normal, with one covariance for all
configurations, estimated from those that have several seeds.
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
# Share of a metric's variance added before inverting: an objective may be noise-free (a size).
_FLOOR = 1e-6
# A deviation below this share of the value counts as zero.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class SeedNoise:
    """The noise of one training seed, in two parts.

    Attributes:
        own: (k, k) covariance of its effect on one configuration alone.
        own_df: its degrees of freedom, at least 1.
        shared: (k, k) covariance of its effect on all configurations; zero where it is unknown and
            part of `own`.
        shared_df: its degrees of freedom, at least 1.
    """

    own: Floats
    own_df: int
    shared: Floats
    shared_df: int


def seed_noise(rows: Sequence[Row]) -> SeedNoise | None:
    """Return the noise of one seed in its two parts, pooled over configurations.

    The own part is the residual after removing configuration and seed effects (a two-way analysis
    of variance, exact also with missing seeds). With too few values for that, all noise counts as
    a configuration's own, which overestimates it where seeds move all alike.

    Args:
        rows: per configuration, k finite values for each seed.

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
    # With fewer degrees of freedom than varying objectives, the covariance would be singular.
    if df < max(1, int(moved.sum())):
        return alone
    rest = values - effects @ fitted
    own = rest.T @ rest / df
    # Accuracies are counts, so a zero residual arises by chance: the noise is unknown, not zero.
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
    """Return for each configuration the probability that its true mean is on the Pareto front.

    True means are drawn around the estimates (flat prior; each part of the noise is a multivariate
    t). The estimates are plain means where all configurations have the same seeds; otherwise shared
    seed effects are removed as far as the rows show them (generalised least squares). Values must
    be free of selection: from seeds that played no part in a choice.

    Args:
        rows: per configuration, at least one seed with k finite values.
        noise: of one seed.
        directions: k times "max" or "min".
        draws: number of draws; the standard error of a result is at most 0.5 / sqrt(draws).
        seed: of the draws.

    Returns:
        (c,) probabilities in [0, 1].
    """
    values, of_row, of_seed = _layout(rows)
    moves = _moves(noise.own + noise.shared, values)
    # What no seed changes (a size) is kept exactly: rounding errors on equal sizes would keep one
    # configuration from dominating another.
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
    """Return draws of the true means, (draws, c, k), from values (n, k) that seeds change."""
    number, width = values.shape
    estimator = _estimator(of_row, of_seed, noise)
    centre = estimator @ values.ravel()
    # Roots, (c * k, any), of the covariance that each part of the noise gives the estimates.
    own = estimator.reshape(-1, number, width) @ _root(noise.own)
    shared = estimator @ np.kron(of_seed, _root(noise.shared))
    drawn = centre + np.zeros((draws, 1))
    for part, df in ((own.reshape(len(centre), -1), noise.own_df), (shared, noise.shared_df)):
        root = _root(part @ part.T)
        # All configurations have one noise level, so each draw of it applies to all.
        scale = np.sqrt(df / rng.chisquare(df, draws))[:, None]
        drawn = drawn + scale * (rng.standard_normal((draws, len(centre))) @ root.T)
    return drawn.reshape(draws, -1, width)


def _moves(covariance: Floats, values: Floats) -> NDArray[np.bool_]:
    """Return which of k metrics a seed changes by more than rounding, (k,); values (n, k)."""
    found: NDArray[np.bool_] = np.diag(covariance) > (_ROUNDING * np.abs(values).max(axis=0)) ** 2
    return found


def _layout(rows: Sequence[Row]) -> tuple[Floats, Floats, Floats]:
    """Return the values (n, k) and indicators of their row (n, c) and their seed (n, s)."""
    places = [(i, seed) for i, row in enumerate(rows) for seed in row]
    seeds = sorted({seed for _, seed in places})
    values = np.array([rows[i][seed] for i, seed in places], dtype=np.float64)
    of_row = np.eye(len(rows))[[i for i, _ in places]]
    of_seed = np.eye(len(seeds))[[seeds.index(seed) for _, seed in places]]
    return values, of_row, of_seed


def _estimator(of_row: Floats, of_seed: Floats, noise: SeedNoise) -> Floats:
    """Return the (c * k, n * k) matrix that maps values to estimates.

    A row's estimate is the mean of its values minus the shared effects of its seeds. These are
    shrunk towards zero, the less the larger the shared part of the noise.
    """
    width = len(noise.own)
    mean = of_row.T / of_row.sum(axis=0)[:, None]
    within = of_seed - of_row @ (mean @ of_seed)
    floor = _FLOOR * np.diag(noise.own + noise.shared)
    known = noise.own + np.diag(np.where(floor > 0, floor, 1.0))
    ratio = noise.shared @ np.linalg.inv(known)
    # Mixed-model equations for seeds, in a form that does not invert the shared part.
    left = np.kron(of_seed.T @ within, ratio) + np.eye(of_seed.shape[1] * width)
    seeds = np.linalg.solve(left, np.kron(within.T, ratio))
    found: Floats = np.kron(mean, np.eye(width)) - np.kron(mean @ of_seed, np.eye(width)) @ seeds
    return found


def _positive(covariance: Floats) -> Floats:
    """Return the nearest covariance: a difference of two may have negative eigenvalues."""
    root = _root(covariance)
    found: Floats = root @ root.T
    return found


def _root(covariance: NDArray[np.float64]) -> Floats:
    """Return a matrix whose product with its transpose is the covariance."""
    values, vectors = np.linalg.eigh(covariance)
    found: Floats = vectors * np.sqrt(np.clip(values, 0.0, None))
    return found
