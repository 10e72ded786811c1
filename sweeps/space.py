"""The search space: parameters named by dotted keys, active only under stated conditions.

    space:
      compression.name: {choice: [magnitude, student]}
      compression.sparsity: {uniform: [0.2, 0.8], when: {compression.name: magnitude}}
      loss.alpha: {choice: [0.2, 0.3, 0.5], when: {loss.name: rmc}}

No torch, no Ray, no Optuna here. A point is a plain dict of the active parameters' values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Literal

from rc_core.errors import ConfigError, Problem

Point = dict[str, Any]
SEEDS = ("training.seed", "teacher.seed")
Kind = Literal["choice", "uniform", "log_uniform", "int"]

# Limit on the structures whose corners are checked.
_MAX_CORNERS = 2_000


class Parameter:
    """One searched key: its kind, its values, and when it is active."""

    def __init__(
        self, key: str, kind: Kind, values: tuple[Any, ...], when: dict[str, tuple[Any, ...]]
    ):
        self.key = key
        self.kind = kind
        self.values = values
        self.when = when

    def active(self, point: Mapping[str, Any], base: Callable[[str], Any]) -> bool:
        """Tell whether all conditions hold; keys that are not searched are looked up in `base`."""
        return all(point.get(k, base(k)) in allowed for k, allowed in self.when.items())

    @property
    def low(self) -> Any:
        return self.values[0]

    @property
    def high(self) -> Any:
        return self.values[-1]

    @property
    def middle(self) -> Any:
        """The middle of a range (geometric for log_uniform), the first value of a choice."""
        if self.kind == "choice":
            return self.values[0]
        if self.kind == "int":
            return (self.low + self.high) // 2
        if self.kind == "log_uniform":
            return math.sqrt(self.low * self.high)
        return round((self.low + self.high) / 2, 12)

    def draw(self, rng: Random) -> Any:
        """Return a random value."""
        if self.kind == "choice":
            return rng.choice(self.values)
        if self.kind == "int":
            return rng.randint(self.low, self.high)
        if self.kind == "log_uniform":
            return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return rng.uniform(self.low, self.high)

    def contains(self, value: Any) -> bool:
        if self.kind == "choice":
            return any(value == v and type(value) is type(v) for v in self.values)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return bool(self.low <= value <= self.high) and (
            self.kind != "int" or isinstance(value, int)
        )

    def ends(self) -> tuple[Any, ...]:
        return self.values if self.kind == "choice" else (self.low, self.high)


class Space:
    """The parameters, ordered so that each comes after those its conditions depend on."""

    def __init__(
        self,
        parameters: Sequence[Parameter],
        base: Callable[[str], Any],
        artifact_keys: Collection[str] = (),
    ) -> None:
        """Store what is given.

        Args:
            parameters: in any order.
            base: returns the base configuration's value of a dotted key, None if it has none.
            artifact_keys: dotted keys, or whole sections, on which artifacts built before the first
                trial depend, as plugins declare them.
        """
        self.parameters = tuple(_ordered(parameters))
        self.base = base
        self._artifact_keys = {
            p.key
            for p in self.parameters
            if any(f"{p.key}.".startswith(f"{declared}.") for declared in artifact_keys)
        }

    def __len__(self) -> int:
        return len(self.parameters)

    def sample(self, suggest: Callable[[Parameter], Any]) -> Point:
        """Return a point, calling `suggest` for each active parameter, in order."""
        point: Point = {}
        for parameter in self.parameters:
            if parameter.active(point, self.base):
                point[parameter.key] = suggest(parameter)
        return point

    def contains(self, point: Mapping[str, Any]) -> bool:
        """Tell whether a point has exactly the active parameters, all within their values."""
        active = self.sample(lambda p: point.get(p.key))
        return set(active) == set(point) and all(
            p.contains(point[p.key]) for p in self.parameters if p.key in point
        )

    def center(self, fixed: Mapping[str, Any]) -> Point:
        """Return the middle of the space, given the `fixed` values."""
        return self.sample(lambda p: fixed.get(p.key, p.middle))

    def draw(self, rng: Random) -> Point:
        """Return a random point: (log-)uniform in each parameter that is active."""
        return self.sample(lambda parameter: parameter.draw(rng))

    def grid(self) -> Iterator[Point]:
        """Yield every point of a space of choices and whole numbers, each once.

        Raises:
            ConfigError: a parameter is continuous.
        """
        problems = [
            Problem(f"space.{p.key}", f"search.name: grid needs choice or int, but got {p.kind}")
            for p in self.parameters
            if p.kind in ("uniform", "log_uniform")
        ]
        if problems:
            raise ConfigError(problems)
        # The teacher's seed, searched only in a fixed design, is paired with the training's.
        values = {p.key: list(p.values) for p in self.parameters if p.key in SEEDS}
        for point in self.product(lambda p: _all_values(p)):
            if len({values[key].index(point[key]) for key in values if key in point}) < 2:
                yield point

    def structures(self) -> Iterator[Point]:
        """Yield one (central) point per combination of what determines structure and artifacts.

        That is: plugin names, keys of conditions, and all keys that change a shared artifact.
        """
        told = {key for p in self.parameters for key in p.when} | self._artifact_keys
        yield from self.product(
            lambda p: (
                p.values
                if p.kind == "choice" and (p.key in told or p.key.endswith(".name"))
                else (p.middle,)
            )
        )

    def continuous_artifact_keys(self) -> list[str]:
        """Return the ranges that artifacts depend on: every trial would build its own."""
        keys = self._artifact_keys
        return [p.key for p in self.parameters if p.key in keys and p.kind != "choice"]

    def corners(self) -> Iterator[Point]:
        """Yield points that together contain every choice and both ends of every range."""
        for structure in itertools.islice(self.structures(), _MAX_CORNERS):
            low = self._with(structure, lambda p: p.low)
            yield low
            yield self._with(structure, lambda p: p.high)
            for parameter in self.parameters:
                if parameter.key in structure:
                    for value in parameter.ends():
                        candidate = low | {parameter.key: value}
                        if self.contains(candidate):
                            yield candidate

    def _with(self, structure: Point, pick: Callable[[Parameter], Any]) -> Point:
        """Return the structure with everything but its names and conditions set by `pick`."""
        governing = {key for p in self.parameters for key in p.when}
        return {
            p.key: structure[p.key] if p.key in governing or p.key.endswith(".name") else pick(p)
            for p in self.parameters
            if p.key in structure
        }

    def product(self, values: Callable[[Parameter], Sequence[Any]]) -> Iterator[Point]:
        """Yield a point for each combination of the active parameters' values."""

        def extend(point: Point, rest: tuple[Parameter, ...]) -> Iterator[Point]:
            if not rest:
                yield dict(point)
                return
            head, tail = rest[0], rest[1:]
            if not head.active(point, self.base):
                yield from extend(point, tail)
                return
            for value in values(head):
                yield from extend(point | {head.key: value}, tail)

        yield from extend({}, self.parameters)


def _ordered(parameters: Sequence[Parameter]) -> Iterator[Parameter]:
    """Yield each parameter after those its conditions name. Raises ConfigError on a cycle."""
    waiting = list(parameters)
    keys = {p.key for p in parameters}
    done: set[str] = set()
    while waiting:
        ready = [p for p in waiting if all(k in done or k not in keys for k in p.when)]
        if not ready:
            cycle = ", ".join(p.key for p in waiting)
            raise ConfigError(
                Problem("space", f"conditions must not be circular, but are: {cycle}")
            )
        for parameter in ready:
            yield parameter
            done.add(parameter.key)
        waiting = [p for p in waiting if p.key not in done]


def _all_values(parameter: Parameter) -> Sequence[Any]:
    if parameter.kind == "int":
        return range(parameter.low, parameter.high + 1)
    return parameter.values
