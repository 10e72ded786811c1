"""What a sweep reads from its plugins' `Config` classes, beyond validating their sections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from rc_core import plugins
from rc_core.config import ALPHA_KEYS, PLUGIN_PACKAGES, PluginConfig
from rc_core.errors import ConfigError
from rc_core.former import former, former_defaults
from sweeps.space import Parameter

# Sections of which a trial keeps only the keys that its plugin knows.
SWEPT = ("compression", "loss", "difficulty")
_ANY: TypeAdapter[Any] = TypeAdapter(Any)
# Section -> plugin -> key -> value.
Defaults = dict[str, dict[str, dict[str, Any]]]


def config_class(section: str, name: Any) -> type[PluginConfig] | None:
    """Return a plugin's `Config`; None if there is no such plugin, or it is incomplete."""
    with suppress(ConfigError):
        found: type[PluginConfig] = plugins.load(PLUGIN_PACKAGES[section], str(name)).Config
        return found
    return None


def artifact_keys(base: Callable[[str], Any], parameters: Sequence[Parameter]) -> set[str]:
    """Return the keys and sections that artifacts built before the first trial depend on.

    Declared by the plugins that points of the space may use; see `PluginConfig`.

    Args:
        base: returns the base configuration's value of a dotted key.
        parameters: those of the space.
    """
    # The key of a difficulty's outputs covers its whole section (rc_core.estimates).
    found = {"difficulty"}
    searched = {parameter.key: parameter for parameter in parameters}
    for section in SWEPT:
        for name in _values(f"{section}.name", base, searched):
            found |= declared_keys(section, name)
            config = config_class(section, name) if section == "loss" else None
            if config is not None and "alpha" in config.model_fields:
                found |= ALPHA_KEYS if "auto" in _values("loss.alpha", base, searched) else set()
    return found


def default_values(config: type[PluginConfig]) -> dict[str, Any]:
    """Return a plugin's defaults as plain values, keyed as in the YAML."""
    return {
        key: _plain(field.get_default(call_default_factory=True))
        for key, field in _keys(config).items()
        if key != "name" and not field.is_required()
    }


def _plain(value: Any) -> Any:
    """Return a value as in JSON."""
    return _ANY.dump_python(value, mode="json", by_alias=True)


def _keys(config: type[PluginConfig]) -> dict[str, FieldInfo]:
    return {field.alias or key: field for key, field in config.model_fields.items()}


def stored_defaults(known: Defaults, names: Mapping[str, Iterable[Any]]) -> Defaults:
    """Return the defaults of a sweep's plugins: the known ones, otherwise the current ones.

    Args:
        known: by section and plugin, as of the launch.
        names: by section, the plugins that its trials may use.
    """
    found: Defaults = {section: dict(each) for section, each in known.items()}
    for section, given in names.items():
        for name in dict.fromkeys(map(str, given)):
            config = config_class(section, name)
            if config is not None and name not in found.get(section, {}):
                found.setdefault(section, {})[name] = default_values(config)
    return found


def changed_defaults(known: Defaults) -> Defaults:
    """Return the defaults of a launched sweep that have changed since, or whose keys are new.

    Args:
        known: as for `stored_defaults`; plugins missing there use the current defaults.
    """
    found: Defaults = {}
    for section, name in ((section, name) for section, each in known.items() for name in each):
        config = config_class(section, name)
        if config is None:
            continue
        today, fields = default_values(config), _keys(config)
        before = _plain({**former(section, name), **known[section][name]})
        changed = {
            key: value
            for key, value in before.items()
            if key in fields and (key not in today or today[key] != value)
        }
        if changed:
            found.setdefault(section, {})[name] = changed
    return found


def recorded_defaults(
    values: Mapping[str, Any], configs: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a launched sweep's plain values, including the defaults it was launched with.

    A sweep.yaml from a version that did not write them gets those of plugins whose trials lack a
    current key, or whose defaults were different, so that further trials are trained like the
    existing ones.

    Args:
        values: those of sweep.yaml.
        configs: those of its records.
    """
    if "defaults" in values:
        return dict(values)
    found: Defaults = {}
    for section in SWEPT:
        for name in _mentioned(section, values):
            before = former_defaults(section, name)
            plugin = config_class(section, name) if before else None
            if plugin is not None:
                found.setdefault(section, {})[str(name)] = default_values(plugin) | dict(before)
    for config in configs:
        for section in PLUGIN_PACKAGES:
            own = config.get(section, {})
            name = own.get("name")
            plugin = config_class(section, name) if former(section, name) else None
            if plugin is not None and former(section, name).keys() - own.keys():
                today = default_values(plugin) | dict(former_defaults(section, name))
                stored = {key: value for key, value in today.items() if key in own}
                found.setdefault(section, {})[str(name)] = stored
    return {**values, "defaults": found} if found else dict(values)


def _mentioned(section: str, values: Mapping[str, Any]) -> set[str]:
    """Return the plugins that a sweep's plain values name, in its base, its space, its points."""
    key = f"{section}.name"
    given = [values.get(section, {}).get("name")]
    given += values.get("space", {}).get(key, {}).get("choice", [])
    given += [point.get(key) for point in values.get("search", {}).get("points", [])]
    return {str(name) for name in given if name is not None}


def declared_keys(section: str, name: Any) -> frozenset[str]:
    """Return the artifact keys that a plugin declares; empty if there is no such plugin."""
    config = config_class(section, name)
    if config is None or section != "loss":
        return frozenset() if config is None else config.artifact_keys
    # Imported here because it imports torch, which `import sweeps` must not.
    from rc_core.losses._base import KEY_OF_NEED

    needs = plugins.load(PLUGIN_PACKAGES[section], str(name)).Loss.needs
    return config.artifact_keys | {f"loss.{k}" for need, k in KEY_OF_NEED.items() if need in needs}


def _values(key: str, base: Callable[[str], Any], searched: dict[str, Parameter]) -> Iterator[Any]:
    """Yield the possible values of a key: its choices, and the base's if it may be inactive."""
    parameter = searched.get(key)
    if parameter is None or parameter.when:
        yield base(key)
    if parameter is not None and parameter.kind == "choice":
        yield from parameter.values
