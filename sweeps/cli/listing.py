"""`rc-sweep list`: what a configuration may name, and which keys each plugin has."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from rc_core import plugins
from rc_core.errors import InputError, did_you_mean
from rc_core.schema import Section
from sweeps.cli.options import JsonOption

PLUGIN_KINDS = {
    "compression": "rc_core.compression",
    "losses": "rc_core.losses",
    "tasks": "rc_core.data",
    "difficulty": "rc_core.difficulty",
    "search": "sweeps.search",
    "schedulers": "sweeps.schedulers",
}
_WORDS = {bool: "true or false", int: "integer", float: "number", str: "text", NoneType: "null"}
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_WIDTH = 100


def list_plugins(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help=" | ".join([*PLUGIN_KINDS, "metrics"]))
    ],
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One of them: say which keys it has.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List what a configuration may name (losses, tasks, ...), or the keys of one of them."""
    if kind == "metrics":
        rows = _metrics()
    elif kind in PLUGIN_KINDS:
        package = PLUGIN_KINDS[kind]
        rows = {each: plugins.summary(package, each) for each in plugins.available(package)}
    else:
        raise InputError(f"unknown kind '{kind}': {did_you_mean(kind, [*PLUGIN_KINDS, 'metrics'])}")
    if name is None:
        width = max(map(len, rows), default=0)
        lines = [f"{each:<{width}}  {text}" for each, text in rows.items()]
        typer.echo(json.dumps(rows, indent=1) if as_json else "\n".join(lines))
        return
    if name not in rows:
        raise InputError(f"{kind} has no '{name}': {did_you_mean(name, list(rows))}")
    keys = [] if kind == "metrics" else list(keys_of(kind, name))
    if as_json:
        document = {"name": name, "summary": rows[name], "keys": keys}
        typer.echo(json.dumps(document, indent=1))
    else:
        typer.echo(_text(f"{name}: {rows[name]}", keys))


def keys_of(kind: str, name: str) -> Iterator[dict[str, Any]]:
    """Yield key, type, default and meaning of everything that a plugin's section may hold."""
    if kind == "search":
        from sweeps.settings import SearchConfig

        config: type[Section] = SearchConfig  # all samplers have the same keys
    else:
        config = plugins.load(PLUGIN_KINDS[kind], name).Config
    meanings = _meanings(config)
    for field_name, field in config.model_fields.items():
        if field_name == "name":
            continue
        key = field.alias or field_name
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        yield {
            "key": key,
            "type": _type(field.annotation, field.metadata),
            "required": field.is_required(),
            "default": default.as_dict() if isinstance(default, Section) else default,
            "meaning": meanings[field_name].removeprefix(f"`{key}` in YAML: "),
        }


def _meanings(config: type[Section]) -> dict[str, str]:
    """Return attribute -> what its docstring says, those of the classes it comes from too."""
    found: dict[str, str] = {}
    for each in reversed(config.__mro__):
        text = inspect.getdoc(each) if issubclass(each, Section) else ""
        section = (text or "").partition("Attributes:\n")[2].partition("\n\n")[0]
        for part in re.split(r"\n(?=\S)", textwrap.dedent(section)):
            names, _, meaning = part.partition(":")
            words = " ".join(meaning.split())
            found |= {name.strip(): words for name in names.split(",") if words}
    return found


def _type(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Return a type as people write it: `number > 0, <= 1 | auto`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0], arguments[1:])
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " | ".join(_type(each) for each in arguments) + _bounds(metadata)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping to {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        keys = [field.alias or name for name, field in annotation.model_fields.items()]
        return "{" + ", ".join(keys) + "}"
    return _WORDS.get(annotation, "anything") + _bounds(metadata)


def _bounds(metadata: Sequence[Any]) -> str:
    """Return the bounds of a number: ` > 0, <= 1`."""
    # A `Field` inside of an `Annotated` holds its bounds itself.
    every = [each for item in metadata for each in getattr(item, "metadata", [item])]
    found = [
        f"{sign} {getattr(e, n):g}" for e in every for n, sign in _SIGNS.items() if hasattr(e, n)
    ]
    return f" {', '.join(found)}" if found else ""


def _text(title: str, keys: Sequence[dict[str, Any]]) -> str:
    lines = textwrap.wrap(title, _WIDTH)
    for key in keys:
        default = "required" if key["required"] else f"default {json.dumps(key['default'])}"
        lines += ["", f"{key['key']}: {key['type']}; {default}"]
        lines += textwrap.wrap(
            key["meaning"], _WIDTH, initial_indent="    ", subsequent_indent="    "
        )
    return "\n".join([*lines, *([] if keys else ["", "it has no keys of its own"])])


def _metrics() -> dict[str, str]:
    package = "rc_core.metrics"
    modules = [plugins.load(package, name) for name in plugins.available(package)]
    metrics = [metric for module in modules for metric in module.METRICS.values()]
    return {m.name: f"({m.direction}) {m.description}" for m in metrics}
