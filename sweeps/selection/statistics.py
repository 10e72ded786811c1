"""What a few seeds can and cannot show: intervals, paired tests, power.

A configuration trained with n seeds gives n points (one value per objective). The unit is the seed
everywhere, not the evaluation sample, as models of one seed err on the same sentences. Intervals
over samples too: sweeps/selection/bootstrap.py; P(on the front): sweeps/selection/chances.py.

Three seeds are too few to estimate a configuration's noise, so it is pooled over configurations:
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
        low: lower end; NaN where unknown (one value, no pooled deviation).
        high: upper end.
        n: number of values.
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
        n: number of pairs.
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
        values: (n,) one per seed; NaN values are left out.
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

    Pairing removes a seed's effect on both: data order, initialisation of the head.

    Args:
        first: (n,) one value per seed.
        second: (n,) for the same seeds, in the same order; pairs with a NaN are left out.
        level: of the interval.
        deviation: pooled standard deviation of one seed's difference (`pair_noise`), used instead
            of these pairs' own.
        df: its degrees of freedom.

    Raises:
        ValueError: shapes differ.
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

    Pooled over all pairs of rows that share seeds, so that a seed's shared effect cancels, as in
    the analysis of variance of a block design. With every seed in every row the degrees of freedom
    are those of that design; with missing seeds they are fewer than the values suggest.

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

    Satterthwaite (1946): (tr A)^2 / tr A^2 for the sum of squares e' A e, which matches the mean
    and variance of a scaled chi-square.

    Args:
        rows: the seeds of each row; at least two rows share two.
    """
    patterns = Counter(map(frozenset, rows))
    # In A, a row's own block is a sum over the other rows; the block of two rows is a centring.
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
    """Return the degrees of freedom of differences from one row, pooled over others, at least 1.

    Every difference contains that row's noise, so they correlate by one half: many rows are worth
    little more than four (Satterthwaite, as in `pair_freedom`).

    Args:
        rows: for each other row, the seeds that it shares with that one.
    """
    seeds = sorted(set().union(*rows))
    together, trace = np.zeros((len(seeds), len(seeds))), 0
    for shared in rows:
        at = [seeds.index(seed) for seed in shared]
        if at:
            together[np.ix_(at, at)] += np.eye(len(at)) - 1 / len(at)
            trace += len(at) - 1
    # In units of a row's variance, a difference has variance 2, and two differences covariance 1.
    squares = float((together**2).sum()) + 3 * trace
    return max(1, math.floor(4 * trace**2 / squares + 1e-9)) if trace else 1


def verdict(
    mean: float, low: float, high: float, n: int, deviation: float, *, df: int | None = None
) -> str:
    """Return `better`, `worse` or `open`: whether n seeds show a difference.

    It is shown only if the interval excludes zero *and* the difference is large enough for n seeds
    to detect (80 % power): a smaller one that stands out by luck is exaggerated.

    Args:
        mean: of the differences.
        low: lower end of its interval; NaN if unknown.
        high: upper end.
        n: number of seeds.
        deviation: standard deviation of one seed's difference, NaN if unknown.
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
            seeds do not count.

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
    """Return the probability that a paired test over n seeds finds a true difference.

    Args:
        difference: true mean difference, same unit as `deviation`.
        deviation: standard deviation of one seed's difference, above 0.
        n: number of seeds; fewer than 2 find nothing.
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
        # SciPy fails far in the tail, where the answer is clear.
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
        n: number of seeds.
        power: probability of finding it, in (0, 1).
        level: 1 minus the false-alarm rate.
        df: as in `power_of`.
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
        most: largest number of seeds tried.
        df: as in `power_of`.
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
