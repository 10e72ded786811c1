"""Replays a table under a search and a scheduler, on simulated workers: no Ray, no training.

The scheduler's rule is the same object as in a sweep (sweeps/engine/rungs.py); only the clock is
simulated. Trials come in random order or in that of a real sampler: each point it proposes is
replaced by the nearest row of the table that was not run yet, and the sampler gets that row's
outcome.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Protocol

from sweeps.config import SweepConfig
from sweeps.engine.rungs import Decision, RungRule
from sweeps.search._base import Outcome, Proposals
from sweeps.search._checked import made_proposals
from sweeps.simulation.replay import ReplayTrial, Table
from sweeps.space import Parameter, Space


class Source(Protocol):
    """Source of trials."""

    def next(self) -> ReplayTrial | None:
        """Return a trial that was not run yet, None if all were."""
        ...

    def tell(self, trial: ReplayTrial, *, finished: bool) -> None:
        """Record that a trial ended: it finished, or it was stopped early."""
        ...


@dataclass
class Run:
    """What happened in one simulated sweep.

    Attributes:
        finished: (simulated seconds, trial) of each trial that ran to the end, in that order.
        stopped: the other trials.
        spent: id -> seconds that the trial held a worker.
        seconds: when the last worker was done.
    """

    finished: list[tuple[float, ReplayTrial]] = field(default_factory=list)
    stopped: list[ReplayTrial] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def replay(source: Source, rule: RungRule | None, *, workers: int) -> Run:
    """Run every trial of the source until it ends or is stopped.

    Args:
        source: of the trials.
        rule: decides at rungs; None: all trials run to the end.
        workers: number of trials that run at once.
    """
    run = Run()
    trials: dict[str, ReplayTrial] = {}
    paused: dict[str, int] = {}
    # (time, tie-breaker, trial, index of the rung it reaches; len(rungs) is the end)
    events: list[tuple[float, int, str, int]] = []
    clock, counter, exhausted = 0.0, 0, False

    def advance(trial: ReplayTrial, stage: int) -> None:
        nonlocal counter
        times = [0.0, *(rung.seconds for rung in trial.rungs), trial.seconds]
        took = times[stage + 1] - times[stage]
        run.spent[trial.id] = run.spent.get(trial.id, 0.0) + took
        counter += 1
        heapq.heappush(events, (clock + took, counter, trial.id, stage))

    while True:
        while len(events) < workers:
            promoted = rule.next_promotion() if rule is not None else None
            if rule is not None and promoted is not None:
                rule.resumed(promoted)
                advance(trials[promoted], paused.pop(promoted) + 1)
                continue
            trial = None if exhausted else source.next()
            if trial is None:
                exhausted = True
                break
            trials[trial.id] = trial
            advance(trial, 0)
        if not events:
            break
        clock, _, trial_id, stage = heapq.heappop(events)
        trial = trials[trial_id]
        if stage == len(trial.rungs):
            run.finished.append((clock, trial))
            source.tell(trial, finished=True)
            continue
        rung = trial.rungs[stage]
        decision = Decision.CONTINUE
        if rule is not None:
            decision = rule.report(trial_id, rung.number, rung.values, settled=rung.settled)
        if decision is Decision.CONTINUE:
            advance(trial, stage + 1)
        elif decision is Decision.PAUSE:
            paused[trial_id] = stage
        else:
            run.stopped.append(trial)
            source.tell(trial, finished=False)
    # Trials that were never promoted are stopped, as in a sweep.
    for trial_id in paused:
        run.stopped.append(trials[trial_id])
        source.tell(trials[trial_id], finished=False)
    run.seconds = clock
    return run


class RandomOrder:
    """All rows of a table, shuffled."""

    def __init__(self, table: Table, seed: int) -> None:
        self._left = list(table.trials)
        Random(seed).shuffle(self._left)

    def next(self) -> ReplayTrial | None:
        return self._left.pop() if self._left else None

    def tell(self, trial: ReplayTrial, *, finished: bool) -> None:
        del trial, finished


class SampledOrder:
    """The rows nearest to a sampler's proposals; rows outside its space are left out."""

    def __init__(self, table: Table, search: str, seed: int) -> None:
        """Make a study in memory.

        Args:
            table: rows to choose from.
            search: name of a file in sweeps/search.
            seed: of the sampler.
        """
        known = reachable(table, search).trials
        # `elsewhere`: nothing is trained, so the encoder need not be here.
        sweep = SweepConfig(table.config, elsewhere=True)
        # Not validated with the rest: rows of a fixed design are valid here too.
        changes = {"name": search, "seed": seed, "trials": len(known), "points": ()}
        asked = sweep.settings.search.model_copy(update=changes)
        sweep.settings = sweep.settings.model_copy(update={"search": asked})
        self._space = sweep.space
        self._left = {trial.id: trial for trial in known}
        self._proposals: Proposals = made_proposals(sweep, None)
        self._asked = 0

    def next(self) -> ReplayTrial | None:
        if not self._left:
            return None
        # Unlike any row's name: discarding the proposal must not end a running row.
        asked = f"asked {self._asked}"
        point = self._proposals.propose(asked)
        if point is None:
            return None
        found = min(self._left.values(), key=lambda t: distance(point, t.point or {}, self._space))
        del self._left[found.id]
        # The sampler must learn the point that the outcome belongs to.
        self._proposals.discard(asked)
        self._proposals.propose(_row(found), found.point)
        self._asked += 1
        return found

    def tell(self, trial: ReplayTrial, *, finished: bool) -> None:
        rungs = trial.rungs[-1].values if trial.rungs else {}
        values = dict(trial.values) if finished else {}
        status = "finished" if finished else "stopped"
        self._proposals.tell(_row(trial), Outcome(status, values, {}, dict(rungs)))


def distance(a: Mapping[str, Any], b: Mapping[str, Any], space: Space) -> float:
    """Return the distance of two points: the sum over parameters of distances in [0, 1].

    It is 1 for a parameter that only one point has, and for different choices.
    """
    return math.fsum(_gap(parameter, a, b) for parameter in space.parameters)


def order(table: Table, search: str, seed: int) -> Source:
    """Return a source of the table's trials in the order of a search."""
    return RandomOrder(table, seed) if search == "random" else SampledOrder(table, search, seed)


def reachable(table: Table, search: str) -> Table:
    """Return the table without the rows that a search cannot reach.

    A sampler only proposes points of the space; `random` reaches all rows.
    """
    if search == "random":
        return table
    return replace(table, trials=tuple(t for t in table.trials if t.point is not None))


def _row(trial: ReplayTrial) -> str:
    return f"row {trial.id}"


def _gap(parameter: Parameter, a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    key = parameter.key
    if key not in a and key not in b:
        return 0.0
    if key not in a or key not in b or parameter.kind == "choice":
        return float(a.get(key) != b.get(key) or key not in a or key not in b)
    low, high, x, y = (float(v) for v in (parameter.low, parameter.high, a[key], b[key]))
    if parameter.kind == "log_uniform":
        low, high, x, y = map(math.log, (low, high, x, y))
    return abs(x - y) / (high - low)
