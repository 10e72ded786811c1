"""Is "on the front: 40 %" true four times in ten, where seeds move rows alike and where not?

    python -m tests.benchmarks.chances --runs 400

Simulated configurations with known means (uniform over 10 ID and 25 OOD points) and normal noise.
What is said is compared with how often it is true: with all noise taken as a configuration's own
("independent", as was done until 2026-11-27), and as is done now.

Noise: `real` is what docs/confirmed.md measured (one seed moves a row by 3.4 ID and 8.8 OOD points,
the difference of two by 1.4 and 7.6: standard deviations); `none` moves a row as much, and nothing
of it is shared; in `half` every other configuration does not feel what the rest shares.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sweeps.pareto import pareto_front
from sweeps.search import race
from sweeps.selection.chances import SeedNoise, front_probabilities, seed_noise
from sweeps.selection.statistics import pooled_covariance

BOTH = ("max", "max")
SPREAD = (10.0, 25.0)
BINS = ((0.0, 0.05), (0.05, 0.1), (0.1, 0.4), (0.4, 0.7), (0.7, 0.95), (0.95, 1.01))
ONE_SEED, DIFFERENCE = np.array([3.4, 8.8]), np.array([1.4, 7.6])
CORRELATION = np.array([[1.0, 0.3], [0.3, 1.0]])
_ROWS, _MOST, _DRAWS = 12, 4, 400

Rows = list[dict[int, Sequence[float]]]
Maker = Callable[[Sequence[Mapping[int, Sequence[float]]]], SeedNoise | None]


def independent(rows: Sequence[Mapping[int, Sequence[float]]]) -> SeedNoise | None:
    """Return the noise with all of it a configuration's own."""
    covariance, df = pooled_covariance([[*row.values()] for row in rows if len(row) > 1])
    return SeedNoise(covariance, df, np.zeros_like(covariance), 1) if df else None


WAYS: Mapping[str, Maker] = {"independent": independent, "now": seed_noise}


def values(rng: np.random.Generator, truth: Any, kind: str, seeds: int) -> Any:
    """Return (rows, seeds, 2) values around the true means."""
    own = DIFFERENCE**2 / 2
    shared = ONE_SEED**2 - own
    if kind == "none":
        own, shared = ONE_SEED**2, 0 * shared
    roots = [np.linalg.cholesky(CORRELATION) * np.sqrt(each)[:, None] for each in (own, shared)]
    feels = np.ones((len(truth), 1, 1))
    if kind == "half":
        feels[::2] = 0.0
    moved = rng.standard_normal((seeds, 2)) @ roots[1].T
    return truth[:, None] + feels * moved + rng.standard_normal((len(truth), seeds, 2)) @ roots[0].T


def fixed(kind: str, seeds: Sequence[int], runs: int) -> None:
    """Print how calibrated rows with so many seeds each are."""
    said: dict[str, list[float]] = {way: [] for way in WAYS}
    true: list[bool] = []
    for run in range(runs):
        rng = np.random.default_rng((0, run))
        truth = rng.uniform(0, SPREAD, (len(seeds), 2))
        found = values(rng, truth, kind, max(seeds))
        rows: Rows = [{s: [*found[i, s]] for s in range(n)} for i, n in enumerate(seeds)]
        true += pareto_front(truth, BOTH).tolist()
        for way, make in WAYS.items():
            noise = make(rows)
            assert noise is not None
            said[way] += [*front_probabilities(rows, noise, BOTH, draws=_DRAWS, seed=run)]
    for way in WAYS:
        _print(f"{kind}, seeds {' '.join(map(str, seeds))}", way, said[way], true, "")


def raced(kind: str, runs: int) -> None:
    """Print the same at the end of races, with the trainings that they took."""
    for way, make in WAYS.items():
        race.seed_noise = make  # type: ignore[assignment, attr-defined]
        said, true, trainings, missed, fronts = [], [], 0, 0, 0
        for run in range(runs):
            rng = np.random.default_rng((1, run))
            truth = rng.uniform(0, SPREAD, (_ROWS, 2))
            found = values(rng, np.vstack([truth, np.multiply(SPREAD, (1.05, 0.6))]), kind, 5)
            front = pareto_front(truth, BOTH)
            certain = [*pareto_front(found[:-1, -1], BOTH), True]
            rows = [
                race.Row([*each[-1]], certain=bool(first), contender=i < _ROWS)
                for i, (each, first) in enumerate(zip(found, certain, strict=True))
            ]
            while waiting := race.open_rows(rows, BOTH, _MOST):
                chosen = rows[waiting[0]]
                chosen.found[chosen.handed] = [*found[waiting[0], chosen.handed]]
                chosen.handed += 1
                trainings += 1
            chances = race.probabilities(rows, BOTH, draws=_DRAWS)
            assert chances is not None
            said += [chances[i] for i in range(_ROWS)]
            true += front.tolist()
            missed += sum(not row.found for row, on in zip(rows, front, strict=False) if on)
            fronts += int(front.sum())
        more = f"{trainings / runs:.1f} of {(_ROWS + 1) * _MOST}; {100 * missed / fronts:.1f}"
        _print(f"{kind}, race of {_ROWS} and the dense row", way, said, true, more)
    race.seed_noise = seed_noise  # type: ignore[attr-defined]


def _print(what: str, way: str, said: Sequence[float], true: Sequence[bool], more: str) -> None:
    p, on = np.array(said), np.array(true)
    cells = []
    for low, high in BINS:
        inside = (p >= low) & (p < high)
        if inside.any():
            cells.append(
                f"{100 * p[inside].mean():.0f}: {100 * on[inside].mean():.0f} ({inside.sum()})"
            )
        else:
            cells.append("-")
    undecided = 100 * ((p >= 0.05) & (p <= 0.95)).mean()
    brier = ((p - on) ** 2).mean()
    print(f"| {what} | {way} | {' | '.join(cells)} | {undecided:.0f} | {brier:.3f} | {more} |")


def main() -> None:
    """Print a table in Markdown; its cells are said %: true % (rows), by what was said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    runs = parser.parse_args().runs
    bins = " | ".join(f"{100 * low:.0f} to {100 * min(high, 1):.0f}" for low, high in BINS)
    print(
        f"| noise, seeds | taken as | {bins} | open % | Brier | trainings; front without seeds % |"
    )
    print(f"|{'---|' * (len(BINS) + 5)}")
    for kind in ("real", "none", "half"):
        fixed(kind, [3] * 8, runs)
        fixed(kind, [2, 2, 3, 3, 4, 4, 5, 5], runs)
        fixed(kind, [2] * 3, runs)
        raced(kind, max(1, runs // 4))


if __name__ == "__main__":
    main()
