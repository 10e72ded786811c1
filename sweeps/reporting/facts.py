"""All that a report shows, read once from a sweep's files. No torch, Ray or MLflow here."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rc_core.errors import StorageError
from rc_core.record import TrialRecord
from sweeps.commands import command
from sweeps.ending import ending_of, has_ended
from sweeps.folder import SweepFolder
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.pareto import hypervolume
from sweeps.rows import Row, front_json, reference_lines, rows
from sweeps.selection.confirmed import Confirmed, ConfirmedRow, confirmed
from sweeps.selection.mean_rows import mean_rows, with_ranks_of
from sweeps.selection.options import pick
from sweeps.selection.stamp import Stamp, read_test, stamp
from sweeps.stored_sweep import StoredSweep

# Sections of a trial's configuration, in the order in which they are shown.
SECTIONS = ("compression", "loss", "difficulty", "training")


@dataclass(frozen=True)
class Measured:
    """One configuration's accuracies on the dev roles.

    Attributes:
        inside: share right in distribution.
        outside: share right out of distribution.
        half: half the 95 % interval of `outside`, NaN if unknown.
        seeds: number of new seeds averaged; 1: the search's own value.
    """

    inside: float
    outside: float
    half: float
    seeds: int


@dataclass(frozen=True)
class Facts:
    """One sweep at one moment.

    Attributes:
        name: of the sweep.
        folder: of the sweep.
        config: resolved, plain values.
        objectives: metric -> direction.
        constraints: as in the YAML.
        records: of all trials, ordered by id.
        rows: one per record, in the same order; in a fixed design with several seeds, each has
            the standing of its configuration.
        means: for such a design, one row of means per configuration; empty for others (but see
            `over_seeds`).
        lines: role -> trivial baseline -> accuracy.
        hypervolume: of all `units` that are not excluded, from `worst`.
        worst: the point it is measured from, one value per objective.
        knee: id of the trial that `rc-sweep export --pick knee` takes, by means over new seeds if
            there are any; None if there is nothing to choose from.
        confirmation: what new seeds showed, or a fixed design's own; None without either.
        tested: test.json, None while the test roles are sealed.
        seal: state of the seal, None while sealed.
        began: when the sweep was launched, seconds since 1970; NaN if its events do not say.
        running: whether a driver runs the sweep now.
        ended: whether nothing is left to resume (`sweeps.ending`).
        attempts: how often it was started.
        ending: what ended it, None if its last driver did not finish.
        made: when this was read, seconds since 1970.
    """

    name: str
    folder: SweepFolder
    config: Mapping[str, Any]
    objectives: Mapping[str, str]
    constraints: Sequence[str]
    records: Sequence[TrialRecord]
    rows: Sequence[Row]
    means: Sequence[Row]
    lines: Mapping[str, Mapping[str, float]]
    hypervolume: float
    worst: Sequence[float]
    knee: str | None
    confirmation: Confirmed | None
    tested: Mapping[str, Any] | None
    seal: Stamp | None
    began: float
    running: bool
    ended: bool
    attempts: int
    ending: str | None
    made: float

    @classmethod
    def read(cls, sweep: StoredSweep, *, ended: bool = False) -> Facts:
        """Read a sweep as it is now.

        Args:
            sweep: its folder.
            ended: its driver, which still holds the lock, is about to close it.

        Raises:
            StorageError: a file cannot be read.
        """
        sweep = sweep.still()
        records = sweep.records
        found = confirmed(sweep)
        every = rows(records, sweep.objectives, constraints=sweep.constraints)
        means: list[Row] = []
        if found is not None and found.own:
            means = mean_rows(found, every, sweep.objectives)
            every = with_ranks_of(every, means, found)
        document = front_json(
            records,
            sweep.objectives,
            sweep=sweep.name,
            constraints=sweep.constraints,
            means=means,
        )
        return cls(
            name=sweep.name,
            folder=sweep.folder,
            config=sweep.config,
            objectives=dict(sweep.objectives),
            constraints=sweep.constraints,
            records=records,
            rows=every,
            means=means,
            lines=reference_lines(records),
            hypervolume=document["hypervolume"],
            worst=document["hypervolume_reference"],
            knee=_knee(sweep),
            confirmation=found if found is not None and found.rows else None,
            tested=read_test(sweep),
            seal=stamp(sweep, found),
            began=_began(sweep.folder.outbox),
            running=not ended and sweep.running,
            ended=has_ended(sweep.folder, sweep.config, records, closing=ended),
            attempts=sweep.folder.attempt(),
            ending=ending_of(sweep.path),
            made=time.time(),
        )

    @property
    def units(self) -> Sequence[Row]:
        """The rows to compare: means per configuration in a design over seeds, else trials."""
        return self.means or self.rows

    @property
    def own_seeds(self) -> bool:
        """Whether the seeds are a fixed design's own."""
        return self.confirmation is not None and self.confirmation.own

    def over_seeds(self) -> Facts:
        """Return a copy whose `units` are means over new seeds, if the sweep was confirmed.

        Configurations without new seeds are then left out: they were chosen by their one seed.
        """
        if self.confirmation is None or self.confirmation.own:
            return self
        return replace(self, means=mean_rows(self.confirmation, self.rows, self.objectives))

    @property
    def seeds_are(self) -> str:
        """How texts refer to the seeds behind means."""
        return self.confirmation.seeds_are if self.confirmation is not None else "new seeds"

    @cached_property
    def reference(self) -> Row | None:
        """The dense reference, once it is finished."""
        return next((row for row in self.units if row.reference and row.status == "finished"), None)

    @cached_property
    def finished(self) -> list[Row]:
        return [row for row in self.rows if row.status == "finished"]

    @cached_property
    def compared(self) -> list[Row]:
        """The finished rows of `units`."""
        return [row for row in self.units if row.status == "finished"]

    @cached_property
    def candidates(self) -> list[Row]:
        """The front of compressed models, best on the first objective first."""
        first, direction = next(iter(self.objectives.items()))
        found = [row for row in self.units if row.candidate]
        return sorted(found, key=lambda r: r.values[first], reverse=direction == "max")

    @cached_property
    def best_outside(self) -> Row | None:
        """The compressed model with the best OOD accuracy, None if there is none.

        Among the front and the configurations with new seeds, which may put them on the front.
        """
        own = {row.id: (row.excluded, row.seeds) for row in self.confirmed_rows}
        found = [
            row
            for row in self.units
            if not row.reference
            and own.get(row.id, (None, 0))[0] is None
            and (row.candidate or own.get(row.id, (None, 0))[1] > 1)
        ]
        measured = {row.id: self.measured(row) for row in found}
        return max(
            found, key=lambda r: (measured[r.id].outside, measured[r.id].inside), default=None
        )

    @cached_property
    def chosen(self) -> Row | None:
        """The model to take, None if there is nothing to choose from."""
        return next((row for row in self.units if row.id == self.knee), None)

    @cached_property
    def left_out(self) -> list[tuple[Row, str]]:
        """The ended trials that are excluded, and why: by means over seeds, where known."""
        over = {row.id: row.excluded for row in self.confirmed_rows}
        pairs = [(row, over.get(row.id, row.excluded)) for row in self.rows]
        return [(row, why) for row, why in pairs if why and row.status != "running"]

    def command(self, verb: str, *rest: str) -> str:
        """Return a command on this sweep, ready to be copied."""
        return command(self.folder, verb, *rest)

    def export_command(self, trial_id: str) -> str:
        """Return the command that exports a trial."""
        return self.command("export", "--pick", trial_id, "--out", f"{self.name}-{trial_id}")

    @property
    def confirmed_rows(self) -> Sequence[ConfirmedRow]:
        return self.confirmation.rows if self.confirmation is not None else ()

    @cached_property
    def num_seeds(self) -> int:
        """Largest number of seeds of a configuration that played no part in the choice."""
        return max((row.seeds for row in self.confirmed_rows), default=0)

    def measured(self, row: Row) -> Measured:
        """Return a row's accuracies: means over new seeds where it has two, else the search's."""
        own = next((each for each in self.confirmed_rows if each.id == row.id), None)
        if own is None or own.seeds < 2:
            return Measured(row.id_accuracy, row.ood_accuracy, math.nan, 1)
        inside, outside = own.estimates[ID_KEY], own.estimates[OOD_KEY]
        return Measured(inside.mean, outside.mean, outside.half_width, own.seeds)

    def metric(self, key: str) -> dict[str, float]:
        """Return id -> metric for the rows of `compared`; NaN if it was not measured."""
        found = {r.id: r.metric(key) for r in self.records if r.status == "finished"}
        if self.own_seeds:
            for row in self.confirmed_rows:
                values = [trial.metric(key) for trial in row.trials.values()]
                found[row.id] = sum(values) / len(values)
        return found

    def record(self, trial_id: str) -> TrialRecord:
        """Return a trial's record. Raises KeyError."""
        return self._by_id[trial_id]

    @cached_property
    def _by_id(self) -> dict[str, TrialRecord]:
        return {record.id: record for record in self.records}

    def volume(self, found: Sequence[Row]) -> float:
        """Return the hypervolume of some rows, from the sweep's own worst point."""
        points = [[row.values[name] for name in self.objectives] for row in found]
        directions = list(self.objectives.values())
        return hypervolume(points, self.worst, directions) if points else 0.0


def _knee(sweep: StoredSweep) -> str | None:
    try:
        return pick(sweep, "knee")
    except StorageError:
        return None


def _began(outbox: Path) -> float:
    """Return the time of a sweep's first event."""
    try:
        with outbox.open(encoding="utf-8") as stream:
            return float(json.loads(stream.readline())["time"])
    except (OSError, ValueError, KeyError):
        return math.nan


def dev_samples(record: TrialRecord, role: str) -> int:
    """Return how many samples a role's splits hold, 0 if the record does not say."""
    return sum(
        int(value.get("samples", 0))
        for key, value in record.data.items()
        if key.startswith(f"{role}.") and isinstance(value, Mapping)
    )


def most_common_reason(failed: Sequence[TrialRecord]) -> str:
    """Return the most common reason of failed trials (numbers aside), and how many share it."""
    kinds: dict[str, list[str]] = {}
    for record in failed:
        first = (record.error or "no reason was recorded").strip().splitlines()[0]
        kinds.setdefault(re.sub(r"\d+", "#", first), []).append(first)
    shared = max(kinds.values(), key=len)
    text = shared[0] if len(shared[0]) <= 160 else shared[0][:157] + "..."
    alike = "all alike, such as" if len(shared) == len(failed) else f"{len(shared)} of them such as"
    return text if len(failed) == 1 else f"{alike}: {text}"


def varied(records: Sequence[TrialRecord]) -> dict[str, list[Any]]:
    """Return dotted key -> value per record, of the settings that differ between trials.

    None: the trial has no such setting (its compression or loss does not know it). Lists and
    mappings are given as text.
    """
    flat = [_flat(record.config) for record in records]
    keys = list(dict.fromkeys(key for values in flat for key in values))
    order = {section: place for place, section in enumerate(SECTIONS)}
    keys.sort(key=lambda key: (not key.endswith(".name"), order[key.split(".")[0]]))
    columns = {key: [values.get(key) for values in flat] for key in keys}
    return {
        key: column
        for key, column in columns.items()
        if len({value for value in column if value is not None}) > 1
    }


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{section}.{key}": value
        if value is None or isinstance(value, str | int | float | bool)
        else json.dumps(value)
        for section in SECTIONS
        for key, value in config.get(section, {}).items()
    }


def last_rung(record: TrialRecord) -> Mapping[str, float]:
    """Return the last quick evaluation under the plain metric names, empty without any."""
    if not record.rungs:
        return {}
    return {k.removeprefix("rung/"): v for k, v in record.rungs[-1].metrics.items()}
