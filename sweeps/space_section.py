"""Reading the `space` section of a YAML: its parameters, and conditions that can never hold.

A parameter whose condition never holds would silently never be searched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from rc_core import plugins
from rc_core.config import PLUGIN_PACKAGES
from rc_core.errors import ConfigError, Problem, did_you_mean
from sweeps.space import SEEDS, Kind, Parameter, Space

_KINDS: tuple[Kind, ...] = ("choice", "uniform", "log_uniform", "int")
_SECTIONS = ("training", "compression", "loss", "difficulty")


def read_space(
    raw: Any,
    base: Callable[[str], Any],
    artifact_keys: Callable[[Sequence[Parameter]], Collection[str]] = lambda parameters: (),
    *,
    wrong: Collection[str] = (),
    launched: bool = False,
) -> tuple[Space, list[Problem]]:
    """Return what can be read of the `space` section, and all its problems.

    A malformed parameter is left out, so that it does not hide other problems. The space is empty
    if the section is not a mapping, or its conditions are circular.

    Args:
        raw: the section in a YAML.
        base: as for `Space`.
        artifact_keys: returns the keys declared by the plugins in use, as for `Space`.
        wrong: keys whose value in the base is invalid, so conditions on them cannot be judged.
        launched: the sweep exists already; skip checks that an earlier version did not make, as
            they must not block access to its trials.
    """
    empty = Space((), base)
    if not isinstance(raw, Mapping):
        return empty, [Problem("space", f"must be a mapping of dotted keys, but got {raw!r}")]
    problems: list[Problem] = []
    parameters: list[Parameter] = []
    for key, spec in raw.items():
        try:
            parameters.append(_parse_parameter(str(key), spec))
        except ConfigError as error:
            problems.extend(error.problems)
    try:
        space = Space(parameters, base, artifact_keys(parameters))
    except ConfigError as error:
        return empty, [*problems, *error.problems]
    if launched:
        return space, problems
    # Conditions on a malformed parameter cannot be judged.
    by_key = {parameter.key: parameter for parameter in parameters}
    unread = {*map(str, raw), *wrong} - by_key.keys()
    # Nor can conditions on a plugin name among misspelt choices: a correct condition might be
    # reported as wrong. Validating the trial with that choice names the misspelt one.
    unread |= {parameter.key for parameter in parameters if _names_none(parameter)}
    told = set(unread)
    for parameter in parameters:
        if unread.isdisjoint(parameter.when):
            found = [*_wrong_conditions(parameter, by_key, base)]
            told |= {parameter.key} if found else set()
            problems.extend(found)
        else:
            told.add(parameter.key)
    return space, [*problems, *_never_active(space, told)]


def _names_none(parameter: Parameter) -> bool:
    """Tell whether a choice of plugins contains one that does not exist."""
    section, _, rest = parameter.key.partition(".")
    if rest != "name" or section not in PLUGIN_PACKAGES:
        return False
    return not {*map(str, parameter.values)} <= {*plugins.available(PLUGIN_PACKAGES[section])}


def _parse_parameter(key: str, spec: Any) -> Parameter:
    where = f"space.{key}"
    section, _, rest = key.partition(".")
    # In a fixed design each seed may have its own teacher; see sweeps/fixed_design.py.
    if key not in SEEDS and (section not in _SECTIONS or not rest):
        reason = {
            "task": "a sweep has one task, so that its trials can be compared",
            "model": "a sweep has one dense reference; compare encoders with one sweep each",
            "teacher": "a sweep has one dense reference",
        }.get(section, did_you_mean(section, _SECTIONS))
        raise ConfigError(Problem(where, f"cannot be searched: {reason}"))
    parent, _, last = key.rpartition(".")
    if last in (*_KINDS, "when"):
        whole = f"'space.{parent}={{uniform: [0.2, 0.8], when: {{loss.name: rmc}}}}'"
        reason = f"'{last}' is part of {parent}, which must be given as a whole: --set {whole}"
        raise ConfigError(Problem(where, reason))
    if not isinstance(spec, Mapping):
        raise ConfigError(
            Problem(where, f"must look like {{uniform: [0.2, 0.8]}}, but got {spec!r}")
        )
    unknown = [str(name) for name in spec if name not in (*_KINDS, "when")]
    if unknown:
        hint = did_you_mean(unknown[0], (*_KINDS, "when"))
        raise ConfigError(Problem(where, f"unknown key '{unknown[0]}': {hint}"))
    kinds: list[Kind] = [kind for kind in _KINDS if kind in spec]
    problems: list[Problem] = []
    values: tuple[Any, ...] = ()
    when: dict[str, tuple[Any, ...]] = {}
    if len(kinds) != 1:
        problems.append(Problem(where, f"must have exactly one of {', '.join(_KINDS)}"))
    else:
        try:
            values = _parse_values(where, kinds[0], spec[kinds[0]])
        except ConfigError as error:
            problems.extend(error.problems)
    try:
        when = _parse_when(where, spec.get("when", {}))
    except ConfigError as error:
        problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    return Parameter(key, kinds[0], values, when)


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


def _wrong_conditions(
    parameter: Parameter, by_key: Mapping[str, Parameter], base: Callable[[str], Any]
) -> Iterator[Problem]:
    """Yield problems of each single condition of a parameter."""
    where = f"space.{parameter.key}.when"
    for key, allowed in parameter.when.items():
        governing = by_key.get(key)
        if governing is None:
            yield from _of_fixed(where, key, allowed, base(key), sorted(by_key))
            continue
        # If that parameter is inactive, the base's value counts.
        other = [base(key)] if governing.when else []
        for value in allowed:
            if value in other or _may_be(governing, value):
                continue
            if governing.kind == "choice":
                hint = did_you_mean(str(value), [str(v) for v in governing.values])
            else:
                hint = f"it is drawn as {governing.kind}: [{governing.low}, {governing.high}]"
                hint += "" if governing.kind == "int" else "; conditions need a choice"
            yield Problem(where, f"{key} is never {value!r}: {hint}")


def _of_fixed(
    where: str, key: str, allowed: tuple[Any, ...], value: Any, searched: Sequence[str]
) -> Iterator[Problem]:
    """Yield why a condition on a key that is not searched never holds."""
    if value is None:
        hint = did_you_mean(key, searched)
        yield Problem(
            where,
            f"'{key}' must be a searched key, or have a value in the YAML: {hint}",
        )
    elif value not in allowed:
        asked = " or ".join(map(repr, allowed)) or "any value"
        choices = ", ".join(map(str, (value, *allowed)))
        search = f"search it (space.{key}: {{choice: [{choices}]}}), or "
        searchable = key.partition(".")[0] in _SECTIONS
        yield Problem(
            where,
            f"never holds: {key} is not searched, so it is always {value!r}, never {asked}; "
            f"{search if searchable else ''}leave this parameter out",
        )


def _may_be(parameter: Parameter, value: Any) -> bool:
    """Tell whether a parameter can be exactly a value, which a continuous one never is."""
    if parameter.kind == "choice":
        return value in parameter.values
    return parameter.kind == "int" and parameter.contains(value)


def _never_active(space: Space, told: Collection[str]) -> Iterator[Problem]:
    """Yield problems of parameters whose conditions can hold singly, but never together.

    Args:
        space: any.
        told: keys of parameters whose conditions were reported already; those that depend on them
            are skipped.
    """
    by_key = {parameter.key: parameter for parameter in space.parameters}
    whens = [each.when for each in by_key.values()]
    asked = [(key, value) for when in whens for key, each in when.items() for value in each]

    def values(parameter: Parameter) -> Sequence[Any]:
        if parameter.kind == "choice":
            return parameter.values
        named = [v for key, v in asked if key == parameter.key and _may_be(parameter, v)]
        return [*named, parameter.middle]

    for parameter in by_key.values():
        above = _above(parameter, by_key)
        if not above or not {parameter.key, *above}.isdisjoint(told):
            continue
        part = Space([by_key[key] for key in above], space.base)
        if not any(parameter.active(point, space.base) for point in part.product(values)):
            shown = ", ".join(f"{k}: {' or '.join(map(str, v))}" for k, v in parameter.when.items())
            yield Problem(
                f"space.{parameter.key}.when",
                f"never holds: no point of the space has {{{shown}}}, because of the conditions of "
                f"{', '.join(above)}; change one of them, or leave this parameter out",
            )


def _above(parameter: Parameter, by_key: Mapping[str, Parameter]) -> list[str]:
    """Return the searched keys on which a parameter depends, directly or indirectly."""
    found: dict[str, None] = {}
    waiting = [*parameter.when]
    while waiting:
        key = waiting.pop()
        if key in by_key and key not in found:
            found[key] = None
            waiting += by_key[key].when
    return sorted(found)


def affected(problems: Sequence[Problem]) -> tuple[str, ...]:
    """Return prefixes of the places in a trial that cannot be judged because of a space's problems.

    A single empty prefix, which matches every place, if nothing that is searched can be judged.

    Args:
        problems: those of `read_space`, and others of single parameters.
    """
    if not all(problem.where.startswith("space.") for problem in problems):
        return ("",)
    sections = {problem.where.split(".")[1] for problem in problems}
    # Alpha is chosen for the sweep's cheapest compression.
    more = ("loss.alpha_on.",) if "compression" in sections else ()
    return (*(f"{section}." for section in sorted(sections)), *more)
