"""Output of a running sweep: a live view on a terminal, and a line for each event."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.live import Live

from rc_core.config import decode
from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.ending import is_race
from sweeps.rows import Row, rows
from sweeps.shown_values import clock, duration
from sweeps.views.live import RunningTrial, Snapshot, view
from sweeps.views.watch import ended_line, mean_seconds, shown_rung

# The least time between requests to the cluster, which go to another process.
_CLUSTER_SECONDS = 5.0
# Pause after computing all rows, in multiples of the time that took.
_PAUSE_PER_UPDATE = 20.0


class Followed(Protocol):
    """A sweep that is being run.

    Attributes:
        records: trial id -> record, of the trials so far.
        total: number of trials it will have, the reference included.
        ending: text that says why no more trials are handed out.
    """

    @property
    def records(self) -> Mapping[str, TrialRecord]: ...
    @property
    def total(self) -> int: ...
    @property
    def ending(self) -> str: ...


@dataclass
class _Running:
    started: float
    label: str
    progress: float = 0.0
    rung: tuple[float, float] | None = None


class _Console(Console):
    """A console that goes quiet when its reader exits (head, less), instead of ending the sweep."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Progress:
    """Shows a sweep's state."""

    def __init__(self, console: Console | None = None) -> None:
        """Prepare to write to `console`, by default standard output."""
        self._console = console or _Console(soft_wrap=True, highlight=False)
        self._live: Live | None = None
        self._running: dict[str, _Running] = {}
        self._assignments: Followed | None = None
        self._sweep: SweepConfig | None = None
        self._name = "sweep"
        self._started = time.monotonic()
        self._states: dict[str, int] = {}
        self._next_rows = 0.0
        self._cluster: Callable[[], str] | None = None
        self._use: tuple[float, str | None] = (-_CLUSTER_SECONDS, None)
        # Rows are computed when a trial ends, not at every refresh.
        self._rows: list[Row] = []

    def say(self, line: str) -> None:
        """Print one line, above the live view if there is one."""
        clock = time.strftime("%H:%M:%S")
        self._console.print(f"{clock} {line}", markup=False)

    def start(
        self,
        assignments: Followed,
        sweep: SweepConfig,
        *,
        name: str = "sweep",
        cluster: Callable[[], str] | None = None,
    ) -> None:
        """Begin showing trials.

        Args:
            assignments: the sweep's trials.
            sweep: its configuration.
            name: of the sweep.
            cluster: returns how much of the machines is in use; called every few seconds.
        """
        self._assignments, self._sweep = assignments, sweep
        self._name, self._cluster = name, cluster
        self._started = time.monotonic()
        self._states = {}
        for record in list(assignments.records.values()):
            if record.status != "running":
                self._states[record.status] = self._states.get(record.status, 0) + 1
        self._update_rows()
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._view,
                console=self._console,
                refresh_per_second=2,
                transient=True,
            )
            self._live.start()

    def finished(self, seconds: float, preparation: float) -> None:
        """Print how long the sweep took, and how much of that came before the first trial.

        Args:
            seconds: in total.
            preparation: seconds before the first trial.
        """
        states = ", ".join(f"{count} {state}" for state, count in sorted(self._states.items()))
        unit = "h" if seconds >= 3600 else "min"
        took = f"{clock(seconds)} {unit}, {duration(preparation)} of it preparation"
        self.say(f"done in {took}: {states}")
        if self._assignments is not None:
            self.say(f"ended by {self._assignments.ending}")

    def stop(self) -> None:
        """Stop the live view."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def trial_started(self, trial_id: str, config: Mapping[str, Any]) -> None:
        self._running[trial_id] = _Running(time.monotonic(), decode(config).label())

    def trial_advanced(self, trial_id: str, result: Mapping[str, Any]) -> None:
        running = self._running.get(trial_id)
        if running is not None:
            running.progress = float(result.get("progress", 0.0))
            objectives = self._sweep.settings.objectives if self._sweep is not None else ()
            running.rung = shown_rung(result, objectives) or running.rung

    def trial_paused(self, trial_id: str) -> None:
        self._running.pop(trial_id, None)

    def trial_ended(self, record: TrialRecord) -> None:
        self._running.pop(record.id, None)
        self._states[record.status] = self._states.get(record.status, 0) + 1
        self._update_rows()
        total = self._assignments.total if self._assignments is not None else 0
        objectives = self._sweep.settings.objectives if self._sweep is not None else ()
        done, race = sum(self._states.values()), self._is_race
        self.say(ended_line(record, objectives, done, total, at_most=race))

    def snapshot(self) -> Snapshot:
        """Return the sweep as it is now; called from the live view's thread."""
        assert self._assignments is not None and self._sweep is not None
        settings = self._sweep.settings
        # Copies, each made in one step, as the driver's thread may change the originals.
        states, running = self._states.copy(), self._running.copy()
        counts = {s: n for s, n in states.items() if s != "running"}
        if running:
            counts["running"] = len(running)
        now = time.monotonic()
        resources = settings.resources
        return Snapshot(
            sweep=self._name,
            total=self._assignments.total,
            at_most=self._is_race,
            counts=counts,
            running=[
                RunningTrial(i, each.label, each.progress, now - each.started, each.rung)
                for i, each in sorted(running.items())
            ],
            rows=self._rows,
            objectives=settings.objectives,
            seconds=now - self._started,
            trial_seconds=mean_seconds(list(self._assignments.records.values())),
            unit=(resources.gpu, "GPU") if resources.gpu else (resources.cpu, "CPU"),
            cluster=self._cluster_use(now),
            note="Ctrl-C stops the sweep; rc-sweep resume continues it",
        )

    @property
    def _is_race(self) -> bool:
        return self._sweep is not None and is_race(self._sweep.settings.search.name)

    def _update_rows(self) -> None:
        started = time.monotonic()
        if self._assignments is None or self._sweep is None or started < self._next_rows:
            return
        settings = self._sweep.settings
        records = list(self._assignments.records.values())
        self._rows = rows(records, settings.objectives, constraints=settings.constraints)
        # This takes longer the more trials there are, so it is not done after each of thousands.
        now = time.monotonic()
        self._next_rows = now + _PAUSE_PER_UPDATE * (now - started)

    def _cluster_use(self, now: float) -> str | None:
        asked, use = self._use
        if self._cluster is not None and now - asked >= _CLUSTER_SECONDS:
            # The view must not break if the cluster does not answer.
            with suppress(Exception):
                use = self._cluster()
            self._use = (now, use)
        return use

    def _view(self) -> RenderableType:
        return view(self.snapshot(), self._console.width, self._console.height)
