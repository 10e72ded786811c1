"""More seeds for configurations whose place on the front is undecided (for rc-sweep confirm).

Rows and seeds are fixed (`search.points` x `space.training.seed`); which of them are trained is
decided as results arrive. First the rows of the searched front, the dense reference and the rows
the user asked for get two seeds each, which give an estimate of the noise. From then on a row is
open while its probability of being on the front lies between the two bounds, and the open row with
the fewest seeds is next. A row without new seeds counts with its searched value, as one seed, which
it shares with the others that have none: noise, or the effect of that seed on all of them, may have
hidden it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rc_core.config import TrialConfig, seedfree, seedless
from rc_core.errors import StorageError
from rc_core.record import TrialRecord
from sweeps.comparable import flat
from sweeps.config import SweepConfig
from sweeps.folder import SweepFolder
from sweeps.remote.mirror import CONFIRM_SUFFIX
from sweeps.rows import rows
from sweeps.search._base import Known, Outcome
from sweeps.selection.chances import front_probabilities, seed_noise
from sweeps.space import Point

# Below the first bound a row counts as off the front, above the second as on it.
BOUNDS = (0.05, 0.95)
_FIRST_SEEDS = 2
# Fewer draws than for the table, as this is computed before every trial.
_DRAWS = 1_000
# How many rows and keys an error names.
_SHOWN = 3


@dataclass
class Row:
    """One configuration: the search's measurement and those of new seeds.

    Attributes:
        searched: objective values of the search's own trial; it was chosen by them, so they count
            only while there are no others.
        certain: gets its first seeds in any case (the searched front, the reference).
        asked: gets all its seeds, because the user asked for them.
        contender: can be on the front (not the dense reference).
        found: seed -> objective values, of the seeds that finished.
        handed: seeds handed out, finished or not.
        searched_seed: seed of the search's trial.
    """

    searched: Sequence[float]
    certain: bool
    contender: bool
    asked: bool = False
    found: dict[int, Sequence[float]] = field(default_factory=dict)
    handed: int = 0
    searched_seed: int = -1

    @property
    def values(self) -> Mapping[int, Sequence[float]]:
        """Return seed -> objective values: of new seeds, or the search's where there is none."""
        return self.found or {self.searched_seed: self.searched}


def open_rows(found: Sequence[Row], directions: Sequence[str], most: int) -> list[int]:
    """Return the rows that should get another seed, the next one first.

    Args:
        found: every row.
        directions: "max" or "min" per objective.
        most: maximum number of seeds of a row.
    """
    first = min(_FIRST_SEEDS, most)
    waiting = [
        i for i, row in enumerate(found) if (row.certain or row.asked) and row.handed < first
    ]
    if waiting:
        return sorted(waiting, key=lambda i: (found[i].handed, i))
    chances = probabilities(found, directions, draws=_DRAWS)
    if chances is None:
        return []
    low, high = BOUNDS
    undecided = [
        i
        for i, row in enumerate(found)
        if row.handed < most and (row.asked or low <= chances.get(i, 0.0) <= high)
    ]
    # The reference is no contender, but needs the same seeds, as differences to it are paired.
    asked = [i for i, row in enumerate(found) if row.asked]
    needed = max((found[i].handed for i in (*undecided, *asked)), default=0)
    undecided += [
        i for i, row in enumerate(found) if not row.contender and row.handed < min(needed + 1, most)
    ]
    return sorted(undecided, key=lambda i: (found[i].handed, -chances.get(i, 0.0), i))


def probabilities(
    found: Sequence[Row], directions: Sequence[str], *, draws: int
) -> dict[int, float] | None:
    """Return row -> probability to be on the compressed models' front; None without noise."""
    noise = seed_noise([row.found for row in found if row.found])
    if noise is None:
        return None
    index = [
        i
        for i, row in enumerate(found)
        if row.contender and np.isfinite([*row.values.values()]).all()
    ]
    if not index:
        return {}
    chances = front_probabilities([found[i].values for i in index], noise, directions, draws=draws)
    return dict(zip(index, map(float, chances), strict=True))


class RaceProposals:
    """Chooses among the fixed rows and seeds, and proposes no points of its own."""

    exhaustive = True

    def __init__(self, sweep: SweepConfig, source: Sequence[TrialRecord]) -> None:
        """Match rows with the searched trials.

        Args:
            sweep: the confirmation's, `search.points` x `space.training.seed`.
            source: records of the sweep that is confirmed.

        Raises:
            StorageError: a row is not among them.
        """
        self._objectives = sweep.settings.objectives
        self._rows: list[Row] = []
        self._places: dict[str, tuple[int, int]] = {}
        constraints = sweep.settings.constraints
        kept = {row.id: row for row in rows(source, self._objectives, constraints=constraints)}
        searched = {seedless(record.config): record for record in reversed(source)}
        asked = set(sweep.settings.confirm.also)
        by_key: dict[str, int] = {}
        trials = {i: sweep.trial(point) for i, point in sweep.first_trials().items()}
        unknown = [i for i, each in trials.items() if seedless(each.as_dict()) not in searched]
        if unknown:
            raise _no_rows(sweep, unknown, trials[unknown[0]], source)
        for trial_id, config in trials.items():
            key = seedless(config.as_dict())
            if key not in by_key:
                record = searched[key]
                row = kept[record.id]
                by_key[key] = len(self._rows)
                self._rows.append(
                    Row(
                        searched=[record.metric(name) for name in self._objectives],
                        certain=row.candidate or row.reference,
                        asked=record.id in asked,
                        contender=not row.reference and row.rank is not None,
                        searched_seed=record.config["training"]["seed"],
                    )
                )
            self._places[trial_id] = (by_key[key], config.training.seed)
        # A confirmation resumed with fewer seeds keeps the seeds that rows had before.
        self._most = max(Counter(place for place, _ in self._places.values()).values(), default=0)

    def choose(self, left: Sequence[str]) -> str | None:
        """Return which of the trials not handed out yet is next, None if nothing is undecided."""
        free = set(left)
        for row in self._rows:
            row.handed = 0
        waiting: dict[int, list[str]] = {}
        for trial_id, (place, _) in self._places.items():
            if trial_id in free:
                waiting.setdefault(place, []).append(trial_id)
            else:
                self._rows[place].handed += 1
        for place in open_rows(self._rows, list(self._objectives.values()), self._most):
            if place in waiting:
                return waiting[place][0]
        return None

    def propose(self, trial_id: str, point: Point | None = None) -> Point | None:
        return point

    def tell(self, trial_id: str, outcome: Outcome) -> None:
        if trial_id not in self._places:
            return
        values = [outcome.values.get(name, math.nan) for name in self._objectives]
        if outcome.status == "finished" and all(map(math.isfinite, values)):
            place, seed = self._places[trial_id]
            self._rows[place].found[seed] = values

    def discard(self, trial_id: str) -> None:
        del trial_id

    def know(self, known: Known) -> None:
        del known

    def unfinished(self) -> Mapping[str, Point]:
        return {}


def proposals(sweep: SweepConfig, study_file: Path) -> RaceProposals:
    """Return the race of a confirmation, told of the sweep that it confirms.

    Raises:
        StorageError: a row is not a finished trial of that sweep.
    """
    folder = SweepFolder(study_file.parent)
    source = SweepFolder(folder.storage / str(sweep.settings.confirm.sweep))
    return RaceProposals(sweep, [r for r in source.records() if r.status == "finished"])


def _no_rows(
    sweep: SweepConfig, unknown: Sequence[str], first: TrialConfig, source: Sequence[TrialRecord]
) -> StorageError:
    """Return the error that names rows that were not searched, and how one of them differs."""
    own = flat("", seedfree(first.as_dict()))
    others = [flat("", seedfree(record.config)) for record in source]
    apart = [[key for key in {**own, **each} if own.get(key) != each.get(key)] for each in others]
    nearest = min(zip(apart, others, strict=True), key=lambda each: len(each[0]), default=None)
    told = ""
    if nearest is not None:
        told = "; ".join(
            f"{key.removeprefix('.')} {nearest[1].get(key, 'not there')!r} there, "
            f"{own.get(key, 'not there')!r} here"
            for key in nearest[0][:_SHOWN]
        )
        told = f" (nearest to {unknown[0]}: {told})"
    name = sweep.settings.confirm.sweep
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    return StorageError(
        f"every row of a confirmation must be a finished trial of {name}, but these are none: "
        f"{', '.join(unknown[:_SHOWN])}{more}{told}. Either trials of {name} were removed, or this "
        f"version makes other configurations from its rows: continue with the version that "
        f"began it, or remove {name}{CONFIRM_SUFFIX} and confirm again"
    )
