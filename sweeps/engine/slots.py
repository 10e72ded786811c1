"""How many trials fit on the cluster at once, given what others leave free."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from sweeps.engine.cluster import alive_nodes, free_resources
from sweeps.settings import ResourcesConfig

_REFRESH_SECONDS = 2.0
# An observation counts for one to two windows; processes have started by then.
_WINDOW_SECONDS = 60.0
# The sum of ten times 0.1 is not quite 1.
_ROUNDING = 1e-6


class Slots:
    """Counts slots; nodes may join or leave, and others may use some of them."""

    def __init__(self, resources: ResourcesConfig) -> None:
        """Store what is given.

        Args:
            resources: of one trial.
        """
        self._wanted = {"CPU": resources.cpu, "GPU": resources.gpu}
        self._asked = self._window = -math.inf
        self._on_all_nodes = self._most = self._most_before = 0

    def __call__(self, running: int) -> int:
        """Return how many trials there is room for, running ones included; at least 1.

        Ray reports what is free, but not what starting processes will hold. So this is the recent
        maximum of running plus free slots, limited to what all nodes hold.

        Args:
            running: number of running trials of this sweep.
        """
        now = time.monotonic()
        if now - self._asked > _REFRESH_SECONDS:
            self._asked = now
            self._on_all_nodes = slots_on(
                [node["Resources"] for node in alive_nodes()], self._wanted
            )
            if now - self._window > _WINDOW_SECONDS:
                self._window = now
                self._most_before, self._most = self._most, 0
            self._most = max(self._most, running + slots_on([free_resources()], self._wanted))
        return max(1, min(self._on_all_nodes, max(self._most, self._most_before)))


def slots_on(nodes: Sequence[Mapping[str, float]], wanted: Mapping[str, float]) -> int:
    """Return how many trials fit on nodes; no trial spans two nodes, no GPU share two GPUs.

    Args:
        nodes: amounts by name ("CPU", "GPU").
        wanted: amounts of one trial, not all 0.
    """
    return sum(
        min(_times(key, node.get(key, 0.0), amount) for key, amount in wanted.items() if amount)
        for node in nodes
    )


def _times(name: str, has: float, amount: float) -> int:
    if name == "GPU" and amount < 1:
        return math.floor(has) * _whole(1 / amount) + _whole(has % 1 / amount)
    return _whole(has / amount)


def _whole(number: float) -> int:
    return math.floor(number + _ROUNDING)
