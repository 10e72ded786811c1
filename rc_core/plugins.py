"""Plugins are files: the name in the YAML is the file's name, and nothing has to be registered.

A plugin package is a folder (`rc_core.losses`, `sweeps.search`, ...). Files that start with an
underscore are shared parts and are not plugins. Exactly the named module is imported, so that an
error inside it is seen as it is.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

from rc_core.errors import ConfigError, did_you_mean


def available(package: str) -> list[str]:
    """Return the sorted plugin names of a package, without importing any of them."""
    return sorted(
        module.name
        for module in pkgutil.iter_modules([str(_folder(package))])
        if not module.name.startswith("_")
    )


def load(package: str, name: str) -> ModuleType:
    """Import the plugin `name` of `package`.

    Raises:
        ConfigError: no such plugin; names the nearest one and lists all.
    """
    # Asked for several times a trial; the folder is read only until it has been imported.
    known = sys.modules.get(f"{package}.{name}")
    if known is not None and not name.startswith("_"):
        return known
    names = available(package)
    if name not in names:
        kind = package.rpartition(".")[2]
        raise ConfigError(f"unknown {kind} '{name}': {did_you_mean(name, names)}")
    return importlib.import_module(f"{package}.{name}")


def summary(package: str, name: str) -> str:
    """Return the first line of a plugin's docstring, read without importing it."""
    source = (_folder(package) / f"{name}.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return docstring.splitlines()[0] if docstring else ""


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not a package")
    return Path(next(iter(spec.submodule_search_locations)))
