"""Dominance, the Pareto front, ranks, hypervolume and the knee, for any number of objectives.

Plain numpy and moocore. A row with a NaN is on no front and in no volume; equal rows are all kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
# Factors that turn values into costs (lower is better).
SIGNS = {"max": -1.0, "min": 1.0}
_PAIRS_AT_ONCE = 2_000_000


def costs_of(values: Sequence[float], directions: Sequence[str]) -> tuple[float, ...]:
    """Return one point's costs: lower is better on every objective."""
    return tuple(SIGNS[way] * value for way, value in zip(directions, values, strict=True))


def dominates(first: ArrayLike, second: ArrayLike) -> NDArray[np.bool_]:
    """Return whether the first dominates the second: nowhere worse, somewhere better.

    Args:
        first: (..., k) costs; a point with a NaN dominates nothing.
        second: (..., k) costs, broadcast with the first; a point with a NaN is never dominated.
    """
    a, b = np.broadcast_arrays(first, second)
    no_worse, better = np.ones(a.shape[:-1], dtype=bool), np.zeros(a.shape[:-1], dtype=bool)
    # One objective at a time, as all at once would take k times the memory.
    for ours, theirs in zip(np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0), strict=True):
        no_worse &= ours <= theirs
        better |= ours < theirs
    found: NDArray[np.bool_] = no_worse & better
    return found


def pareto_front(points: ArrayLike, directions: Sequence[str]) -> NDArray[np.bool_]:
    """Return which points no other point dominates (`dominates`).

    Args:
        points: (n, k).
        directions: k times "max" or "min".

    Returns:
        (n,) mask. Equal points are all on the front or all off it; NaN rows are off it.

    Raises:
        ValueError: shapes do not match, or an unknown direction.
    """
    costs = _costs(points, directions)
    valid = ~np.isnan(costs).any(axis=1)
    mask = np.zeros(len(costs), dtype=bool)
    if valid.any():
        mask[valid] = moocore.is_nondominated(_finite(costs[valid]), keep_weakly=True)
    return mask


def pareto_fronts(points: ArrayLike, directions: Sequence[str]) -> NDArray[np.bool_]:
    """Return the fronts of many sets of points at once, as `pareto_front` of each would be.

    Args:
        points: (d, n, k), without NaN.
        directions: k times "max" or "min".

    Returns:
        (d, n) mask.
    """
    array = np.asarray(points, dtype=np.float64)
    sets, number, width = array.shape
    costs = _costs(array.reshape(sets * number, width), directions).reshape(array.shape)
    masks = np.ones((sets, number), dtype=bool)
    # A few sets at a time, to limit memory.
    step = max(1, _PAIRS_AT_ONCE // max(1, number * number))
    for start in range(0, sets, step):
        part = costs[start : start + step]
        masks[start : start + step] = ~dominates(part[:, :, None], part[:, None]).any(axis=1)
    return masks


def pareto_ranks(points: ArrayLike, directions: Sequence[str]) -> NDArray[np.int64]:
    """Return each point's rank: 0 on the front, 1 on the front once rank 0 is gone; NaN rows -1."""
    costs = _costs(points, directions)
    ranks = np.full(len(costs), -1, dtype=np.int64)
    left = np.flatnonzero(~np.isnan(costs).any(axis=1))
    rank = 0
    while left.size:
        front = moocore.is_nondominated(_finite(costs[left]), keep_weakly=True)
        ranks[left[front]] = rank
        left, rank = left[~front], rank + 1
    return ranks


def hypervolume(points: ArrayLike, reference: ArrayLike, directions: Sequence[str]) -> float:
    """Return the volume between the reference point and what the points dominate.

    Args:
        points: (n, k); NaN rows are left out, points not better than the reference add nothing.
        reference: (k,) finite; the worst point that counts.
        directions: k times "max" or "min".

    Raises:
        ValueError: as for `pareto_front`, or the reference is not finite.
    """
    costs = _costs(points, directions)
    worst = _costs(np.asarray(reference, dtype=np.float64)[None], directions)[0]
    if not np.isfinite(worst).all():
        raise ValueError(f"the reference point must be finite, but got {reference!r}")
    if np.isneginf(costs).any():
        raise ValueError("points must not be infinitely good, or their volume is infinite")
    inside = costs[(costs < worst).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=worst)) if len(inside) else 0.0


def knee(points: ArrayLike, directions: Sequence[str]) -> int:
    """Return the index of the knee, the best compromise on the front.

    The front's ranges are scaled to [0, 1], 1 being best. The knee is the point whose scaled values
    have the largest sum; with three or more points that is the one farthest above the plane through
    the extremes. Ties go to the point whose worst value is best, then to the first.

    Raises:
        ValueError: no point without NaN.
    """
    front = np.flatnonzero(pareto_front(points, directions))
    if not front.size:
        raise ValueError("a knee needs at least one point without NaN")
    costs = _finite(_costs(points, directions)[front])
    low, high = costs.min(axis=0), costs.max(axis=0)
    spread = np.where(high > low, high - low, 1.0)
    scaled = np.where(high > low, (high - costs) / spread, 1.0)
    order = np.lexsort((front, -scaled.min(axis=1), -np.round(scaled.sum(axis=1), 12)))
    return int(front[order[0]])


def _costs(points: ArrayLike, directions: Sequence[str]) -> Floats:
    """Return points as (n, k) costs, lower being better for all objectives."""
    wrong = [direction for direction in directions if direction not in SIGNS]
    if wrong or not directions:
        raise ValueError(f"directions must be 'max' or 'min', but got {list(directions)}")
    array = np.asarray(points, dtype=np.float64)
    if array.size == 0:
        array = array.reshape(0, len(directions))
    if array.ndim != 2 or array.shape[1] != len(directions):
        raise ValueError(f"points must have shape (n, {len(directions)}), but got {array.shape}")
    costs: Floats = array * np.array([SIGNS[direction] for direction in directions])
    return costs


def _finite(costs: Floats) -> Floats:
    """Replace infinities by numbers beyond all others; dominance depends only on the order."""
    numbers = costs[np.isfinite(costs)]
    top = np.abs(numbers).max(initial=0.0) * 2 + 1
    return np.clip(costs, -top, top)
