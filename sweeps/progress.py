"""What a running sweep shows: a live view on a terminal, one line per event anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rc_core.record import TrialRecord
from sweeps.assignments import REFERENCE_ID, Assignments
from sweeps.config import SweepConfig
from sweeps.report import Row, rows

_FRONT_SHOWN = 5


@dataclass
class _Running:
    started: float
    label: str
    progress: float = 0.0
    note: str = ""


class Progress:
    """Shows a sweep's state; safe to call when nothing is shown."""

    def __init__(self, console: Console | None = None) -> None:
        """Store what is given.

        Args:
            console: where to write; by default standard output.
        """
        self._console = console or Console(soft_wrap=True, highlight=False)
        self._live: Live | None = None
        self._running: dict[str, _Running] = {}
        self._assignments: Assignments | None = None
        self._sweep: SweepConfig | None = None
        self._started = time.monotonic()
        self._done_before = 0
        self._states: dict[str, int] = {}
        # Rows are computed when a trial ends, not at every refresh.
        self._front: list[Row] = []

    def say(self, line: str) -> None:
        """Print one line, above the live view where there is one."""
        clock = time.strftime("%H:%M:%S")
        self._console.print(f"{clock} {line}", markup=False)

    def start(self, assignments: Assignments, sweep: SweepConfig) -> None:
        """Begin showing trials."""
        self._assignments, self._sweep = assignments, sweep
        self._started = time.monotonic()
        self._done_before = self._num_done()
        self._states = {}
        for record in list(assignments.records.values()):
            if record.status != "running":
                self._states[record.status] = self._states.get(record.status, 0) + 1
        self._update_front()
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._view,
                console=self._console,
                refresh_per_second=2,
                transient=True,
            )
            self._live.start()

    def finished(self, seconds: float, preparation: float) -> None:
        """Say how long the whole took, and what of it came before the first trial."""
        counts: dict[str, int] = {}
        for record in list(self._assignments.records.values()) if self._assignments else ():
            counts[record.status] = counts.get(record.status, 0) + 1
        states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        self.say(
            f"done in {_duration(seconds)} min, {_duration(preparation)} of it preparation: "
            f"{states}"
        )
        if self._assignments is not None:
            self.say(f"ended by {self._assignments.ending}")

    def stop(self) -> None:
        """Stop the live view."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def trial_started(self, trial_id: str, config: Mapping[str, Any]) -> None:
        label = f"{config['compression']['name']} {config['loss']['name']}"
        self._running[trial_id] = _Running(time.monotonic(), label)

    def trial_advanced(self, trial_id: str, result: Mapping[str, Any]) -> None:
        running = self._running.get(trial_id)
        if running is not None:
            running.progress = float(result.get("progress", 0.0))
            accuracies = [result.get(f"rung/{role}/accuracy") for role in ("id_dev", "ood_dev")]
            if all(isinstance(value, float) for value in accuracies):
                running.note = " / ".join(f"{100 * float(value or 0):.0f}" for value in accuracies)

    def trial_paused(self, trial_id: str) -> None:
        self._running.pop(trial_id, None)

    def trial_ended(self, record: TrialRecord) -> None:
        self._running.pop(record.id, None)
        self._states[record.status] = self._states.get(record.status, 0) + 1
        self._update_front()
        if record.status == "finished" and self._sweep is not None:
            shown = ", ".join(
                f"{name} {_value(name, record.metric(name))}"
                for name in self._sweep.settings.objectives
            )
            text = f"{record.id} {record.name}: {shown}"
        else:
            why = f": {record.error}" if record.error else ""
            at = f" at {100 * record.rungs[-1].progress:.0f} %" if record.rungs else ""
            text = f"{record.id} {record.name}: {record.status}{at}{why}"
        seconds = record.seconds.get("total")
        took = f" ({seconds:.0f} s)" if seconds is not None else ""
        total = self._assignments.total if self._assignments is not None else 0
        self.say(f"[{self._num_done()}/{total}] {text}{took}")

    def _num_done(self) -> int:
        return self._assignments.num_ended if self._assignments is not None else 0

    def _update_front(self) -> None:
        if self._assignments is not None and self._sweep is not None:
            settings = self._sweep.settings
            # Rows of the front alone: it is kept up as trials end, not searched for in all.
            front = {record.id: record for record in self._assignments.front.records}
            reference = self._assignments.records.get(REFERENCE_ID)
            if reference is not None:
                front[reference.id] = reference
            found = rows(
                list(front.values()), settings.objectives, constraints=settings.constraints
            )
            self._front = [row for row in found if row.on_front or row.candidate]

    def _seconds_left(self) -> float | None:
        done = self._num_done() - self._done_before
        if done < 1 or self._assignments is None:
            return None
        partial = sum(running.progress for running in self._running.values())
        rate = (done + partial) / (time.monotonic() - self._started)
        return (self._assignments.total - self._num_done() - partial) / rate

    def _view(self) -> RenderableType:
        assert self._assignments is not None and self._sweep is not None
        states = dict(self._states)
        states["running"] = len(self._running)
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        left = self._seconds_left()
        time_left = f", about {_duration(left)} left" if left is not None else ""
        head = Text(f"{counts} of {self._assignments.total} trials{time_left}", style="bold")
        running = Table.grid(padding=(0, 2))
        for trial_id, trial in sorted(self._running.items()):
            bar = ProgressBar(total=1.0, completed=trial.progress, width=20)
            clock = _duration(time.monotonic() - trial.started)
            running.add_row(trial_id, Text(trial.label), bar, clock, trial.note)
        front = Table(title="front so far", title_justify="left", box=None, padding=(0, 2))
        for title in ("id", "name", *self._sweep.settings.objectives):
            front.add_column(title)
        for row in self._front[:_FRONT_SHOWN]:
            values = [_value(name, row.values[name]) for name in self._sweep.settings.objectives]
            front.add_row(row.id, Text(row.name), *values)
        return Group(head, running, front)


def _value(name: str, value: float) -> str:
    return f"{100 * value:.1f}" if name.endswith("accuracy") else f"{value:g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    return f"{minutes}:{rest:02d}"
