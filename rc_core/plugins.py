"""Plugins are files: the name in the YAML is the file's name, and nothing has to be registered.

A plugin package is a folder (`rc_core.losses`, `sweeps.search`, ...). Files that start with an
underscore are shared parts, not plugins. Only the named module is imported, so that an error in
another plugin affects nobody. What it defines is checked against the package's contract right away,
so a configuration that names an unfinished plugin is not reported as valid.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from rc_core.errors import ConfigError, Problem, did_you_mean


@dataclass(frozen=True)
class Contract:
    """Where it is stated what a plugin of a package has to define.

    Packages outside rc_core state their own: `CONTRACT` in their `_base`.

    Attributes:
        module: shared part of the package that states it.
        protocol: in that module. If its name ends in `Module`, it says what the file defines,
            otherwise what the file's class of that name does; empty: `functions` says it all.
        config: base of the file's `Config`, empty if it has none. Only a name, because its module
            imports this one.
        functions: that the file must define as well.
        instead: method of the protocol -> another one that may replace it.
    """

    module: str
    protocol: str = ""
    config: str = "PluginConfig"
    functions: tuple[str, ...] = ()
    instead: Mapping[str, str] = field(default_factory=dict)


_CONTRACTS = {
    "rc_core.compression": Contract("_base", "Compression", "CompressionConfig", ("problems",)),
    "rc_core.data": Contract("_task", "TaskModule"),
    "rc_core.difficulty": Contract("_base", "DifficultyModule"),
    "rc_core.losses": Contract("_base", "Loss", instead={"__call__": "on_model"}),
}

# Name of a module -> the checked module, and the digest of the sources it was loaded from.
_loaded: dict[str, tuple[ModuleType, str]] = {}


def kind_of(package: str) -> str:
    """Return what one plugin of a package is called, which is its section's key in YAML."""
    tail = package.rpartition(".")[2]
    return {"data": "task", "losses": "loss", "schedulers": "scheduler"}.get(tail, tail)


def not_a_mapping(section: str, given: object, package: str | None = None) -> str:
    """Return what is wrong with a section that is no mapping.

    Args:
        section: its key in YAML.
        given: what stands there instead.
        package: where its plugins are, if it names one: to say how one is named.
    """
    reason = f"must be a mapping of keys to values, but is {given!r}"
    named = package is not None and given in available(package)
    return f"{reason}; write {section}: {{name: {given}}}" if named else reason


def available(package: str) -> list[str]:
    """Return the sorted plugin names of a package, without importing any of them."""
    return sorted(
        module.name
        for module in pkgutil.iter_modules(map(str, _folders(package)))
        if not (module.ispkg or module.name.startswith("_"))
    )


def load(package: str, name: str) -> ModuleType:
    """Import the plugin `name` of `package`.

    Raises:
        ConfigError: there is no such plugin (names the nearest one and lists all), it cannot be
            imported (names the line), or as `check`.
    """
    # Called several times per trial; folder and contract are read only once.
    full = f"{package}.{name}"
    if full in _loaded and sys.modules.get(full) is _loaded[full][0]:
        return _loaded[full][0]
    names = available(package)
    if name not in names:
        raise ConfigError(f"unknown {kind_of(package)} '{name}': {did_you_mean(name, names)}")
    try:
        source = _source(package, name)
        module = importlib.import_module(full)
    except Exception as error:  # The file's own code may raise anything.
        where = f"{package.replace('.', '/')}/{name}.py"
        message = f"must be a file that Python can import, but is not: {_reason(error, name)}"
        raise ConfigError(Problem(where, message)) from error
    check(package, name, module)
    shared = _shared(package, source)
    texts = "".join([source, *(shared[each] for each in sorted(shared))])
    _loaded[full] = module, hashlib.sha256(texts.encode()).hexdigest()[:16]
    return module


def check(package: str, name: str, module: ModuleType) -> None:
    """Check that a plugin defines what its package's contract asks for, without running any of it.

    Raises:
        ConfigError: one problem for the file, with every name that is missing or wrong.
    """
    contract = _CONTRACTS.get(package)
    base = importlib.import_module(f"{package}.{contract.module if contract else '_base'}")
    contract = contract or getattr(base, "CONTRACT", None)
    if contract is None:
        return
    folder = package.replace(".", "/")
    found = [*_unfinished(module, contract, base)]
    if package == "rc_core.losses":
        found += _wrong_needs(module, base)
    if package == "rc_core.data":
        found += _wrong_texts(module)
    other = getattr(module, "OUTPUTS_OF", name)
    if package == "rc_core.difficulty" and other not in available(package):
        hint = did_you_mean(str(other), available(package))
        found.append(f"OUTPUTS_OF must name a difficulty, but is {other!r}: {hint}")
    if found:
        found.append(f"the contract is in {folder}/{contract.module}.py")
        raise ConfigError(Problem(f"{folder}/{name}.py", "; ".join(found)))


def digest(package: str, name: str) -> str:
    """Return 16 hex digits that change with any change of a plugin's file, comments included.

    The digest also covers the shared parts of its package (`_*.py`) that it imports, directly or
    through one another; it does not cover what it imports from elsewhere. It is the same wherever
    the same files are installed. It is that of the files as they were when this process loaded the
    plugin: a later edit is not what runs.

    Raises:
        ConfigError: as `load`.
    """
    load(package, name)
    return _loaded[f"{package}.{name}"][1]


def summary(package: str, name: str) -> str:
    """Return the first line of a plugin's docstring, read without importing it.

    For a file that is not valid Python, return what is wrong with it, so that a list of plugins is
    complete all the same.
    """
    try:
        docstring = ast.get_docstring(ast.parse(_source(package, name))) or ""
    except (SyntaxError, ValueError) as error:
        return f"(cannot be read: {_reason(error, name)})"
    return docstring.splitlines()[0] if docstring else ""


def _reason(error: Exception, name: str) -> str:
    """Return why a plugin's file cannot be read or imported, with the line in that file."""
    if isinstance(error, SyntaxError):
        places = [(error.filename or "", error.lineno)]
    else:
        frames = traceback.extract_tb(error.__traceback__)
        places = [(frame.filename, frame.lineno) for frame in frames]
    own = [line for file, line in places if Path(file).name in (f"{name}.py", "<unknown>")]
    text = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
    if not own:
        # None of its lines ran: it is not UTF-8 text.
        return text
    file, line = places[-1]
    deeper = "" if Path(file).name in (f"{name}.py", "<unknown>") else f", raised at {file}:{line}"
    return f"{text} (line {own[-1]}{deeper})"


def _unfinished(module: ModuleType, contract: Contract, base: ModuleType) -> Iterator[str]:
    """Yield what a plugin's file lacks according to its contract."""
    config = getattr(module, "Config", None)
    parents = [each.__name__ for each in config.__mro__] if isinstance(config, type) else []
    if contract.config and not parents:
        yield f"must define a class Config({contract.config}), but has none"
    elif contract.config and contract.config not in parents:
        yield (
            f"Config must be derived from {contract.config}, but is from {', '.join(parents[1:])}"
        )
    functions = [*contract.functions]
    # Its importance is measured before any trial runs (rc_core.importance).
    functions += ["importance"] if "UnitsConfig" in parents else []
    if contract.protocol == "Compression" and {"structure", "restore"} & vars(module).keys():
        # One needs the other: `restore` reads what `structure` returned (rc_core.models).
        functions += ["structure", "restore"]
    if contract.protocol:
        protocol = getattr(base, contract.protocol)
        asked = _methods(protocol)
        if contract.protocol.endswith("Module"):
            functions += asked
        else:
            yield from _unfinished_class(module, protocol, asked, contract.instead)
    missing = [each for each in functions if not callable(getattr(module, each, None))]
    if missing:
        yield f"must define {_called(functions)}, but lacks {_called(missing)}"


def _unfinished_class(
    module: ModuleType, protocol: Any, asked: Iterable[str], instead: Mapping[str, str]
) -> Iterator[str]:
    """Yield what the class that a contract asks for lacks."""
    name = protocol.__name__
    made = getattr(module, name, None)
    methods = ", ".join(
        f"{each} (or {instead[each]})" if each in instead else each for each in asked
    )
    if not isinstance(made, type):
        yield f"must define a class {name} with {methods}, but has none"
        return
    own = _own_methods(made, protocol)
    missing = [each for each in asked if not own & {each, instead.get(each, each)}]
    if missing:
        yield f"class {name} must define {methods}, but lacks {', '.join(missing)}"
    try:
        inspect.signature(made).bind(None)
    except TypeError:
        yield f"class {name} must be made from its Config alone: def __init__(self, config)"


def _own_methods(made: type, protocol: type) -> set[str]:
    """Return the names that a class defines, without those of the protocol and of `object`."""
    own: set[str] = set()
    for each in made.__mro__:
        if each.__module__.partition(".")[0] == "torch":
            # Calling a torch.nn.Module runs its `forward`.
            own |= {"__call__"} if "forward" in own else set()
        elif each not in (protocol, object):
            own |= vars(each).keys()
    return own


def _wrong_needs(module: ModuleType, base: ModuleType) -> Iterator[str]:
    """Yield what is wrong with a loss's `needs`."""
    made, known = getattr(module, "Loss", None), list(get_args(base.Need))
    if not isinstance(made, type):
        return
    needs = getattr(made, "needs", None)
    if not isinstance(needs, set | frozenset):
        given = "there is none" if needs is None else f"is {needs!r}"
        yield f"Loss.needs must be a frozenset of any of {', '.join(known)}, but {given}"
        return
    for need in sorted(map(str, needs)):
        key = base.KEY_OF_NEED.get(need)
        if need not in known:
            yield f"Loss.needs names '{need}', which does not exist: {did_you_mean(need, known)}"
        elif key and key not in getattr(getattr(module, "Config", None), "model_fields", {key}):
            yield f"Config must have a key '{key}', which selects the '{need}' of Loss.needs"
        elif need in base.NEEDS_OF_ON_MODEL and not hasattr(made, "on_model"):
            yield f"Loss.needs names '{need}', which only a loss with on_model can use"


def _wrong_texts(module: ModuleType) -> Iterator[str]:
    """Yield what is wrong with a task's names of its texts."""
    texts = getattr(module, "TEXTS", ("text",))
    named = isinstance(texts, tuple) and all(isinstance(each, str) and each for each in texts)
    if not named or len(texts) not in (1, 2):
        yield f"TEXTS must be a tuple of one name, or of two for pairs, but is {texts!r}"


def _called(functions: Iterable[str]) -> str:
    return ", ".join(f"{each}()" for each in functions)


def _methods(protocol: Any) -> list[str]:
    """Return the public methods of a protocol, and `__call__`."""
    return [
        key
        for key, value in vars(protocol).items()
        if inspect.isfunction(value) and (key == "__call__" or not key.startswith("_"))
    ]


def _source(package: str, name: str) -> str:
    """Return a plugin's source, with uniform line endings."""
    files = [folder / f"{name}.py" for folder in _folders(package)]
    return next(file for file in files if file.is_file()).read_text(encoding="utf-8")


def _shared(package: str, source: str) -> dict[str, str]:
    """Return the shared parts of the package that a source imports: name -> source."""
    found: dict[str, str] = {}
    waiting = [source]
    while waiting:
        for name in _imported(package, waiting.pop()) - found.keys():
            try:
                found[name] = _source(package, name)
            except StopIteration:
                # Not a file (a folder, say): treated like an import from elsewhere.
                continue
            waiting.append(found[name])
    return found


def _imported(package: str, source: str) -> set[str]:
    """Return the names of a package's shared parts that a source imports directly."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package if node.level == 1 else ""
            module = ".".join(filter(None, (start, node.module)))
            names |= {module, *(f"{module}.{each.name}" for each in node.names)}
    shared = (name.removeprefix(f"{package}.") for name in names if name.startswith(f"{package}._"))
    return {name.partition(".")[0] for name in shared}


def _folders(package: str) -> list[Path]:
    """Return the folders of a package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not a package")
    return [*map(Path, spec.submodule_search_locations)]
