"""What a sweep asks of its plugins' `Config` classes, beyond the validation of their sections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from rc_core import plugins
from rc_core.config import ALPHA_KEYS, PLUGIN_PACKAGES, PluginConfig
from rc_core.errors import ConfigError
from sweeps.space import Parameter

# What a trial holds of these depends on the plugin that a point names.
SWEPT = ("compression", "loss", "difficulty")


def config_class(section: str, name: Any) -> type[PluginConfig] | None:
    """Return a plugin's `Config`; None where there is no such plugin, or it is unfinished."""
    with suppress(ConfigError):
        found: type[PluginConfig] = plugins.load(PLUGIN_PACKAGES[section], str(name)).Config
        return found
    return None


def artifact_keys(base: Callable[[str], Any], parameters: Sequence[Parameter]) -> set[str]:
    """Return the keys and sections that name what is built before the first trial.

    As the plugins declare them which points of the space reach; see `PluginConfig`.

    Args:
        base: returns the base configuration's value of a dotted key.
        parameters: of the space.
    """
    # A difficulty's outputs are stored under all of its section (rc_core.estimates).
    found = {"difficulty"}
    searched = {parameter.key: parameter for parameter in parameters}
    for section in SWEPT:
        for name in _values(f"{section}.name", base, searched):
            found |= declared_keys(section, name)
            config = config_class(section, name) if section == "loss" else None
            if config is not None and "alpha" in config.model_fields:
                found |= ALPHA_KEYS if "auto" in _values("loss.alpha", base, searched) else set()
    return found


def declared_keys(section: str, name: Any) -> frozenset[str]:
    """Return what a plugin says of the artifacts behind its trials; nothing where it is none."""
    config = config_class(section, name)
    if config is None or section != "loss":
        return frozenset() if config is None else config.artifact_keys
    # Torch, which a configuration loads with its plugins, but `import sweeps` does not.
    from rc_core.losses._base import KEY_OF_NEED

    needs = plugins.load(PLUGIN_PACKAGES[section], str(name)).Loss.needs
    return config.artifact_keys | {f"loss.{k}" for need, k in KEY_OF_NEED.items() if need in needs}


def _values(key: str, base: Callable[[str], Any], searched: dict[str, Parameter]) -> Iterator[Any]:
    """Yield what a key may be: the choices of a parameter, and the base's where none is active."""
    parameter = searched.get(key)
    if parameter is None or parameter.when:
        yield base(key)
    if parameter is not None and parameter.kind == "choice":
        yield from parameter.values
