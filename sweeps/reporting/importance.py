"""Which settings affect an objective: permutation importance of a random forest.

The forest (scikit-learn) is fitted on four fifths of the trials and judged on the rest, in five
folds. A setting's importance is how much worse it predicts once the setting's values are shuffled
among the held-out trials, as a share of that for all settings. It describes these trials only: with
few of them, or for a setting that only one compression has, zero does not prove that there is no
effect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST_TRIALS = 15
# Below this share of explained variance the forest's importances mean nothing.
LEAST_EXPLAINED = 0.1
_MOST_TRIALS = 1_000
_FOLDS, _SHUFFLES, _TREES = 5, 5, 60


@dataclass(frozen=True)
class Importance:
    """The importances for one objective.

    Attributes:
        trials: number that the forest was fitted and judged on.
        explained: share of the variance of held-out trials that it explains (R squared; below 0:
            worse than their mean), NaN if it was not fitted.
        shares: setting -> its share of the total importance, largest first, with sum 1; empty if
            the forest explains too little.
        problem: why there is nothing to show, else None.
    """

    trials: int
    explained: float
    shares: Mapping[str, float]
    problem: str | None


def importance(
    settings: Mapping[str, Sequence[Any]], values: Sequence[float], *, seed: int = 0
) -> Importance:
    """Return the importance of each setting for one objective.

    Args:
        settings: dotted key -> value per trial, None where a trial has no such setting.
        values: objective per trial; NaN values are left out.
        seed: of forests, folds and shuffles.
    """
    target = np.asarray(values, dtype=np.float64)
    kept = np.flatnonzero(np.isfinite(target))
    rng = np.random.default_rng(seed)
    if len(kept) > _MOST_TRIALS:
        kept = np.sort(rng.choice(kept, _MOST_TRIALS, replace=False))
    n = len(kept)
    if n < LEAST_TRIALS:
        why = (
            f"needs {LEAST_TRIALS} compressed models that finished with a value, but "
            f"there {'is' if n == 1 else 'are'} {n} (the dense reference, failed and stopped "
            "trials do not count)"
        )
        return Importance(n, math.nan, {}, why)
    groups = {
        key: columns
        for key, column in settings.items()
        if (columns := _encoded([column[int(i)] for i in kept], rng)).shape[1]
    }
    target = target[kept]
    if not groups or float(target.std()) < 1e-12:
        return Importance(n, math.nan, {}, "all trials have the same settings, or the same value")
    explained, shares = _cross_validated(groups, target, rng)
    if explained < LEAST_EXPLAINED:
        why = (
            f"a forest explains {100 * max(explained, 0.0):.0f} % of the differences between "
            "held-out trials: too little to say which setting matters"
        )
        return Importance(n, explained, {}, why)
    return Importance(n, explained, dict(sorted(shares.items(), key=lambda x: -x[1])), None)


def _cross_validated(
    groups: Mapping[str, Floats], target: Floats, rng: np.random.Generator
) -> tuple[float, dict[str, float]]:
    """Return the held-out share of explained variance, and each group's share of the loss."""
    from sklearn.ensemble import RandomForestRegressor

    table = np.concatenate(list(groups.values()), axis=1)
    ends = np.cumsum([columns.shape[1] for columns in groups.values()])
    places = {
        key: slice(end - columns.shape[1], end)
        for (key, columns), end in zip(groups.items(), ends, strict=True)
    }
    n = len(target)
    error, lost = 0.0, dict.fromkeys(groups, 0.0)
    for held in np.array_split(rng.permutation(n), _FOLDS):
        fitted = np.setdiff1d(np.arange(n), held)
        forest = RandomForestRegressor(
            n_estimators=_TREES, min_samples_leaf=2, random_state=int(rng.integers(2**31)), n_jobs=1
        ).fit(table[fitted], target[fitted])
        base = float(((forest.predict(table[held]) - target[held]) ** 2).sum())
        error += base
        for key, place in places.items():
            shuffled = np.repeat(table[held][None], _SHUFFLES, axis=0)
            for copy in shuffled:
                copy[:, place] = copy[rng.permutation(len(held)), place]
            predicted = forest.predict(shuffled.reshape(-1, table.shape[1]))
            wrong = ((predicted.reshape(_SHUFFLES, -1) - target[held]) ** 2).sum() / _SHUFFLES
            lost[key] += float(wrong) - base
    total = float(((target - target.mean()) ** 2).sum())
    kept = {key: max(value, 0.0) for key, value in lost.items()}
    whole = sum(kept.values()) or 1.0
    return 1 - error / total, {key: value / whole for key, value in kept.items()}


def _encoded(column: Sequence[Any], rng: np.random.Generator) -> Floats:
    """Return one setting as columns: its number, or 0/1 per value; none if it is constant.

    A trial without the setting gets the value of a random other: its absence only tells the trial's
    compression or loss, which must not count as this setting's importance.
    """
    present = [value for value in column if value is not None]
    if len(set(map(repr, present))) < 2:
        return np.empty((len(column), 0))
    draws = rng.integers(len(present), size=len(column))
    filled = [
        present[draw] if value is None else value for value, draw in zip(column, draws, strict=True)
    ]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        return np.array(filled, dtype=np.float64)[:, None]
    names = sorted({repr(value) for value in present})
    return np.array([[float(repr(value) == name) for name in names] for value in filled])
