"""Which trial runs next, and what the search is told: the driver's bookkeeping, free of Ray.

Order: the dense reference (t0000, made by prepare), unfinished trials of an earlier attempt, each
compression with vanilla, the YAML's points, then whatever the search proposes. Files are the truth:
a trial counts as finished when its record says so.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from rc_core.config import TrialConfig, decode
from rc_core.errors import ConfigError, StaleAttemptError
from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.constraints import parse as parse_constraint
from sweeps.folder import SweepFolder
from sweeps.search._base import Outcome, Proposals
from sweeps.space import Point

REFERENCE_ID = "t0000"
# A sampler may settle on points that were tried: then random points are tried, before the space
# counts as exhausted.
_MAX_DUPLICATES = 10
_MAX_RANDOM = 100
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assignment:
    """One trial handed out: its id and its resolved configuration."""

    trial_id: str
    config: TrialConfig


class Assignments:
    """Hands out trials, and closes them when they end."""

    def __init__(
        self,
        sweep: SweepConfig,
        folder: SweepFolder,
        proposals: Proposals,
        attempt: int,
        *,
        on_record: Callable[[TrialRecord], None] = lambda record: None,
    ) -> None:
        """Store what is given.

        Args:
            sweep: the configuration.
            folder: where records are.
            proposals: the search.
            attempt: this driver's number, for records it seals itself.
            on_record: called once for every trial that ends.
        """
        self._sweep = sweep
        self._folder = folder
        self._proposals = proposals
        self._attempt = attempt
        self._on_record = on_record
        self._lock = threading.RLock()
        self._started = time.monotonic()
        self._rng = Random(sweep.settings.search.seed)
        self._constraints = [parse_constraint(text) for text in sweep.settings.constraints]
        self.records: dict[str, TrialRecord] = {r.id: r for r in folder.records()}
        self._fingerprints = {r.fingerprint for r in self.records.values()}
        self._closed = {i for i, r in self.records.items() if r.status != "running"}
        self._first = sweep.first_trials()
        self._handed: set[str] = set(self._closed) | {REFERENCE_ID}
        self._again = self._find_unfinished()
        known = [*self.records, *(trial_id for trial_id, _ in self._again)]
        numbers = [int(i[1:]) for i in known if i[1:].isdigit()]
        self._next = max([len(self._first), *numbers]) + 1
        for record in list(self.records.values()):
            if record.id in self._closed:
                self._tell(record)

    @property
    def total(self) -> int:
        """Return how many trials the sweep will have (the reference and first points included)."""
        return max(self._sweep.settings.search.trials, 1 + len(self._first), len(self.records))

    def next(self) -> Assignment | None:
        """Return the next trial, or None when there is none left to start."""
        with self._lock:
            hours = self._sweep.settings.budget.hours
            if hours is not None and time.monotonic() - self._started > hours * 3600:
                return None
            if self._again:
                trial_id, config = self._again.pop(0)
                return self._hand_out(trial_id, config)
            choose = self._proposals.choose
            if choose is not None:
                chosen = choose(self._left())
                return None if chosen is None else self._hand_out_first(chosen)
            for trial_id, point in self._first.items():
                if trial_id not in self._handed:
                    self._handed.add(trial_id)
                    config = self._sweep.trial(point)
                    if config.fingerprint() in self._fingerprints:
                        continue
                    if self._sweep.settings.design == "search":
                        self._proposals.propose(trial_id, point)
                    return self._hand_out(trial_id, config)
            return self._propose()

    def reopened(self) -> bool:
        """Tell whether results that came in last have made a trial worth running after all."""
        with self._lock:
            choose = self._proposals.choose
            hours = self._sweep.settings.budget.hours
            over = hours is not None and time.monotonic() - self._started > hours * 3600
            return choose is not None and not over and choose(self._left()) is not None

    def close(self, trial_id: str, *, error: str | None = None) -> TrialRecord | None:
        """Take in that a trial ended; seal its record if its worker could not. Idempotent.

        Args:
            trial_id: ours.
            error: why it ended, where it did not end by itself.
        """
        with self._lock:
            if trial_id in self._closed:
                return self.records[trial_id]
            record = self._folder.trial(trial_id).read()
            if record is None:
                return None
            if record.status == "running":
                sealed = record.model_copy(update={"attempt": self._attempt}).sealed(
                    "failed" if error else "stopped", error=error
                )
                try:
                    self._folder.trial(trial_id).commit(sealed)
                except StaleAttemptError:
                    return None
                record = sealed
            self._closed.add(trial_id)
            self.records[trial_id] = record
            self._tell(record)
        self._on_record(record)
        return record

    def add(self, record: TrialRecord) -> None:
        """Take in a record made outside the search (the reference)."""
        with self._lock:
            self.records[record.id] = record
            self._fingerprints.add(record.fingerprint)
            self._closed.add(record.id)
            self._handed.add(record.id)
        self._on_record(record)

    def _propose(self) -> Assignment | None:
        for trial in itertools.count():
            if self._next >= self._sweep.settings.search.trials or not len(self._sweep.space):
                return None
            trial_id = f"t{self._next:04d}"
            drawn = None
            if not self._proposals.exhaustive and trial >= _MAX_DUPLICATES:
                if trial >= _MAX_DUPLICATES + _MAX_RANDOM:
                    break
                drawn = self._sweep.space.draw(self._rng)
                if self._sweep.trial(drawn).fingerprint() in self._fingerprints:
                    continue
            point = self._proposals.propose(trial_id, drawn)
            if point is None:
                return None
            config = self._sweep.trial(point)
            if config.fingerprint() in self._fingerprints:
                self._proposals.discard(trial_id)
                continue
            self._next += 1
            return self._hand_out(trial_id, config)
        _logger.warning("the search proposes only points that were tried; the sweep ends here")
        return None

    def _left(self) -> list[str]:
        return [trial_id for trial_id in self._first if trial_id not in self._handed]

    def _hand_out_first(self, trial_id: str) -> Assignment:
        return self._hand_out(trial_id, self._sweep.trial(self._first[trial_id]))

    def _hand_out(self, trial_id: str, config: TrialConfig) -> Assignment:
        self._handed.add(trial_id)
        self._fingerprints.add(config.fingerprint())
        return Assignment(trial_id, config)

    def _find_unfinished(self) -> list[tuple[str, TrialConfig]]:
        """Return trials an earlier attempt started or proposed and did not finish, oldest first."""
        found: dict[str, TrialConfig] = {}
        for record in self.records.values():
            if record.status == "running" and record.id != REFERENCE_ID:
                try:
                    found[record.id] = decode(record.config)
                except ConfigError as error:
                    _logger.warning("trial %s cannot be resumed: %s", record.id, error)
        for trial_id, point in self._proposals.unfinished().items():
            if trial_id not in self.records and trial_id not in self._first:
                found[trial_id] = self._sweep.trial(point)
        return sorted(found.items())

    def _tell(self, record: TrialRecord) -> None:
        reference = self.records.get(REFERENCE_ID)
        known = dict(reference.metrics) if reference is not None else {}
        violations = {}
        if record.status == "finished":
            for constraint in self._constraints:
                value = constraint.violation(record.metrics, known)
                violations[constraint.text] = math.inf if math.isnan(value) else value
        rungs = record.rungs[-1].metrics if record.rungs else {}
        values = {name: record.metric(name) for name in self._sweep.settings.objectives}
        self._proposals.tell(record.id, Outcome(record.status, values, violations, rungs))


def point_of(assignment: Assignment, sweep: SweepConfig) -> Point:
    """Return the searched values of an assignment, for people."""
    values = assignment.config.as_dict()
    point: Point = {}
    for parameter in sweep.space.parameters:
        section, _, field = parameter.key.partition(".")
        if field in values[section]:
            point[parameter.key] = values[section][field]
    return point
