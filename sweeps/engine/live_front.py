"""What the last trials added to the front's hypervolume, updated incrementally."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from rc_core.record import TrialRecord
from sweeps.constraints import parse
from sweeps.exclusion import exclusion
from sweeps.pareto import costs_of, dominates, hypervolume
from sweeps.rows import reference_point

_Point = tuple[float, ...]


class LiveFront:
    """The points that no other trial dominates; the dense reference counts as a trial.

    The cost of adding a record depends on the size of the front, not on the number of trials.
    """

    def __init__(
        self, objectives: Mapping[str, str], constraints: Sequence[str] = (), *, window: int = 0
    ) -> None:
        """Store what is given.

        Args:
            objectives: metric -> "max" or "min".
            constraints: as in the YAML; a trial that misses one is not on the front. If one is
                relative to the dense reference, that must be added first.
            window: number of last trials whose `gain` is computed; 0 if it is not needed.
        """
        self._objectives = dict(objectives)
        self._constraints = [parse(text) for text in constraints]
        self._base: Mapping[str, float] = {}
        self._points: dict[str, _Point] = {}
        # The worst values so far, from which front.json measures the hypervolume too.
        self._worst: list[float] | None = None
        self._past: deque[list[_Point]] = deque(maxlen=window + 1)
        self._past.append([])
        # Cached, as it is needed at every step of the driver.
        self._gain: float | None = None

    def add(self, record: TrialRecord) -> None:
        """Take in an ended trial, whatever its status; call this only once per trial."""
        if record.reference:
            self._base = dict(record.metrics)
        if exclusion(record, self._objectives, self._constraints, self._base) is None:
            values = [record.metric(name) for name in self._objectives]
            seen = [values] if self._worst is None else [self._worst, values]
            self._worst = reference_point(seen, self._objectives)
            _enter(self._points, record.id, self._costs(values))
        if not record.reference:
            self._past.append(list(self._points.values()))
            self._gain = self._find_gain()

    def gain(self) -> float | None:
        """Return what the last `window` trials added, as a share of the current volume.

        None while there are fewer trials, or no volume yet.
        """
        return self._gain

    def _find_gain(self) -> float | None:
        maximum = self._past.maxlen
        if maximum is None or maximum < 2 or len(self._past) < maximum:
            return None
        now = self._volume(self._past[-1])
        return 1 - self._volume(self._past[0]) / now if now > 0 else None

    def _volume(self, costs: Sequence[_Point]) -> float:
        if self._worst is None:
            return 0.0
        return hypervolume(costs, self._costs(self._worst), ["min"] * len(self._objectives))

    def _costs(self, values: Sequence[float]) -> _Point:
        return costs_of(values, list(self._objectives.values()))


def _enter(front: dict[str, _Point], key: str, point: _Point) -> None:
    """Add a point to a front unless it is dominated; remove the points it dominates."""
    if front:
        others = list(front.values())
        if dominates(others, point).any():
            return
        for other, beaten in zip(list(front), dominates(point, others), strict=True):
            if beaten:
                del front[other]
    front[key] = point
