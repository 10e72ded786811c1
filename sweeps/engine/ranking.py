"""Incremental rankings of the candidates that arrive at a rung, for schedulers.

Values are costs: lower is better on every objective. An arrival recomputes nothing from scratch.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sweeps.pareto import dominates

Floats = NDArray[np.float64]
Opening = Literal["alternate", "compromise"]


class Ranking(Protocol):
    """An order of the candidates of one rung."""

    def add(self, key: str, costs: Sequence[float]) -> None:
        """Take in a candidate; finite costs, one per objective."""
        ...

    def __len__(self) -> int: ...

    def __contains__(self, key: str) -> bool: ...

    def among_best(self, key: str, count: int, *, ties: bool = False) -> bool:
        """Tell whether a candidate is one of the `count` best or, with ties, as good as one."""
        ...

    def best(self, count: int) -> list[str]:
        """Return the `count` best, the best first (more if several are equally good)."""
        ...


class MetricRanking:
    """Ranks by one objective; of equal candidates the earlier is better."""

    def __init__(self, objective: int = 0) -> None:
        """Store what is given.

        Args:
            objective: which of the costs counts.
        """
        self._objective = objective
        self._order: list[tuple[float, int, str]] = []
        self._entries: dict[str, tuple[float, int, str]] = {}

    def add(self, key: str, costs: Sequence[float]) -> None:
        entry = (float(costs[self._objective]), len(self._entries), key)
        self._entries[key] = entry
        bisect.insort(self._order, entry)

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def among_best(self, key: str, count: int, *, ties: bool = False) -> bool:
        cost, number, _ = self._entries[key]
        return bisect.bisect_left(self._order, (cost, -1 if ties else number, "")) < count

    def best(self, count: int) -> list[str]:
        return [key for _, _, key in self._order[:count]]


class AnyMetricRanking:
    """A candidate is among the best if it is on any objective."""

    def __init__(self, num_objectives: int) -> None:
        self._each = [MetricRanking(objective) for objective in range(num_objectives)]

    def add(self, key: str, costs: Sequence[float]) -> None:
        for ranking in self._each:
            ranking.add(key, costs)

    def __len__(self) -> int:
        return len(self._each[0])

    def __contains__(self, key: str) -> bool:
        return key in self._each[0]

    def among_best(self, key: str, count: int, *, ties: bool = False) -> bool:
        return any(ranking.among_best(key, count, ties=ties) for ranking in self._each)

    def best(self, count: int) -> list[str]:
        lists = [ranking.best(count) for ranking in self._each]
        return list(dict.fromkeys(key for row in zip(*lists, strict=True) for key in row))


class ParetoRanking:
    """Ranks by non-dominated rank, and within the rank that must be cut, by an epsilon net.

    Ranks are layers: candidates of layer 0 are not dominated, those of layer k are dominated by one
    of layer k - 1. A new candidate enters the first layer in which nothing dominates it and pushes
    those that it dominates one layer down, these the next, and so on (the efficient level
    update of Li et al. 2017).

    An epsilon net orders a layer so that each prefix covers it: a first candidate, then always the
    one farthest from those taken, with objectives scaled to their ranges over the whole rung.
    """

    def __init__(self, num_objectives: int, first: int | Opening = "alternate") -> None:
        """Start empty.

        Args:
            num_objectives: costs per candidate.
            first: what opens an epsilon net. A number: the best on that objective. `alternate`:
                the best on each objective in turn, as candidates arrive. `compromise`: the one
                whose scaled costs have the smallest sum.
        """
        self._first = first
        self._low = np.full(num_objectives, np.inf)
        self._high = np.full(num_objectives, -np.inf)
        self._layers: list[tuple[list[str], Floats]] = []
        self._places: dict[str, int] = {}

    def add(self, key: str, costs: Sequence[float]) -> None:
        point = np.asarray(costs, dtype=np.float64)
        self._low, self._high = np.minimum(self._low, point), np.maximum(self._high, point)
        place = bisect.bisect_left(
            range(len(self._layers)),
            True,
            key=lambda k: not _dominated(point[None], self._layers[k][1])[0],
        )
        keys, points = [key], point[None]
        while keys:
            self._places.update(dict.fromkeys(keys, place))
            if place == len(self._layers):
                self._layers.append((keys, points))
                return
            old_keys, old_points = self._layers[place]
            pushed = _dominated(old_points, points)
            kept = [k for k, down in zip(old_keys, pushed, strict=True) if not down]
            self._layers[place] = (kept + keys, np.vstack([old_points[~pushed], points]))
            keys = [k for k, down in zip(old_keys, pushed, strict=True) if down]
            points = old_points[pushed]
            place += 1

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def among_best(self, key: str, count: int, *, ties: bool = False) -> bool:
        place = self._places[key]
        free = count - sum(len(keys) for keys, _ in self._layers[:place])
        if free <= 0:
            return False
        keys, points = self._layers[place]
        if len(keys) <= free:
            return True
        taken = self._net(place, free)
        if key in taken or not ties:
            return key in taken
        # Equal candidates are in one layer.
        own = points[keys.index(key)]
        return any((points[keys.index(each)] == own).all() for each in taken)

    def best(self, count: int) -> list[str]:
        found: list[str] = []
        for place in range(len(self._layers)):
            if len(found) >= count:
                break
            found += self._net(place, count - len(found))
        return found

    def _net(self, place: int, count: int) -> list[str]:
        keys, points = self._layers[place]
        spread = np.where(self._high > self._low, self._high - self._low, 1.0)
        first: int | None
        if self._first == "compromise":
            first = None
        elif self._first == "alternate":
            first = len(self._places) % len(spread)
        else:
            assert isinstance(self._first, int)
            first = self._first
        order = epsilon_net((points - self._low) / spread, count, first=first)
        return [keys[i] for i in order]


def epsilon_net(points: Floats, count: int, *, first: int | None = None) -> list[int]:
    """Return up to `count` rows such that each prefix covers all of them.

    Args:
        points: (n, k) costs, scaled so that distances mean something.
        first: the objective whose best row opens it; None: the row with the smallest sum.

    Returns:
        Row numbers; of equally good ones the earlier. Equal rows come last.
    """
    if not len(points) or count < 1:
        return []
    start = points.sum(axis=1) if first is None else points[:, first]
    order = [int(np.argmin(start))]
    distance = np.linalg.norm(points - points[order[0]], axis=1)
    distance[order[0]] = -1.0
    while len(order) < min(count, len(points)):
        order.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(points - points[order[-1]], axis=1))
        # A row taken stays behind rows equal to it, whose distance is zero.
        distance[order] = -1.0
    return order


def _dominated(points: Floats, by: Floats) -> NDArray[np.bool_]:
    """Return which points some row of `by` dominates."""
    return np.asarray(dominates(by[None], points[:, None]).any(axis=1))
