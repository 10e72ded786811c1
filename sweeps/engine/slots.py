"""How many trials fit on the cluster at once, as far as others leave room for them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from sweeps.engine.cluster import alive_nodes, free_resources
from sweeps.settings import ResourcesConfig

_REFRESH_SECONDS = 2.0
# 0.1 ten times is not quite 1.
_ROUNDING = 1e-6


class Slots:
    """Counts slots; nodes may join or leave, and others may use some of them."""

    def __init__(self, resources: ResourcesConfig) -> None:
        """Store what is given.

        Args:
            resources: of one trial.
        """
        self._wanted = {"CPU": resources.cpu, "GPU": resources.gpu}
        self._asked = -math.inf
        self._room = 0
        self._count = 0

    def __call__(self, running: int) -> int:
        """Return how many trials there is room for, those that run included; at least 1.

        What is free is asked of Ray, but not what starting processes hold: so it never falls, but
        with the cluster.

        Args:
            running: trials of this sweep.
        """
        if time.monotonic() - self._asked > _REFRESH_SECONDS:
            self._room = slots_on([node["Resources"] for node in alive_nodes()], self._wanted)
            free = slots_on([free_resources()], self._wanted)
            self._count = max(self._count, running + free)
            self._asked = time.monotonic()
        return max(1, min(self._room, self._count))


def slots_on(nodes: Sequence[Mapping[str, float]], wanted: Mapping[str, float]) -> int:
    """Return how many trials fit on nodes, each on one of them; a share of a GPU is of one GPU.

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
