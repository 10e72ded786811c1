"""Which settings of a trial get a column in tracking: those in which trials differ.

A resolved configuration has some forty values, most of them the same in every trial. Tracking shows
the few that distinguish trials; the whole configuration is an artifact.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rc_core import plugins
from rc_core.config import PLUGIN_PACKAGES, TrialConfig
from rc_core.metrics.footprint import NONZERO, PACKED
from rc_core.yaml_files import lookup
from sweeps.config import SweepConfig

NAMES = ("compression.name", "loss.name")
_CHANGEABLE = ("compression", "loss", "difficulty", "training")


def shown_keys(sweep: SweepConfig) -> tuple[str, ...]:
    """Return the keys in which a sweep's trials differ, the two plugins' names first.

    These are the searched keys, and keys of the given points with more than one value.
    """
    keys = [*NAMES, *(parameter.key for parameter in sweep.space.parameters)]
    given: dict[str, set[str]] = {}
    for point in sweep.settings.search.points:
        for key, value in point.items():
            given.setdefault(key, set()).add(_comparable(value))
    for key, values in given.items():
        base = lookup(sweep.base, key)
        if len(values | ({_comparable(base)} if base is not None else set())) > 1:
            keys.append(key)
    return tuple(dict.fromkeys(keys))


def common_keys(sweep: SweepConfig) -> tuple[str, ...]:
    """Return the `shown_keys` that every trial has, whatever its compression and loss."""
    conditional = {parameter.key for parameter in sweep.space.parameters if parameter.when}
    searched = {parameter.key for parameter in sweep.space.parameters} - conditional
    sections = ("training.", "teacher.")
    return tuple(
        key
        for key in shown_keys(sweep)
        if key in NAMES or key in searched or (key.startswith(sections) and key not in conditional)
    )


def size_metric(sweep: SweepConfig) -> str:
    """Return the metric of a model's size: one that counts bits if a compression rounds weights."""
    names = {config.compression.name for config in sweep.structures()}
    plugins_of = (plugins.load(PLUGIN_PACKAGES["compression"], name) for name in names)
    return (
        PACKED if any(hasattr(each.Compression, "packed_bits") for each in plugins_of) else NONZERO
    )


def shown_values(config: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, str]:
    """Return the values of those `keys` that a trial's configuration has, numbers to six digits."""
    found = {key: lookup(config, key) for key in keys}
    return {key: _text(value) for key, value in found.items() if value is not None}


def changed_values(config: TrialConfig) -> dict[str, str]:
    """Return settings that are not defaults: `loss.alpha` -> `0.3`; without the plugins' names."""
    changed: dict[str, str] = {}
    for name in _CHANGEABLE:
        section = getattr(config, name)
        values = section.as_dict()
        for field, info in type(section).model_fields.items():
            key = info.alias or field
            if (
                field != "name"
                and values[key] is not None
                and getattr(section, field) != info.default
            ):
                changed[f"{name}.{key}"] = _text(values[key])
    return changed


def _comparable(value: Any) -> str:
    """Return a text that is the same for equal values, such as a YAML's 2 and a record's 2.0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return json.dumps(float(value) if number else value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)
