"""What a sweep cost: time per stage, how busy the machine was, what early stopping saved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rc_core.record import TrialRecord
from sweeps.pareto import hypervolume, pareto_front

STAGES = ("prepare", "train", "evaluate")


@dataclass(frozen=True)
class Cost:
    """Times in seconds.

    Attributes:
        stages: prepare, train, evaluate, other -> sum over trials.
        trial_seconds: sum over trials, however they ended.
        busy_seconds: wall-clock time in which at least one trial ran.
        concurrent: trials at once, on average over the busy time.
        most: largest number of trials at once.
        device_seconds: trial_seconds times what one trial holds (GPUs, else cores).
        unit: `GPU` or `CPU core`.
        failed_seconds: of trials that failed.
        stopped: number of trials that the scheduler stopped.
        saved_seconds: what stopped trials would still have taken; NaN if no rung tells how far
            they were.
    """

    stages: Mapping[str, float]
    trial_seconds: float
    busy_seconds: float
    concurrent: float
    most: int
    device_seconds: float
    unit: str
    failed_seconds: float
    stopped: int
    saved_seconds: float


@dataclass(frozen=True)
class Step:
    """The hypervolume after a trial has ended.

    Attributes:
        trial: id.
        ended: number of trials that had ended by then.
        wall: busy wall-clock seconds since the first trial began.
        device: device seconds spent by then.
        volume: hypervolume of the trials finished by then.
    """

    trial: str
    ended: int
    wall: float
    device: float
    volume: float


def device_of(config: Mapping[str, Any]) -> tuple[str, float]:
    """Return the device that a trial's use is counted in, and how many of it a trial holds."""
    resources = config.get("resources", {})
    gpu = float(resources.get("gpu", 0) or 0)
    return ("GPU", gpu) if gpu > 0 else ("CPU core", float(resources.get("cpu", 1) or 1))


def cost(records: Sequence[TrialRecord], config: Mapping[str, Any]) -> Cost:
    """Return what the trials cost. The dense reference's record counts its own training."""
    stages = dict.fromkeys((*STAGES, "other"), 0.0)
    for record in records:
        known = {stage: float(record.seconds.get(stage, 0.0)) for stage in STAGES}
        if not record.seconds and record.rungs:
            known["train"] = record.rungs[-1].seconds
        for stage, value in known.items():
            stages[stage] += value
        stages["other"] += max(record.taken - sum(known.values()), 0.0)
    total = sum(record.taken for record in records)
    clock = _Clock(_spans(records))
    unit, held = device_of(config)
    stopped = [record for record in records if record.status == "stopped"]
    return Cost(
        stages=stages,
        trial_seconds=total,
        busy_seconds=clock.length,
        concurrent=clock.filled / clock.length if clock.length else 0.0,
        most=clock.most,
        device_seconds=held * total,
        unit=unit,
        failed_seconds=sum(r.taken for r in records if r.status == "failed"),
        stopped=len(stopped),
        saved_seconds=_saved(stopped) if stopped else 0.0,
    )


def timeline(
    records: Sequence[TrialRecord],
    config: Mapping[str, Any],
    points: Mapping[str, Sequence[float]],
    worst: Sequence[float],
    directions: Sequence[str],
) -> list[Step]:
    """Return the hypervolume after each trial that ended, in the order in which they ended.

    Args:
        records: of a sweep.
        config: of the sweep.
        points: trial -> objective values, without trials that are excluded from the front.
        worst: point that the volume is measured from.
        directions: one per objective.
    """
    ended = sorted(
        (record for record in records if record.finished is not None),
        key=lambda record: (record.finished or 0.0, record.id),
    )
    clock = _Clock(_spans(records))
    held = device_of(config)[1]
    front: list[list[float]] = []
    volume, spent = 0.0, 0.0
    steps = []
    for number, record in enumerate(ended, start=1):
        spent += held * record.taken
        point = points.get(record.id)
        if point is not None and not any(math.isnan(value) for value in point):
            joined = [*front, list(point)]
            kept = pareto_front(joined, directions)
            # Only a trial that joins the front can add to the volume.
            if kept[-1]:
                front = [each for each, keep in zip(joined, kept, strict=True) if keep]
                volume = hypervolume(front, worst, directions)
        steps.append(Step(record.id, number, clock.at(record.finished or 0.0), spent, volume))
    return steps


def _saved(stopped: Iterable[TrialRecord]) -> float:
    """Return the training time that stopped trials had left, at their own pace."""
    saved = [
        rung.seconds * (1 / rung.progress - 1)
        for record in stopped
        if record.rungs and (rung := record.rungs[-1]).progress > 0
    ]
    return sum(saved) if saved else math.nan


def _spans(records: Sequence[TrialRecord]) -> list[tuple[float, float]]:
    """Return when each trial ran; one resumed after a kill counts only the time it ran."""
    spans = []
    for record in records:
        own = record.taken
        end = record.finished if record.finished is not None else record.started + own
        # The reference's record is written after its training; a resumed trial paused in between.
        spans.append((end - own, end))
    return [(start, end) for start, end in spans if end > start]


class _Clock:
    """Wall-clock time without pauses in which no trial ran (between a kill and a resume)."""

    def __init__(self, spans: Sequence[tuple[float, float]]) -> None:
        self.filled = sum(end - start for start, end in spans)
        self.most, self.length = 0, 0.0
        self._pieces: list[tuple[float, float, float]] = []
        changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
        running, began = 0, 0.0
        for moment, change in changes:
            if running == 0:
                began = moment
            running += change
            self.most = max(self.most, running)
            if running == 0:
                self._pieces.append((began, moment, self.length))
                self.length += moment - began

    def at(self, moment: float) -> float:
        """Return the busy seconds before a moment."""
        passed = 0.0
        for began, ended, before in self._pieces:
            if moment < began:
                break
            passed = before + min(moment, ended) - began
        return passed
