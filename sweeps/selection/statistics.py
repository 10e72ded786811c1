"""What a few seeds can and cannot show: intervals, paired tests, power.

Plain numpy and SciPy. A configuration trained with n seeds gives n points (one value per
objective); seeds are the unit everywhere, samples of one evaluation set are not: models of one seed
err on the same sentences. Where the samples matter too: sweeps/selection/bootstrap.py; P(on the
front): sweeps/selection/chances.py.

Training noise is small to estimate from three seeds each, so it is pooled over configurations:
equal covariance for all, as in an analysis of variance.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]

LEVEL = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: NaN without values.
        low: lower end; NaN where nothing can be said (one value, no pooled deviation).
        high: upper end.
        n: values behind it.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Difference:
    """Two configurations compared over the seeds they share.

    Attributes:
        mean: first minus second.
        low: of the interval.
        high: of the interval.
        p_value: two-sided paired t-test; NaN with fewer than two pairs.
        n: pairs.
    """

    mean: float
    low: float
    high: float
    p_value: float
    n: int

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def mean_interval(
    values: ArrayLike, *, level: float = LEVEL, deviation: float | None = None, df: int = 0
) -> Estimate:
    """Return the mean and its Student interval.

    Args:
        values: (n,) one per seed; NaN are left out.
        level: coverage, in (0, 1).
        deviation: pooled standard deviation of one seed, used instead of the values' own.
        df: its degrees of freedom.
    """
    found = np.asarray(values, dtype=np.float64)
    found = found[~np.isnan(found)]
    n = len(found)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(found.mean())
    if deviation is None:
        df = n - 1
        deviation = float(found.std(ddof=1)) if n > 1 else math.nan
    if df < 1 or math.isnan(deviation):
        return Estimate(mean, math.nan, math.nan, n)
    half = float(stats.t.ppf(0.5 + level / 2, df)) * deviation / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    level: float = LEVEL,
    deviation: float | None = None,
    df: int = 0,
) -> Difference:
    """Compare two configurations over the same seeds (paired t-test).

    Pairing takes out what a seed does to both: data order, initialisation of the head.

    Args:
        first: (n,) one value per seed.
        second: (n,) of the same seeds, in the same order; pairs with a NaN are left out.
        level: of the interval.
        deviation: pooled standard deviation of one seed's difference (`pair_noise`), used instead
            of these pairs' own.
        df: its degrees of freedom.

    Raises:
        ValueError: shapes that differ.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"pairs must have one shape (n,), but got {a.shape} and {b.shape}")
    differences = (a - b)[~np.isnan(a - b)]
    if deviation is not None and (df < 1 or math.isnan(deviation)):
        deviation = None
    if deviation is None and len(differences) > 1:
        deviation, df = float(differences.std(ddof=1)), len(differences) - 1
    estimate = mean_interval(differences, level=level, deviation=deviation, df=df)
    p_value = math.nan
    if deviation is not None and estimate.n:
        p_value = 1.0 if estimate.mean == 0 else 0.0
        if deviation > 0:
            statistic = abs(estimate.mean) * math.sqrt(estimate.n) / deviation
            p_value = float(2 * stats.t.sf(statistic, df))
    return Difference(estimate.mean, estimate.low, estimate.high, p_value, estimate.n)


def pair_noise(rows: Sequence[Mapping[int, float]]) -> tuple[float, int]:
    """Return the standard deviation of one seed's difference of two configurations, and its df.

    Pooled over all pairs of rows that share seeds: what a seed does to all rows alike is out, as in
    the analysis of variance of a block design, whose degrees of freedom it has where every row has
    every seed. Where some are missing it is worth less than a count of its values says.

    Args:
        rows: seed -> value, one per configuration.

    Returns:
        NaN and 0 where no two rows share two seeds.
    """
    squares, weight = 0.0, 0
    for i, first in enumerate(rows):
        for second in rows[:i]:
            shared = sorted(set(first) & set(second))
            if len(shared) > 1:
                values = np.array([first[s] - second[s] for s in shared])
                squares += float(((values - values.mean()) ** 2).sum())
                weight += len(shared) - 1
    if not weight:
        return math.nan, 0
    return math.sqrt(squares / weight), pair_freedom(rows)


def pair_freedom(rows: Sequence[Collection[int]]) -> int:
    """Return the degrees of freedom of `pair_noise`, rounded down, at least 1.

    Satterthwaite (1946), (tr A)^2 / tr A^2 of the sum of squares e' A e: its mean and variance are
    those of a chi-square with so many.

    Args:
        rows: the seeds of each; at least two rows share two.
    """
    patterns = Counter(map(frozenset, rows))
    # Of A the block of a row is a sum over the rows beside it, and that of two rows a centring.
    trace = squares = 0.0
    for own, count in patterns.items():
        places = {seed: at for at, seed in enumerate(own)}
        block = np.zeros((len(own), len(own)))
        for other, beside in patterns.items():
            shared, rest = own & other, beside - (own == other)
            if len(shared) > 1:
                at = [places[seed] for seed in shared]
                block[np.ix_(at, at)] += rest * (np.eye(len(shared)) - 1 / len(shared))
                trace += count * rest * (len(shared) - 1)
        squares += count * float((block**2).sum())
    return max(1, math.floor(trace**2 / (squares + trace) + 1e-9))


def beside_one_freedom(rows: Sequence[Collection[int]]) -> int:
    """Return the degrees of freedom of differences pooled over rows beside one, at least 1.

    What the one row's seeds do is in every difference, so that they are alike by a half: many rows
    are worth little more than four (Satterthwaite, as in `pair_freedom`).

    Args:
        rows: of each row the seeds that it shares with the one.
    """
    seeds = sorted(set().union(*rows))
    together, trace = np.zeros((len(seeds), len(seeds))), 0
    for shared in rows:
        at = [seeds.index(seed) for seed in shared]
        if at:
            together[np.ix_(at, at)] += np.eye(len(at)) - 1 / len(at)
            trace += len(at) - 1
    # Covariances are two of a row's variances for itself, one for two rows.
    squares = float((together**2).sum()) + 3 * trace
    return max(1, math.floor(4 * trace**2 / squares + 1e-9)) if trace else 1


def verdict(
    mean: float, low: float, high: float, n: int, deviation: float, *, df: int | None = None
) -> str:
    """Return `better`, `worse` or `open`: whether n seeds show a difference.

    It is shown only where the interval excludes zero *and* the difference is as large as n seeds
    can be trusted to show (80 % power): of smaller ones that stand out by luck, the size misleads.

    Args:
        mean: of the differences.
        low: of its interval; NaN where it is unknown.
        high: of its interval.
        n: seeds.
        deviation: standard deviation of one seed's difference, NaN where it is unknown.
        df: of a pooled deviation; None: the n seeds' own.
    """
    if n < 2 or math.isnan(low) or math.isnan(deviation) or low <= 0 <= high:
        return "open"
    if abs(mean) < detectable_difference(deviation, n, df=df):
        return "open"
    return "better" if mean > 0 else "worse"


def pooled_covariance(groups: Sequence[ArrayLike]) -> tuple[Floats, int]:
    """Return the covariance of one seed's point around its configuration's mean, and its df.

    Args:
        groups: per configuration (n_i, k) points, one per seed; configurations with fewer than two
            seeds tell nothing of it.

    Returns:
        (k, k) and sum(n_i - 1); the covariance is NaN where df is 0.
    """
    arrays = [np.atleast_2d(np.asarray(group, dtype=np.float64)) for group in groups]
    width = max((array.shape[1] for array in arrays), default=0)
    total, df = np.zeros((width, width)), 0
    for array in arrays:
        if len(array) > 1:
            centred = array - array.mean(axis=0)
            total += centred.T @ centred
            df += len(array) - 1
    return (total / df if df else np.full((width, width), np.nan)), df


def power_of(
    difference: float, deviation: float, n: int, *, level: float = LEVEL, df: int | None = None
) -> float:
    """Return how likely a paired test over n seeds finds a true difference.

    Args:
        difference: true mean difference, same unit as `deviation`.
        deviation: standard deviation of one seed's difference, above 0.
        n: seeds; fewer than 2 find nothing.
        level: 1 minus the false-alarm rate of the two-sided test.
        df: degrees of freedom of a pooled deviation; None: the n seeds' own.
    """
    if n < 2:
        return 0.0
    freedom = max(df or 0, n - 1)
    critical = float(stats.t.ppf(0.5 + level / 2, freedom))
    shift = abs(difference) / deviation * math.sqrt(n)
    upper = float(stats.nct.sf(critical, freedom, shift))
    if not math.isfinite(upper):
        # SciPy gives up far out, where the answer is plain.
        return 1.0 if shift > critical else 0.0
    lower = float(stats.nct.cdf(-critical, freedom, shift))
    return upper + (lower if math.isfinite(lower) else 0.0)


def detectable_difference(
    deviation: float,
    n: int,
    *,
    power: float = POWER,
    level: float = LEVEL,
    df: int | None = None,
) -> float:
    """Return the smallest true difference that n seeds show with the given power (inf for n < 2).

    Args:
        deviation: standard deviation of one seed's difference.
        n: seeds.
        power: chance to find it, in (0, 1).
        level: 1 minus the false-alarm rate.
        df: as `power_of`.
    """
    if n < 2:
        return math.inf
    if deviation == 0:
        return 0.0

    def missing(share: float) -> float:
        return power_of(share, 1.0, n, level=level, df=df) - power

    # 50 standard deviations are found even with two seeds.
    return deviation * float(optimize.brentq(missing, 1e-6, 50.0, xtol=1e-6))


def seeds_needed(
    difference: float,
    deviation: float,
    *,
    power: float = POWER,
    level: float = LEVEL,
    most: int = 1_000,
    df: int | None = None,
) -> int | None:
    """Return the fewest seeds that show a true difference with the given power, None beyond `most`.

    Args:
        difference: above 0, same unit as `deviation`.
        deviation: standard deviation of one seed's difference.
        power: in (0, 1).
        level: 1 minus the false-alarm rate.
        most: where the search ends.
        df: as `power_of`.
    """
    if deviation == 0:
        return 2
    low, high = 1, most
    if power_of(difference, deviation, most, level=level, df=df) < power:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        found = power_of(difference, deviation, middle, level=level, df=df) >= power
        low, high = (low, middle) if found else (middle, high)
    return high
