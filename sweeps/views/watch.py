"""`rc-sweep status SWEEP --watch`: follows a sweep that runs elsewhere, from its files alone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live

from rc_core.record import TrialRecord, read_record
from sweeps.commands import command
from sweeps.ending import confirmed_by, has_ended, is_race
from sweeps.remote.objects import UnreachableError
from sweeps.rows import Row, rows
from sweeps.shown_values import metric_number
from sweeps.stored_sweep import StoredSweep
from sweeps.views.live import RunningTrial, Snapshot, view

_INTERVAL = 2.0
# For a storage at a URI, where each look is a request.
_INTERVAL_AWAY = 10.0
# A rung may take long, so a shorter silence is not mentioned.
_SILENT = 600.0


class Records:
    """A sweep's records; each is read again only if its file has changed."""

    def __init__(self, trials: Path) -> None:
        self._trials = trials
        self._known: dict[Path, tuple[int, TrialRecord]] = {}
        self.newest = 0.0

    def read(self) -> tuple[list[TrialRecord], bool]:
        """Return all records, ordered by id, and whether anything changed since the last call."""
        changed = False
        for path in sorted(self._trials.glob("*/record.json")):
            stamp = path.stat().st_mtime_ns
            if path not in self._known or self._known[path][0] != stamp:
                self._known[path] = (stamp, read_record(path))
                self.newest = max(self.newest, stamp / 1e9)
                changed = True
        return [record for _, record in self._known.values()], changed


class Watcher:
    """Makes snapshots of a sweep from its files."""

    def __init__(self, sweep: StoredSweep) -> None:
        self._sweep = sweep
        self._records = Records(sweep.folder.trials)
        self._rows: list[Row] = []
        # As the newest snapshot saw them.
        self.records: Sequence[TrialRecord] = ()
        self._started = _driver_started(sweep)

    def snapshot(self) -> Snapshot:
        """Return the sweep as it is now."""
        sweep, now = self._sweep, time.time()
        records, changed = self._records.read()
        self.records = records
        records.sort(key=lambda record: record.id)
        if changed:
            self._rows = rows(records, sweep.objectives, constraints=sweep.constraints)
        driven = sweep.folder.is_running()
        resources = sweep.config["resources"]
        counts: dict[str, int] = {}
        for record in records:
            counts[record.status] = counts.get(record.status, 0) + 1
        return Snapshot(
            sweep=sweep.name,
            total=max(sweep.config["search"]["trials"], len(records)),
            at_most=is_race(sweep.config["search"]["name"]),
            counts=counts,
            running=[
                running_trial(record, now if driven else None, sweep.objectives)
                for record in records
                if record.status == "running"
            ],
            rows=self._rows,
            objectives=sweep.objectives,
            seconds=now - self._started if driven else None,
            trial_seconds=mean_seconds(records),
            unit=(resources["gpu"], "GPU") if resources["gpu"] else (resources["cpu"], "CPU"),
            note=self._note(records, driven, now),
        )

    def _note(self, records: Sequence[TrialRecord], driven: bool, now: float) -> str:
        folder, config = self._sweep.folder, self._sweep.config
        if not driven and has_ended(folder, config, records):
            return f"it has ended; see: {command(confirmed_by(folder, config), 'pareto')}"
        if not driven:
            return f"no driver is running it; go on with: {command(folder, 'resume')}"
        if not records:
            return "preparing: building what all trials share"
        silent = now - self._records.newest
        if silent > _SILENT:
            return f"no trial has written anything for {silent / 60:.0f} minutes"
        return "Ctrl-C ends watching, not the sweep"


def watch(sweep: StoredSweep, console: Console, *, interval: float = _INTERVAL) -> None:
    """Show a sweep until its driver ends or the user presses Ctrl-C.

    On a terminal this is a live view, elsewhere one line for each trial that ends.
    """
    watcher = Watcher(sweep)
    live = None
    if console.is_terminal:
        live = Live(console=console, auto_refresh=False, screen=False)
        live.start()
    ended: set[str] = set()
    reached = True
    try:
        while True:
            snapshot = watcher.snapshot()
            if not reached:
                snapshot = replace(
                    snapshot, note="the storage does not answer; this is its last known state"
                )
            if live is not None:
                live.update(_drawn(snapshot, console), refresh=True)
            elif reached:
                ended |= _say(snapshot, watcher.records, console, ended)
            # Without an answer the lease here is old, and its driver only seems gone.
            if snapshot.seconds is None and reached:
                return
            time.sleep(interval if sweep.folder.mirror is None else _INTERVAL_AWAY)
            reached = _refreshed(sweep)
    except KeyboardInterrupt:
        return
    finally:
        if live is not None:
            live.stop()


def _refreshed(sweep: StoredSweep) -> bool:
    """Fetch what is new at the storage's URI, if it has one; return whether that answered."""
    try:
        sweep.folder.refresh()
    except UnreachableError:
        return False
    return True


def shown_rung(metrics: Mapping[str, Any], objectives: Iterable[str]) -> tuple[float, float] | None:
    """Return (ID, OOD) accuracy at a rung in [0, 1], balanced if that is an objective.

    Args:
        metrics: with keys `rung/...`.
        objectives: of the sweep.

    Returns:
        None if one of the two was not measured.
    """
    asked = set(objectives)
    balanced = {role: f"{role}/balanced_accuracy" for role in ("id_dev", "ood_dev")}
    keys = [own if own in asked else f"{role}/accuracy" for role, own in balanced.items()]
    inside, outside = (metrics.get(f"rung/{key}") for key in keys)
    if not isinstance(inside, float) or not isinstance(outside, float):
        return None
    return inside, outside


def running_trial(
    record: TrialRecord, now: float | None, objectives: Iterable[str]
) -> RunningTrial:
    """Return an unfinished record as it is shown.

    Args:
        record: of the trial.
        now: seconds since the epoch; None if no driver is running it.
        objectives: of the sweep.
    """
    newest = record.rungs[-1] if record.rungs else None
    metrics = newest.metrics if newest else {}
    return RunningTrial(
        id=record.id,
        name=record.name,
        progress=newest.progress if newest else 0.0,
        seconds=None if now is None else now - record.started,
        rung=shown_rung(metrics, objectives),
    )


def mean_seconds(records: Iterable[TrialRecord]) -> float | None:
    """Return the mean seconds of ended trials that did not fail, without the reference; or None."""
    taken = [
        record.taken
        for record in records
        if record.finished is not None and not record.reference and record.status != "failed"
    ]
    return sum(taken) / len(taken) if taken else None


def _drawn(snapshot: Snapshot, console: Console) -> RenderableType:
    return view(snapshot, console.width, console.height)


def ended_line(
    record: TrialRecord, objectives: Iterable[str], done: int, total: int, *, at_most: bool = False
) -> str:
    """Return the line that a launch or a watcher prints for a trial that has ended.

    Args:
        record: of the trial.
        objectives: of the sweep.
        done: number of trials that have ended, this one included.
        total: number of trials of the sweep.
        at_most: whether `total` is only an upper bound (`sweeps.ending.is_race`).
    """
    if record.status == "finished":
        text = ", ".join(
            f"{name} {metric_number(name, record.metric(name))}" for name in objectives
        )
    else:
        why = f": {record.error}" if record.error else ""
        at = f" at {100 * record.rungs[-1].progress:.0f} %" if record.rungs else ""
        text = f"{record.status}{at}{why}"
    seconds = record.seconds.get("total")
    took = f" ({seconds:.0f} s)" if seconds is not None else ""
    count = f"{done}, up to {total}" if at_most else f"{done}/{total}"
    return f"[{count}] {record.id} {record.name}: {text}{took}"


def _say(
    snapshot: Snapshot, records: Sequence[TrialRecord], console: Console, known: set[str]
) -> set[str]:
    """Print a line for each newly ended trial, in the order they ended; return their ids."""
    new = [each for each in records if each.status != "running" and each.id not in known]
    new.sort(key=lambda record: (not record.reference, record.finished or 0.0))
    clock = time.strftime("%H:%M:%S")
    for done, record in enumerate(new, start=len(known) + 1):
        line = ended_line(
            record, snapshot.objectives, done, snapshot.total, at_most=snapshot.at_most
        )
        console.print(f"{clock} {line}", markup=False, highlight=False, soft_wrap=True)
    if snapshot.seconds is None and snapshot.note:
        console.print(f"{clock} {snapshot.note}", markup=False, highlight=False, soft_wrap=True)
    return {record.id for record in new}


def _driver_started(sweep: StoredSweep) -> float:
    """Return when the newest driver began, as the time of attempt.json, which it writes first."""
    path = sweep.path / "attempt.json"
    return path.stat().st_mtime if path.is_file() else time.time()
