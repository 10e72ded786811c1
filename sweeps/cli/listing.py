"""`rc-sweep list`: the names a configuration may use, and the keys of plugins and sections."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel

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
# Sections that belong to no plugin; `sweep` stands for the top-level keys of a YAML.
SECTION_KINDS = ("training", "resources", "budget", "tracking", "confirm", "sweep")
_KINDS = [*PLUGIN_KINDS, *SECTION_KINDS, "metrics"]
# Top-level key -> the kind that `rc-sweep list` shows for it.
_LISTED = {
    "task": "tasks",
    "compression": "compression",
    "loss": "losses",
    "difficulty": "difficulty",
    "scheduler": "schedulers",
    **{kind: kind for kind in ("training", "search", "resources", "budget", "tracking", "confirm")},
}
# Other names of the kinds, among them the keys of a YAML.
_SYNONYMS = {
    "loss": "losses",
    **dict.fromkeys(("task", "data", "dataset", "datasets"), "tasks"),
    "compressions": "compression",
    "difficulties": "difficulty",
    **dict.fromkeys(("searches", "sampler", "samplers"), "search"),
    "scheduler": "schedulers",
    "metric": "metrics",
    "resource": "resources",
    "budgets": "budget",
    # `teacher` overrides keys of `training`.
    "teacher": "training",
    **dict.fromkeys(("sweeps", "config", "configuration", "yaml", "keys"), "sweep"),
}
# Top-level keys of a YAML that no class of sections documents, and their meanings.
_TOP = {
    "task": "the data; its other keys depend on its name.",
    "compression": "which weights are kept; its other keys depend on its name.",
    "loss": "what training minimises; its other keys depend on its name.",
    "difficulty": "how samples are rated, for losses like rmc; its other keys depend on its name.",
    "training": "how a model is fitted.",
    "space": "what is searched: key -> choice, uniform, log_uniform or int; without a space only "
    "the configuration itself is trained.",
    "include": "YAML files to start from, relative to this one, whose own keys override theirs.",
}
_WORDS = {bool: "true or false", int: "integer", float: "number", str: "text", NoneType: "null"}
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_WIDTH = 100


def list_plugins(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help=" | ".join(_KINDS) + "; all if left out.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Show the keys of this plugin, or all about a key."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the names a configuration may use (losses, tasks, ...), or the keys of a section."""
    if kind is None:
        _list_kinds(as_json)
        return
    kind = _SYNONYMS.get(kind.lower(), kind)
    if (
        name is None
        and kind not in _KINDS
        and any(each["key"] == kind for each in section_keys("sweep"))
    ):
        # A top-level key of a YAML that is not a section.
        kind, name = "sweep", kind
    if kind in SECTION_KINDS:
        _list_section(kind, name, as_json)
        return
    if kind == "metrics":
        rows = _metrics()
    elif kind in PLUGIN_KINDS:
        package = PLUGIN_KINDS[kind]
        rows = {each: plugins.summary(package, each) for each in _names(kind)}
    else:
        raise InputError(f"unknown kind '{kind}': {did_you_mean(kind, _KINDS)}")
    if name is None:
        width = max(map(len, rows), default=0)
        lines = [f"{each:<{width}}  {text}" for each, text in rows.items()]
        if kind == "search":
            lines.append("All have the same keys: rc-sweep list search tpe")
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


def _list_kinds(as_json: bool) -> None:
    """Print the members of each kind: names of plugins and metrics, keys of sections."""
    names = {
        **{kind: _names(kind) for kind in PLUGIN_KINDS},
        **{kind: [each["key"] for each in section_keys(kind)] for kind in SECTION_KINDS},
        "metrics": list(_metrics()),
    }
    if as_json:
        typer.echo(json.dumps(names, indent=1))
        return
    width = max(map(len, names)) + 2
    for kind, each in names.items():
        text = textwrap.fill(", ".join(each), _WIDTH - width, break_on_hyphens=False)
        typer.echo(f"{kind:<{width}}" + textwrap.indent(text, " " * width).lstrip())
    typer.echo("Descriptions: rc-sweep list KIND; the keys of one: rc-sweep list KIND NAME")


def _names(kind: str) -> list[str]:
    """Return the plugins of a kind that a YAML may name; `race` is only for rc-sweep confirm."""
    return [each for each in plugins.available(PLUGIN_KINDS[kind]) if each != "race"]


def keys_of(kind: str, name: str) -> Iterator[dict[str, Any]]:
    """Yield key, type, default and meaning of each key of a plugin's section."""
    if kind == "search":
        from sweeps.settings import SearchConfig

        config: type[Section] = SearchConfig  # all samplers have the same keys
    else:
        config = plugins.load(PLUGIN_KINDS[kind], name).Config
    for entry in _keys(config):
        if entry["key"] != "name":
            yield entry
            yield from _inside(config, entry["key"])


def _inside(config: type[Section], key: str) -> Iterator[dict[str, Any]]:
    """Yield the keys of the section nested in a plugin's key, and of the sections named in it."""
    field = next(f for name, f in config.model_fields.items() if (f.alias or name) == key)
    shown: set[type[Section]] = set()
    for section in filter(_is_section, (field.annotation, *get_args(field.annotation))):
        for entry in _keys(section, within=f"{key}."):
            yield entry
            inner = section.model_fields[entry["key"].rpartition(".")[2]]
            named = next(iter(_named_sections(inner.annotation)), None)
            if named is not None and named not in shown:
                shown.add(named)
                yield from _keys(named, within=f"{entry['key']}.NAME.")


def _named_sections(annotation: Any) -> Iterator[type[Section]]:
    """Yield the class of a mapping's values if they are sections."""
    if get_origin(annotation) is Annotated:
        yield from _named_sections(get_args(annotation)[0])
    elif get_origin(annotation) is dict:
        leads = get_args(annotation)[1]
        leads = get_args(leads)[0] if get_origin(leads) is Annotated else leads
        yield from (leads,) if _is_section(leads) else ()


def section_keys(kind: str) -> Iterator[dict[str, Any]]:
    """Yield what `keys_of` does for a section without a plugin, with nested keys dotted.

    Args:
        kind: one of `SECTION_KINDS`.
    """
    from rc_core.config import TrainingConfig, TrialConfig
    from sweeps import settings

    if kind == "sweep":
        known = _meanings(TrialConfig)
        for key in ("model", "teacher"):
            # They have no class of their own; the meaning is the same as for a trial.
            yield _top(key, known[key], required=key == "model")
        yield from (_top(key, meaning) for key, meaning in _TOP.items())
        for entry in _keys(settings.SweepSettings):
            yield entry | {"meaning": _pointed(entry["key"], entry["meaning"])}
        return
    classes: dict[str, type[Section]] = {
        "training": TrainingConfig,
        "resources": settings.ResourcesConfig,
        "budget": settings.BudgetConfig,
        "tracking": settings.TrackingConfig,
        "confirm": settings.ConfirmConfig,
    }
    yield from _keys(classes[kind], unfold=True)


def _top(key: str, meaning: str, *, required: bool = False) -> dict[str, Any]:
    """Return the entry of a top-level key that is not a field of SweepSettings."""
    from rc_core.config import DEFAULTS

    kind = {"model": "text", "include": "list of text"}.get(key, "mapping")
    default = None if required else DEFAULTS.get(key, [] if key == "include" else {})
    return {
        "key": key,
        "type": kind,
        "required": required,
        "default": default,
        "meaning": _pointed(key, meaning),
    }


def _pointed(key: str, meaning: str) -> str:
    """Return the meaning of a section, followed by the command that lists its keys."""
    if key not in _LISTED:
        return meaning
    return f"{meaning.removesuffix('.')}: rc-sweep list {_LISTED[key]}"


def _list_section(kind: str, name: str | None, as_json: bool) -> None:
    """Print the keys of a section, one per line, or everything about a single key."""
    keys = {entry["key"]: entry for entry in section_keys(kind)}
    if name is not None:
        if name not in keys:
            raise InputError(f"{kind} has no key '{name}': {did_you_mean(name, list(keys))}")
        shown = [keys[name]]
    else:
        shown = list(keys.values())
    if as_json:
        typer.echo(json.dumps({"name": kind, "keys": shown}, indent=1))
    elif name is not None:
        typer.echo(_text("", shown).strip())
    else:
        names = {key: f"{key} {_default(entry)}" for key, entry in keys.items()}
        width = max(map(len, names.values()))
        lines = [f"{names[key]:<{width}}  {entry['meaning']}" for key, entry in keys.items()]
        typer.echo("\n".join(lines))


def _default(entry: Mapping[str, Any]) -> str:
    """Return a key's default for a table; empty for a section, whose keys have their own."""
    if entry["required"]:
        return "(required)"
    if isinstance(entry["default"], Mapping):
        return ""
    return f"({json.dumps(entry['default'])})"


def _keys(
    config: type[Section], *, unfold: bool = False, within: str = ""
) -> Iterator[dict[str, Any]]:
    """Yield key, type, default and meaning of a section's keys.

    Args:
        config: its class.
        unfold: also yield the keys of nested sections, dotted.
        within: prefix of the keys.
    """
    meanings = _meanings(config)
    for field_name, field in config.model_fields.items():
        key = field.alias or field_name
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        yield {
            "key": f"{within}{key}",
            "type": _type(field.annotation, field.metadata),
            "required": field.is_required(),
            "default": default.as_dict() if isinstance(default, Section) else default,
            "meaning": meanings.get(field_name, "").removeprefix(f"`{key}` in YAML: "),
        }
        inside = [t for t in (field.annotation, *get_args(field.annotation)) if _is_section(t)]
        for each in inside if unfold else ():
            yield from _keys(each, unfold=True, within=f"{within}{key}.")


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _meanings(config: type[BaseModel]) -> dict[str, str]:
    """Return attribute -> its meaning in the docstring of the class or of its base classes."""
    found: dict[str, str] = {}
    for each in reversed(config.__mro__):
        own = issubclass(each, BaseModel) and each is not BaseModel
        text = inspect.getdoc(each) if own else ""
        section = (text or "").partition("Attributes:\n")[2].partition("\n\n")[0]
        for part in re.split(r"\n(?=\S)", textwrap.dedent(section)):
            names, _, meaning = part.partition(":")
            words = " ".join(meaning.split())
            found |= {name.strip(): words for name in names.split(",") if words}
    return found


def _type(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Return a type in words: `number > 0, <= 1 | auto`."""
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
    if _is_section(annotation):
        keys = [field.alias or name for name, field in annotation.model_fields.items()]
        return "{" + ", ".join(keys) + "}"
    return _WORDS.get(annotation, "anything") + _bounds(metadata)


def _bounds(metadata: Sequence[Any]) -> str:
    """Return the bounds of a number: ` > 0, <= 1`."""
    # A `Field` inside an `Annotated` holds its bounds in its own metadata.
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
    return "\n".join([*lines, *([] if keys else ["", "no keys of its own"])])


def _metrics() -> dict[str, str]:
    package = "rc_core.metrics"
    modules = [plugins.load(package, name) for name in plugins.available(package)]
    metrics = [metric for module in modules for metric in module.METRICS.values()]
    return {m.name: f"({m.direction}) {m.description}" for m in metrics}
