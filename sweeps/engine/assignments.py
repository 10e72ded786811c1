"""Which trial runs next, and what the search is told: the driver's bookkeeping, without Ray.

Order: the dense reference (t0000, made by prepare), unfinished trials of an earlier attempt, each
compression with vanilla, the YAML's points, then whatever the search proposes. Files are the truth:
a trial counts as finished when its record says so.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from rc_core.config import TrialConfig, current_fingerprint
from rc_core.errors import StaleAttemptError, StorageError
from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.engine.budget import SAVE_SECONDS, Budget, Usage, front_of, in_order
from sweeps.engine.left_open import find_unfinished, restore_rungs
from sweeps.engine.rungs import RungRule
from sweeps.folder import REFERENCE_ID, SweepFolder
from sweeps.search._base import Proposals, outcome_of
from sweeps.search._checked import check_point

# If a sampler keeps proposing tried points, random points are tried before the space counts as
# exhausted.
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
        rule: RungRule | None = None,
        usage: Usage | None = None,
        on_record: Callable[[TrialRecord], None] = lambda record: None,
    ) -> None:
        """Store what is given.

        Args:
            sweep: the configuration.
            folder: where records are.
            proposals: the search.
            attempt: this driver's number, for records it seals itself.
            rule: the scheduler's, told of the rungs in the records; None if nothing stops early.
            usage: the sweep's, if this driver has started counting already.
            on_record: called once for every trial that ends.
        """
        self._sweep = sweep
        self._folder = folder
        self._proposals = proposals
        self._attempt = attempt
        self._on_record = on_record
        self._lock = threading.RLock()
        settings = sweep.settings
        self.front = front_of(settings)
        self.usage = usage or Usage(folder.usage, gpu=settings.resources.gpu)
        self._budget = Budget(settings.budget, self.usage, self.front)
        self._rule = rule
        self._ending = ""
        self._rng = Random(sweep.settings.search.seed)
        self.records: dict[str, TrialRecord] = {r.id: r for r in folder.records()}
        self._fingerprints = {current_fingerprint(r.config) for r in self.records.values()}
        self._closed = {i for i, r in self.records.items() if r.status != "running"}
        self._first = sweep.first_trials()
        self._handed: set[str] = set(self._closed) | {REFERENCE_ID}
        self._out: dict[str, TrialConfig] = {}
        # Ended trials whose records did not arrive -> arguments of `close`.
        self.late: dict[str, tuple[str | None, bool]] = {}
        unfinished = find_unfinished(
            sweep, proposals, self.records, self._fingerprints, self._first.keys()
        )
        self._parked = {} if rule is None else restore_rungs(rule, self.records, unfinished)
        self._again = [(i, c) for i, c in unfinished.items() if i not in self._parked]
        known = {*self.records, *unfinished}
        self._next = 1 + max([len(self._first), *(int(i[1:]) for i in known if i[1:].isdigit())])
        for record in in_order(self.records.values()):
            self._tell(record)
            # A kill right after the record was written leaves a checkpoint, three times a model.
            folder.trial(record.id).forget_checkpoint()

    @property
    def total(self) -> int:
        """Return how many trials the sweep will have (the reference and first points included)."""
        return max(self._sweep.settings.search.trials, len(self.records))

    def next(self) -> Assignment | None:
        """Return the next trial, or None when there is none left to start."""
        with self._lock:
            if self._over():
                return None
            promoted = self._rule.next_promotion() if self._rule is not None else None
            if self._rule is not None and promoted in self._parked:
                self._rule.resumed(promoted)
                return self._hand_out(promoted, self._parked.pop(promoted))
            if self._again:
                trial_id, config = self._again.pop(0)
                return self._hand_out(trial_id, config)
            choose = self._proposals.choose
            if choose is not None:
                chosen = choose(self._left())
                if chosen is None:
                    self._ending = "the search, which finds no trial left worth running"
                    return None
                return self._hand_out(chosen, self._sweep.trial(self._first[chosen]))
            for trial_id, point in self._first.items():
                if trial_id not in self._handed:
                    self._handed.add(trial_id)
                    config = self._sweep.trial(point)
                    if config.fingerprint() in self._fingerprints:
                        continue
                    # Perhaps in the study already: handed out by an earlier driver, but not begun.
                    known = trial_id in self._proposals.unfinished()
                    if self._sweep.settings.design == "search" and not known:
                        self._proposals.propose(trial_id, point)
                    return self._hand_out(trial_id, config)
            return self._propose()

    def reopened(self) -> bool:
        """Tell whether the last results have made another trial worth running."""
        with self._lock:
            if self._over():
                return False
            choose = self._proposals.choose
            promoted = self._rule.next_promotion() if self._rule is not None else None
            return promoted in self._parked or (
                choose is not None and choose(self._left()) is not None
            )

    def over(self) -> bool:
        """Tell whether a limit of the sweep is reached, so that nothing starts or continues."""
        with self._lock:
            return self._over()

    def park(self, trial_id: str) -> None:
        """Take in that Ray dropped a paused trial; it stays open, as it may be promoted."""
        with self._lock:
            self._parked[trial_id] = self._out.pop(trial_id)

    def stop_left(self) -> list[TrialRecord]:
        """Seal the paused trials and, once a limit is reached, all that is open; return records."""
        with self._lock:
            left, self._parked = list(self._parked), {}
            if self._over():
                # No later driver could continue what an earlier one has left.
                left += [i for i, record in self.records.items() if record.status == "running"]
        return [r for i in dict.fromkeys(left) if (r := self.close(i))]

    def close_late(self) -> list[TrialRecord]:
        """Close trials whose records had not arrived when they ended; return those that now have.

        The others stay open for a later driver.
        """
        late, self.late = self.late, {}
        closed = (self.close(i, error=error, ended=ended) for i, (error, ended) in late.items())
        return list(filter(None, closed))

    @property
    def ending(self) -> str:
        """Return in words why no more trials are handed out."""
        return self._ending or "the last of its trials"

    def close(
        self, trial_id: str, *, error: str | None = None, ended: bool = False
    ) -> TrialRecord | None:
        """Take in that a trial ended; seal its record if its worker could not. Idempotent.

        Parked trials, and those whose records do not arrive, stay open.

        Args:
            trial_id: the trial's.
            error: why it ended, if not by itself.
            ended: its worker has written how it ended.
        """
        with self._lock:
            if trial_id in self._closed:
                return self.records[trial_id]
            if trial_id in self._parked or trial_id in self.late:
                return None
            try:
                record = self._folder.newest(trial_id, ended=ended)
            except StorageError as problem:
                # Do not overwrite a record that its worker may have written.
                _logger.warning("trial %s stays open: %s", trial_id, problem)
                self.late[trial_id] = (error, ended)
                return None
            if record is None and error and trial_id in self._out:
                record = self._unwritten(trial_id)
            if record is None:
                return None
            self._out.pop(trial_id, None)
            if record.status == "running":
                # A trial reopened by retry.py that has not begun keeps its earlier error.
                error = error or record.error
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
            # The checkpoint of a stopped trial takes three times a model; the record is enough.
            self._folder.trial(trial_id).forget_checkpoint()
            self.usage.save(every=SAVE_SECONDS)
        self._on_record(record)
        return record

    def add(self, record: TrialRecord) -> None:
        """Take in a record made outside the search (the reference)."""
        with self._lock:
            self.records[record.id] = record
            self._fingerprints.add(record.fingerprint)
            self._closed.add(record.id)
            self._handed.add(record.id)
            self.front.add(record)
        self._on_record(record)

    def _propose(self) -> Assignment | None:
        for trial in itertools.count():
            # Count trials, not ids: a first point that repeats another has an id, but no trial.
            begun = {REFERENCE_ID, *self.records, *self._out, *self._parked}
            if len(begun) >= self._sweep.settings.search.trials or not len(self._sweep.space):
                self._ending = f"search.trials ({self._sweep.settings.search.trials})"
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
                self._ending = "the search, which has proposed every point"
                return None
            check_point(self._sweep.settings.search.name, point, self._sweep.space)
            config = self._sweep.trial(point)
            if config.fingerprint() in self._fingerprints:
                self._proposals.discard(trial_id)
                continue
            self._next += 1
            return self._hand_out(trial_id, config)
        self._ending = "the search, which proposes only points that were tried"
        _logger.warning("the search only proposes points that were tried; the sweep ends here")
        return None

    def _left(self) -> list[str]:
        return [trial_id for trial_id in self._first if trial_id not in self._handed]

    def _hand_out(self, trial_id: str, config: TrialConfig) -> Assignment:
        self._handed.add(trial_id)
        self._fingerprints.add(config.fingerprint())
        self._out[trial_id] = config
        return Assignment(trial_id, config)

    def _unwritten(self, trial_id: str) -> TrialRecord:
        """Return the record of a trial whose worker was lost before it could write one."""
        config = self._out[trial_id]
        return TrialRecord(
            id=trial_id,
            status="running",
            name=config.label(),
            config=config.as_dict(),
            fingerprint=config.fingerprint(),
            started=time.time(),
        )

    def _over(self) -> bool:
        if reached := self._budget.reached():
            self._ending = reached
        return bool(reached)

    def _tell(self, record: TrialRecord) -> None:
        self.front.add(record)
        reference = self.records.get(REFERENCE_ID)
        known = reference.metrics if reference is not None else {}
        self._proposals.tell(record.id, outcome_of(record, self._sweep.settings, known))
