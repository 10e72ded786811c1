"""Reading YAML: `include`, dotted overrides, and errors that name the place.

OmegaConf does the parsing (it reads `3e-5` as a number, which plain YAML 1.1 does not). Its
resolvers are not used: `${oc.env:TOKEN}` in a shared file would write a secret into every record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rc_core.errors import ConfigError, Problem

_MAX_BYTES = 10_000_000
# OmegaConf's default limit, against aliases that expand; one node takes at least a byte of text.
_MIN_NODES = 10_000


def read_yaml(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a configuration file, merge what it includes, then apply `key.sub=value` overrides.

    `include: [other.yaml]` is relative to the including file; mappings merge, anything else is
    replaced, and the including file wins.

    Raises:
        ConfigError: missing, empty, binary, not a mapping, a circular include, a bad override.
    """
    merged = _read(Path(path), ())
    apply_overrides(merged, overrides)
    return merged


def apply_overrides(content: dict[str, Any], overrides: Sequence[str]) -> None:
    """Apply each `key.sub=value` to a configuration, in place.

    Raises:
        ConfigError: every one that does not have this form, all at once.
    """
    problems: list[Problem] = []
    for override in overrides:
        try:
            _apply_override(content, override)
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Deep-merge two mappings; `top` wins."""
    merged = dict(base)
    for key, value in top.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def lookup(values: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key, None if there is none."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _read(path: Path, parents: tuple[Path, ...]) -> dict[str, Any]:
    """Read a file and what it includes.

    Args:
        parents: the files that include this one, to find circles.
    """
    resolved = path.resolve()
    if resolved in parents:
        chain = " -> ".join(p.name for p in (*parents, resolved))
        raise ConfigError(Problem(str(path), f"includes must not be circular, but got {chain}"))
    content = _parse(path)
    includes = content.pop("include", [])
    if isinstance(includes, str):
        includes = [includes]
    if not isinstance(includes, list) or not all(isinstance(name, str) for name in includes):
        raise ConfigError(Problem(str(path), f"include must be a list of files, got {includes!r}"))
    merged: dict[str, Any] = {}
    for name in includes:
        merged = merge(merged, _read(path.parent / name, (*parents, resolved)))
    return merge(merged, content)


def _parse(path: Path) -> dict[str, Any]:
    """Return the content of one file. Raises ConfigError."""

    def problem(message: str) -> ConfigError:
        return ConfigError(Problem(str(path), message))

    if not path.exists():
        raise problem("no such file; give the path of a YAML configuration")
    if path.is_dir():
        raise problem("must be a YAML file, but is a folder")
    if path.stat().st_size > _MAX_BYTES:
        raise problem("must be a YAML configuration, but is larger than 10 MB")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise problem(_undecoded(path, error)) from error
    except OSError as error:
        raise problem(f"cannot be read: {error.strerror}") from error
    if "\0" in text:
        raise problem("must be a YAML text file, but is binary")
    if not text.strip():
        raise problem("must hold a configuration, but is empty")
    try:
        # A long file without any alias (a confirmation of forty configurations) exceeds its limit.
        parsed = OmegaConf.create(text, max_yaml_expanded_nodes=max(_MIN_NODES, len(text)))
        content = OmegaConf.to_container(parsed, resolve=False)
    except AssertionError:
        # OmegaConf raises this for a file that is just a number.
        content = None
    except (YAMLError, OmegaConfBaseException, ValueError) as error:
        raise problem(f"is not valid YAML: {_unparsed(error, text)}") from error
    # OmegaConf turns a lone scalar into {scalar: None}.
    if not isinstance(content, dict) or list(content.values()) == [None]:
        raise problem("must be a mapping of keys to values")
    return {str(key): _plain(value, str(path)) for key, value in content.items()}


def _undecoded(path: Path, error: UnicodeDecodeError) -> str:
    """Return what a file is that is not UTF-8, and how to convert it."""
    content = path.read_bytes()
    convert = f"convert it: iconv -f {{}} -t UTF-8 {path.name} > new.yaml"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return f"must be a text file in UTF-8, but is UTF-16; {convert.format('UTF-16')}"
    if b"\0" in content:
        return "must be a YAML text file, but is binary"
    line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
    return (
        f"must be a text file in UTF-8, but line {line} is not (byte 0x{byte:02x}); "
        f"if an old Windows wrote it, {convert.format('WINDOWS-1252')}"
    )


def _unparsed(error: Exception, text: str) -> str:
    """Return the parser's message, with the offending character if it does not name it."""
    told = " ".join(str(error).replace(' in "<unicode string>", line', " at line").split())
    mark = getattr(error, "problem_mark", None)
    lines = text.splitlines()
    if mark is None or not mark.line < len(lines):
        return told
    found = lines[mark.line][mark.column : mark.column + 1]
    if found == "\t":
        return f"{told}; it is a tab: indent with spaces"
    if "cannot start any token" in told:
        return f"{told}; it is {found}: put a value that begins with it in quotes"
    return told


def _plain(value: Any, where: str) -> Any:
    """Reject interpolations; return everything else as plain Python values."""
    if isinstance(value, dict):
        return {key: _plain(item, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, where) for item in value]
    if isinstance(value, str) and "${" in value:
        raise ConfigError(Problem(where, f"'${{...}}' is not supported, but got {value!r}"))
    return value


def _apply_override(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    key = key.strip()
    if not separator or not key or not all(key.split(".")):
        raise ConfigError(
            Problem("--set", f"must look like training.epochs=3, but got {override!r}")
        )
    try:
        value = OmegaConf.to_container(OmegaConf.create(f"value: {text}"), resolve=False)
    except (YAMLError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(Problem("--set", f"{override!r} has no valid YAML value")) from error
    assert isinstance(value, dict)
    place = content
    # A key of the space is itself dotted (`space.loss.alpha=...`): all after `space.` is one key.
    parts = ["space", key[len("space.") :]] if key.startswith("space.") else key.split(".")
    for part in parts[:-1]:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise ConfigError(Problem("--set", f"{key}: '{part}' is a value, not a section"))
    place[parts[-1]] = _plain(value["value"], "--set")
