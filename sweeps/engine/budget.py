"""Limits of a sweep: hours, accelerator hours, a front that no longer grows; the first ends it.

Time is stored in `usage.json` beside the records, so that a resumed sweep continues counting.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from rc_core.atomic import write_json
from rc_core.labels import count_of
from rc_core.record import TrialRecord
from sweeps.engine.live_front import LiveFront
from sweeps.json_files import read_json
from sweeps.settings import BudgetConfig, SweepSettings

# Seconds of used time that a killed driver may lose; each write waits for the disk.
SAVE_SECONDS = 5.0


class Usage:
    """How long a sweep ran, and how long its trials held GPUs."""

    def __init__(
        self, path: Path, *, gpu: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read what earlier drivers used.

        Args:
            path: `usage.json`, created if missing.
            gpu: GPUs that one trial holds.
            clock: returns seconds.

        Raises:
            StorageError: usage.json is damaged.
        """
        self._path = path
        self._gpu = gpu
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._saved: float | None = None
        self._running: dict[str, float] = {}
        before = read_json(
            path,
            lambda raw: (float(raw.get("hours", 0.0)), float(raw.get("accelerator_hours", 0.0))),
            what="how long the sweep ran",
            advice='write {"hours": H, "accelerator_hours": A} in it, or remove it: the budget '
            "then counts from 0",
        )
        self._hours, self._accelerator_hours = before or (0.0, 0.0)

    @property
    def hours(self) -> float:
        return self._hours + (self._clock() - self._started) / 3600

    @property
    def accelerator_hours(self) -> float:
        with self._lock:
            now = self._clock()
            running = sum(now - since for since in self._running.values())
            # In here too: a trial that ended in between would count twice.
            return self._accelerator_hours + self._gpu * running / 3600

    def started(self, trial_id: str) -> None:
        """Take in that a trial holds its resources from now on."""
        with self._lock:
            self._running.setdefault(trial_id, self._clock())

    def ended(self, trial_id: str) -> None:
        """Take in that a trial has released its resources, as it ended or paused."""
        with self._lock:
            since = self._running.pop(trial_id, None)
            if since is not None:
                self._accelerator_hours += self._gpu * (self._clock() - since) / 3600

    def save(self, *, every: float = 0.0) -> None:
        """Write usage.json, unless that was done less than `every` seconds ago."""
        now = self._clock()
        if self._saved is not None and now - self._saved < every:
            return
        self._saved = now
        values = {"hours": self.hours, "accelerator_hours": self.accelerator_hours}
        write_json(self._path, values)


class Budget:
    """The limits of one sweep."""

    def __init__(self, config: BudgetConfig, usage: Usage, front: LiveFront) -> None:
        """Store what is given.

        Args:
            config: the limits.
            usage: time used so far.
            front: with the window of `config.stall`, given every trial that ended.
        """
        self._config = config
        self._front = front
        self.usage = usage

    def reached(self) -> str | None:
        """Return which limit has been reached, in words; None if none."""
        config = self._config
        if config.hours is not None and self.usage.hours >= config.hours:
            return f"budget.hours ({config.hours:g} h)"
        limit = config.accelerator_hours
        if limit is not None and self.usage.accelerator_hours >= limit:
            return f"budget.accelerator_hours ({limit:g} h of GPU)"
        if config.stall is not None:
            gain = self._front.gain()
            if gain is not None and gain < config.stall.gain:
                return (
                    f"budget.stall (the last {count_of(config.stall.trials, 'trial')} added "
                    f"{100 * gain:.2g} % to the hypervolume, less than {100 * config.stall.gain:g} "
                    "%)"
                )
        return None


def front_of(settings: SweepSettings) -> LiveFront:
    """Return an empty front with the window of `budget.stall`."""
    stall = settings.budget.stall
    return LiveFront(settings.objectives, settings.constraints, window=stall.trials if stall else 0)


def in_order(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return those that have ended: the dense reference, then the others as they ended."""
    ended = [record for record in records if record.status != "running"]
    return sorted(ended, key=lambda record: (not record.reference, record.finished or 0.0))
