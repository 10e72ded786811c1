"""The contract of a search algorithm, without Ray.

def proposals(sweep, study_file): ...       # a `Proposals`; study_file None: nothing is saved

`LOOKS_AT_RESULTS = False` in its file states that its proposals do not depend on results: then it
may run a fixed design, and its trials can be listed beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rc_core.plugins import Contract
from rc_core.record import TrialRecord
from sweeps.constraints import parse
from sweeps.settings import SweepSettings
from sweeps.space import Point

CONTRACT = Contract("_base", config="", functions=("proposals",))


@dataclass(frozen=True)
class Outcome:
    """How a trial ended, for the search.

    Attributes:
        status: finished, stopped or failed.
        values: objective -> value, NaN if not measured; empty unless finished.
        violations: constraint -> violation; satisfied if <= 0.
        rungs: last quick evaluation's values, for stopped trials.
    """

    status: str
    values: Mapping[str, float]
    violations: Mapping[str, float]
    rungs: Mapping[str, float]


def outcome_of(
    record: TrialRecord, settings: SweepSettings, reference: Mapping[str, float]
) -> Outcome:
    """Return what the search is told of a record.

    Args:
        record: of a trial that has ended.
        settings: with the objectives and the constraints.
        reference: the dense reference's metrics, which constraints may name.
    """
    values, violations = {}, {}
    if record.status == "finished":
        values = {name: record.metric(name) for name in settings.objectives}
        for constraint in map(parse, settings.constraints):
            value = constraint.violation(record.metrics, reference)
            violations[constraint.text] = math.inf if math.isnan(value) else value
    rungs = record.rungs[-1].metrics if record.rungs else {}
    return Outcome(record.status, values, violations, rungs)


@dataclass(frozen=True)
class Known:
    """A finished trial of an earlier sweep, for the search (`search.warm_start`).

    Attributes:
        source: `<sweep>/<trial id>`.
        point: its place in this sweep's space.
        values: objective -> value.
        violations: constraint -> violation; satisfied if <= 0.
    """

    source: str
    point: Point
    values: Mapping[str, float]
    violations: Mapping[str, float]


class Proposals(Protocol):
    """The source of a sweep's points.

    Attributes:
        exhaustive: whether it proposes every point once and then None.
        choose: only for a search over fixed rows: given the ids not handed out yet, returns the
            next one, or None if no other is worth running. If None, all run in order.
    """

    exhaustive: bool
    choose: Callable[[Sequence[str]], str | None] | None

    def propose(self, trial_id: str, point: Point | None = None) -> Point | None:
        """Return the point of a new trial (the given one, if given); None if none is left."""
        ...

    def tell(self, trial_id: str, outcome: Outcome) -> None:
        """Take in how a trial ended. Telling the same trial again changes nothing."""
        ...

    def discard(self, trial_id: str) -> None:
        """Take back a proposal that will not be run (it was tried before)."""
        ...

    def know(self, known: Known) -> None:
        """Take in an earlier sweep's trial. Knowing the same trial again changes nothing."""
        ...

    def unfinished(self) -> dict[str, Point]:
        """Return the trials proposed but not told of, with their points."""
        ...
