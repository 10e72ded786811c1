"""The sections of a sweep's base, from which trials' configurations are made, before validation.

A section may hold keys of several plugins, one of which a point of the space picks by name; keys
that it does not know are left out of the trial. A key that none of them knows is a mistake.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rc_core import plugins
from rc_core.config import DEFAULTS, PLUGIN_PACKAGES, absolute_model, decode
from rc_core.errors import ConfigError, Problem, did_you_mean
from sweeps.plugin_configs import SWEPT

TRIAL_KEYS = ("model", *DEFAULTS)
# The plugins of the dense reference.
_ALWAYS = {"compression": "dense", "loss": "vanilla"}


def base_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base as plain values, with defaults for missing sections."""
    values = {key: given.get(key, default) for key, default in DEFAULTS.items()}
    return {"model": given.get("model"), **values}


def not_mappings(given: Mapping[str, Any]) -> list[Problem]:
    """Return a problem for each section that is not a mapping."""
    return [
        Problem(key, plugins.not_a_mapping(key, value, PLUGIN_PACKAGES.get(key)))
        for key in DEFAULTS
        if key in given and not isinstance(value := given[key], Mapping)
    ]


def known_only(section: str, values: Mapping[str, Any], searched: set[str]) -> dict[str, Any]:
    """Leave out keys that the named plugin does not know, unless the point itself sets them.

    Args:
        section: one of `SWEPT`.
        values: the section's, including the plugin's name.
        searched: keys of it that the point sets.
    """
    name = values.get("name")
    names = plugins.available(PLUGIN_PACKAGES[section])
    if "name" not in searched or name not in names:
        return dict(values)
    known = _fields(section, str(name))
    return {k: v for k, v in values.items() if k in known or k in searched}


def unknown_names(base: Mapping[str, Any]) -> list[Problem]:
    """Return a problem for each section of the base whose plugin does not exist."""
    found = []
    for section in SWEPT:
        available = plugins.available(PLUGIN_PACKAGES[section])
        name = base[section].get("name")
        if name is not None and name not in available:
            hint = did_you_mean(str(name), available)
            found.append(Problem(f"{section}.name", f"unknown {section} '{name}': {hint}"))
    return found


def swept_sections(raw: Mapping[str, Any]) -> set[str]:
    """Return those of `SWEPT` that the space or a point changes; all if these are malformed."""
    space, search = raw.get("space", {}), raw.get("search", {})
    points = search.get("points", []) if isinstance(search, Mapping) else None
    if not isinstance(points, list | tuple) or not all(
        isinstance(each, Mapping) for each in (space, *points)
    ):
        return set(SWEPT)
    keys = {str(key).partition(".")[0] for each in (space, *points) for key in each}
    return keys & set(SWEPT)


def unswept_problems(base: Mapping[str, Any], swept: Collection[str]) -> list[Problem]:
    """Return problems of the sections that are the same in every trial.

    They do not depend on the space, so they are checked even if that is invalid.

    Args:
        base: the base's plain values.
        swept: those of `SWEPT` that the space or a point changes.
    """
    wrong = {problem.where.partition(".")[0] for problem in unknown_names(base)}
    alone = {key: each for key, each in base.items() if key not in wrong and key not in swept}
    if "alpha" in alone.get("loss", {}) and alone["loss"]["alpha"] == "auto":
        # The compression that alpha is chosen for follows from the space.
        del alone["loss"]
    found = _problems(alone)
    if any(problem.where.partition(".")[0] == "training" for problem in found):
        # `teacher` overrides `training`, which is invalid, so check it with the default training.
        del alone["training"]
        found += [each for each in _problems(alone) if each not in found]
    return found


def _problems(values: Mapping[str, Any]) -> list[Problem]:
    try:
        decode(values)
    except ConfigError as error:
        return error.problems
    return []


def stray_keys(base: Mapping[str, Any], names: Mapping[str, Iterable[Any]]) -> Iterator[Problem]:
    """Yield a problem for each key of a section that no plugin of the sweep knows.

    Sections whose plugin does not exist are skipped.

    Args:
        base: the base's plain values.
        names: for each of `SWEPT`, the plugins that points of the sweep name.
    """
    for section in SWEPT:
        available = plugins.available(PLUGIN_PACKAGES[section])
        own = base[section].get("name")
        if own is not None and own not in available:
            continue
        reached = {str(name) for name in (own, _ALWAYS.get(section), *names[section])}
        known = {key for name in reached & set(available) for key in _fields(section, name)}
        for key in base[section]:
            if key not in known:
                hint = did_you_mean(str(key), sorted(known))
                yield Problem(f"{section}.{key}", f"unknown key '{key}': {hint}")


def stray_point_keys(point: Mapping[str, Any], searched: Sequence[str]) -> Iterator[Problem]:
    """Yield a problem for each key of one of `search.points` that no trial has.

    Args:
        point: dotted key -> value.
        searched: keys of the space.
    """
    sections = ("training", "teacher", "compression", "loss", "difficulty")
    for key in point:
        if key.partition(".")[0] not in sections or "." not in key:
            yield Problem(f"search.points.{key}", f"unknown key: {did_you_mean(key, searched)}")


def distinct(problems: Sequence[Problem], given: Mapping[str, Any]) -> list[Problem]:
    """Keep the first of problems that differ only in the corner they were found at.

    Problems of `loss.alpha_on` are dropped if the sweep filled it in with one of its compressions
    and that has problems of its own.

    Args:
        problems: those of a sweep's configuration.
        given: its sections, each a mapping.
    """
    filled = "alpha_on" not in given.get("loss", {})
    twice = filled and any(each.where.startswith("compression") for each in problems)
    seen: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        if not (twice and problem.where.startswith("loss.alpha_on")):
            seen.setdefault((problem.where, problem.message.split(" (at ")[0]), problem)
    return list(seen.values())


def nested(path: list[str], value: Any) -> dict[str, Any]:
    """Return `value` below the keys of a path, which is not empty."""
    for part in reversed(path):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def check_overrides(overrides: Sequence[str]) -> None:
    """Raise ConfigError if overrides are a single text instead of a list."""
    check_list("overrides", overrides, "search.trials=2")


def check_list(name: str, given: Iterable[str], example: str) -> None:
    """Raise ConfigError if a list argument is a text, which Python would iterate by letter."""
    if isinstance(given, str):
        raise ConfigError(
            f"{name} must be a list, like ['{example}'], but is the text {given!r}; "
            "put it in brackets"
        )


def without_effect(overrides: Sequence[str], searched: Iterable[str]) -> list[Problem]:
    """Return a problem for each override of a value that the space replaces in every trial."""
    keys = set(searched)
    found = []
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in keys and key.partition(".")[0] in SWEPT:
            found.append(
                Problem(
                    "--set",
                    f"{key} is searched, so setting its base value has no effect; change the "
                    f"search with --set 'space.{key}={{choice: [...]}}'",
                )
            )
    return found


def _fields(section: str, name: str) -> set[str]:
    fields = plugins.load(PLUGIN_PACKAGES[section], name).Config.model_fields
    return {field.alias or key for key, field in fields.items()}


def absolute_models(raw: Any, *, named: bool = False) -> Any:
    """Replace model folders, wherever they occur, by their full paths (see `absolute_model`)."""
    if isinstance(raw, Mapping):
        # In `search.points` and `space` the key is dotted: compression.model.
        return {
            key: absolute_models(each, named=named or str(key).rpartition(".")[2] == "model")
            for key, each in raw.items()
        }
    if isinstance(raw, list | tuple):
        return [absolute_models(each, named=named) for each in raw]
    return absolute_model(raw) if named and isinstance(raw, str) else raw
