"""The front of a running sweep, updated trial by trial; a new trial costs what the front is long.

No torch, Ray or MLflow here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rc_core.record import TrialRecord
from sweeps.report import exclusion

_SIGNS = {"max": -1.0, "min": 1.0}
_Costs = tuple[float, ...]


class RunningFront:
    """The records that no other beats, with the dense reference and without it."""

    def __init__(
        self,
        objectives: Mapping[str, str],
        constraints: Sequence[str] = (),
        records: Iterable[TrialRecord] = (),
    ) -> None:
        """Begin with the records there are.

        Args:
            objectives: metric -> "max" or "min".
            constraints: as in the YAML; a trial that misses one takes no part.
            records: of earlier attempts.
        """
        self._objectives = dict(objectives)
        self._constraints = tuple(constraints)
        self._base: dict[str, float] = {}
        # The reference first: constraints are measured against it.
        ordered = sorted(records, key=lambda record: not record.reference)
        self._waiting: list[TrialRecord] = []
        self._all: dict[str, tuple[_Costs, TrialRecord]] = {}
        self._compressed: dict[str, tuple[_Costs, TrialRecord]] = {}
        self.reference: TrialRecord | None = None
        for record in ordered:
            self.add(record)

    def add(self, record: TrialRecord) -> bool:
        """Take in a trial that ended; tell whether either front changed."""
        if record.reference:
            self.reference, self._base = record, dict(record.metrics)
            earlier, self._waiting = self._waiting, []
            changed = [self.add(each) for each in earlier]
            return self._insert(self._all, record) or any(changed)
        if self.reference is None and self._constraints:
            # Without the reference nobody knows yet whether it keeps to the constraints.
            self._waiting.append(record)
            return False
        changed = [self._insert(front, record) for front in (self._all, self._compressed)]
        return any(changed)

    def records(self) -> list[TrialRecord]:
        """Return the members of both fronts and the reference, by id.

        `sweeps.report.rows` of these says of each member what it says of it among all trials.
        """
        found = {key: record for key, (_, record) in (self._all | self._compressed).items()}
        if self.reference is not None:
            found[self.reference.id] = self.reference
        return [found[key] for key in sorted(found)]

    def _insert(self, front: dict[str, tuple[_Costs, TrialRecord]], record: TrialRecord) -> bool:
        if exclusion(record, self._objectives, self._constraints, self._base) is not None:
            return False
        costs = tuple(
            _SIGNS[direction] * record.metric(name) for name, direction in self._objectives.items()
        )
        if any(_dominates(other, costs) for other, _ in front.values()):
            return False
        for key in [key for key, (other, _) in front.items() if _dominates(costs, other)]:
            del front[key]
        front[record.id] = (costs, record)
        return True


def _dominates(first: _Costs, second: _Costs) -> bool:
    """Tell whether the first is nowhere worse and somewhere better; lower is better."""
    return first != second and all(a <= b for a, b in zip(first, second, strict=True))
