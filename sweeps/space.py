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

from rc_core.errors import ConfigError, Problem, did_you_mean

Point = dict[str, Any]
SEEDS = ("training.seed", "teacher.seed")
Kind = Literal["choice", "uniform", "log_uniform", "int"]

_KINDS: tuple[Kind, ...] = ("choice", "uniform", "log_uniform", "int")
_SECTIONS = ("training", "compression", "loss", "difficulty")
# More corners than this are not tried; the choices before numbers vary first.
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
        """Tell whether every condition holds; a key that is not searched is looked up in `base`."""
        return all(point.get(k, base(k)) in allowed for k, allowed in self.when.items())

    @property
    def low(self) -> Any:
        return self.values[0]

    @property
    def high(self) -> Any:
        return self.values[-1]

    @property
    def middle(self) -> Any:
        """The middle of a range (geometric for log_uniform), the first of a choice."""
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
    """The parameters in an order in which conditions come before what they govern."""

    def __init__(
        self,
        parameters: Sequence[Parameter],
        base: Callable[[str], Any],
        artifact_keys: Collection[str] = (),
    ) -> None:
        """Store what is given.

        Args:
            parameters: in any order.
            base: returns the base configuration's value of a dotted key (None where it has none).
            artifact_keys: on which what is built before the first trial depends, as plugins declare
                it: dotted keys, or whole sections.
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
        """Return a point: `suggest` is asked for each parameter that is active, in order."""
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
        # The teacher's seed, which only a fixed design has here, goes along with the training's.
        values = {p.key: list(p.values) for p in self.parameters if p.key in SEEDS}
        for point in self._product(lambda p: _all_values(p)):
            if len({values[key].index(point[key]) for key in values if key in point}) < 2:
                yield point

    def structures(self) -> Iterator[Point]:
        """Yield one (central) point per combination of what decides on structure and artifacts.

        That is: names, keys of conditions, and whatever changes a shared artifact.
        """
        told = {key for p in self.parameters for key in p.when} | self._artifact_keys
        yield from self._product(
            lambda p: (
                p.values
                if p.kind == "choice" and (p.key in told or p.key.endswith(".name"))
                else (p.middle,)
            )
        )

    def continuous_artifact_keys(self) -> list[str]:
        """Return the ranges among what artifacts depend on: every trial would build its own."""
        keys = self._artifact_keys
        return [p.key for p in self.parameters if p.key in keys and p.kind != "choice"]

    def corners(self) -> Iterator[Point]:
        """Yield points that together show every choice and both ends of every range."""
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

    def _product(self, values: Callable[[Parameter], Sequence[Any]]) -> Iterator[Point]:
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


def parse_space(
    raw: Any,
    base: Callable[[str], Any],
    artifact_keys: Callable[[Sequence[Parameter]], Collection[str]] = lambda parameters: (),
) -> Space:
    """Read the `space` section.

    Args:
        raw: of a YAML.
        base: as of `Space`.
        artifact_keys: what plugins that these parameters reach declare, as of `Space`.

    Raises:
        ConfigError: every malformed parameter, unknown condition and cycle at once.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError(Problem("space", f"must be a mapping of dotted keys, but got {raw!r}"))
    problems: list[Problem] = []
    parameters: list[Parameter] = []
    for key, spec in raw.items():
        try:
            parameters.append(_parse_parameter(str(key), spec))
        except ConfigError as error:
            problems.extend(error.problems)
    for parameter in parameters:
        problems.extend(_check_conditions(parameter, parameters, base))
    if not problems:
        try:
            return Space(parameters, base, artifact_keys(parameters))
        except ConfigError as error:
            problems.extend(error.problems)
    raise ConfigError(problems)


def _parse_parameter(key: str, spec: Any) -> Parameter:
    where = f"space.{key}"
    section, _, rest = key.partition(".")
    # Of a fixed design's rows each seed may have a teacher of its own; see sweeps/fixed_design.py.
    if key not in SEEDS and (section not in _SECTIONS or not rest):
        reason = {
            "task": "a sweep has one task, so that its trials can be compared",
            "model": "a sweep has one encoder, the dense reference; compare encoders by sweeps",
            "teacher": "a sweep has one dense reference",
        }.get(section, did_you_mean(section, _SECTIONS))
        raise ConfigError(Problem(where, f"cannot be searched: {reason}"))
    parent, _, last = key.rpartition(".")
    if last in (*_KINDS, "when"):
        whole = f"'space.{parent}={{uniform: [0.2, 0.8], when: {{loss.name: rmc}}}}'"
        reason = f"'{last}' is a part of {parent}, which must be given as a whole: --set {whole}"
        raise ConfigError(Problem(where, reason))
    if not isinstance(spec, Mapping):
        raise ConfigError(Problem(where, f"must be like {{uniform: [0.2, 0.8]}}, but got {spec!r}"))
    unknown = [str(name) for name in spec if name not in (*_KINDS, "when")]
    if unknown:
        hint = did_you_mean(unknown[0], (*_KINDS, "when"))
        raise ConfigError(Problem(where, f"unknown key '{unknown[0]}': {hint}"))
    kinds: list[Kind] = [kind for kind in _KINDS if kind in spec]
    if len(kinds) != 1:
        raise ConfigError(Problem(where, f"must have exactly one of {', '.join(_KINDS)}"))
    kind = kinds[0]
    values = _parse_values(where, kind, spec[kind])
    return Parameter(key, kind, values, _parse_when(where, spec.get("when", {})))


def _parse_values(where: str, kind: Kind, given: Any) -> tuple[Any, ...]:
    if not isinstance(given, list | tuple) or not given:
        what = "a list" if not isinstance(given, list | tuple) else "a list of at least one value"
        raise ConfigError(Problem(where, f"{kind} must be {what}, but got {given!r}"))
    if kind == "choice":
        if len({repr(value) for value in given}) != len(given):
            raise ConfigError(Problem(where, f"choices must differ, but got {given!r}"))
        return tuple(given)
    numbers = [v for v in given if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(given) != 2 or len(numbers) != 2:
        raise ConfigError(Problem(where, f"{kind} must be [low, high] numbers, but got {given!r}"))
    low, high = numbers
    if not low < high or not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(Problem(where, f"{kind} must have low < high, but got {given!r}"))
    if kind == "log_uniform" and low <= 0:
        raise ConfigError(Problem(where, f"log_uniform must have low > 0, but got {given!r}"))
    if kind == "int" and not all(isinstance(v, int) for v in numbers):
        raise ConfigError(Problem(where, f"int must have whole numbers, but got {given!r}"))
    return (low, high) if kind == "int" else (float(low), float(high))


def _parse_when(where: str, given: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(given, Mapping):
        raise ConfigError(
            Problem(where, f"when must be a mapping of key: value, but got {given!r}")
        )
    return {
        str(key): tuple(value) if isinstance(value, list | tuple) else (value,)
        for key, value in given.items()
    }


def _check_conditions(
    parameter: Parameter, parameters: Sequence[Parameter], base: Callable[[str], Any]
) -> Iterator[Problem]:
    by_key = {p.key: p for p in parameters}
    where = f"space.{parameter.key}.when"
    for key, allowed in parameter.when.items():
        if key not in by_key:
            if base(key) is None:
                yield Problem(where, f"'{key}' must be a key: {did_you_mean(key, sorted(by_key))}")
            continue
        governing = by_key[key]
        for value in allowed:
            if governing.kind == "choice" and value not in governing.values:
                options = [str(v) for v in governing.values]
                yield Problem(
                    where, f"{key} never is {value!r}: {did_you_mean(str(value), options)}"
                )


def _ordered(parameters: Sequence[Parameter]) -> Iterator[Parameter]:
    """Yield parameters after those their conditions name. Raises ConfigError on a cycle."""
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
