"""The base of every configuration section, and validation that reports all problems with places.

This module does not import torch, because the sweep's quick commands import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from rc_core.errors import ConfigError, Problem, did_you_mean


class Section(BaseModel):
    """Frozen and strict (no `"3"` for 3, no `true` for 1); an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        validate_by_name=False,
        validate_by_alias=True,
        serialize_by_alias=True,
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
    )

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, keyed as in the YAML (`lambda`, not `lambda_`)."""
        return self.model_dump(mode="json", by_alias=True)


# pydantic's own messages for these errors name its classes.
_SHAPES = {
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "tuple_type": "a list",
}
_OF_VALIDATORS = ("value_error", "assertion_error")
_KINDS = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    NoneType: "null",
}
_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
SectionT = TypeVar("SectionT", bound=Section)


def validate_section(model: type[SectionT], values: Any, where: str = "") -> SectionT:
    """Validate one section strictly; lists are accepted for tuples, as YAML has no tuples.

    Raises:
        ConfigError: every problem of the section, each with its dotted place.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(Problem(where, f"must be a mapping, but got {values!r}"))
    try:
        return model.model_validate(_tuples(values))
    except ValidationError as error:
        raise ConfigError(_problems(model, error, where)) from None


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value


def _problems(model: type[BaseModel], error: ValidationError, where: str) -> list[Problem]:
    """Return pydantic's errors as problems, several for one key of several types made into one."""
    problems = []
    refused: set[tuple[int | str, ...]] = set()
    for detail in error.errors(include_url=False):
        loc = detail["loc"]
        union = _union(model, loc)
        if union is not None:
            # pydantic reports each member of a union separately, under its own name below the key.
            depth, members = union
            value = _at(error, loc[:depth])
            if isinstance(value, Mapping) and any(_is_model(each) for each in members):
                if len(loc) == depth + 1 and detail["type"] not in _OF_VALIDATORS:
                    continue
                loc = (*loc[:depth], *loc[depth + 1 :])
            elif loc[:depth] in refused:
                continue
            else:
                refused.add(loc[:depth])
                place = _place(where, loc[:depth])
                problems.append(Problem(place, _none_of(members, value)))
                continue
        problems.append(Problem(_place(where, loc), _message(model, detail, loc)))
    return problems


def _message(model: type[BaseModel], detail: Any, loc: tuple[int | str, ...]) -> str:
    """Return what is wrong; `loc` leads to it through fields and keys only."""
    path = [str(part) for part in loc]
    if detail["type"] == "extra_forbidden":
        return f"unknown key '{path[-1]}': {did_you_mean(path[-1], _field_names(model, path[:-1]))}"
    if detail["type"] == "missing":
        return "is required, but was not given"
    got = _short(_plain(detail["input"]))
    if detail["type"] in _SHAPES:
        return f"must be {_SHAPES[detail['type']]}, but is {got}"
    text = detail["msg"].removeprefix("Value error, ").replace("Tuple ", "List ")
    return f"{text[:1].lower()}{text[1:]}, but got {got}"


def _place(where: str, loc: tuple[int | str, ...]) -> str:
    """Return a dotted place."""
    return ".".join([*([where] if where else []), *map(str, loc)])


def _union(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[int, list[Any]] | None:
    """Return how much of a place leads to a key with a union type, and its members.

    None if no part of the place does, or all of it.
    """
    current: type[BaseModel] | None = model
    for depth, part in enumerate(loc, start=1):
        fields = {} if current is None else current.model_fields
        field = next((f for name, f in fields.items() if part in (name, f.alias)), None)
        if field is None:
            return None
        members = _members(field.annotation)
        if len([each for each in members if each is not NoneType]) > 1:
            return (depth, members) if len(loc) > depth else None
        current = next((each for each in members if _is_model(each)), None)
    return None


def _members(annotation: Any) -> list[Any]:
    """Return the members of a union, or the type itself."""
    whole = get_origin(annotation) in (Union, UnionType)
    return list(get_args(annotation)) if whole else [annotation]


def _at(error: ValidationError, place: tuple[int | str, ...]) -> Any:
    """Return the value at a key of several types, from the error of a member that is no section."""
    own = [d for d in error.errors(include_url=False) if d["loc"][: len(place)] == place]
    return next((d["input"] for d in own if len(d["loc"]) == len(place) + 1), {})


def _none_of(members: Sequence[Any], value: Any) -> str:
    """Return the message for a value that matches none of several types."""
    allowed = ", or ".join(map(_described, members))
    message = f"must be {allowed}, but is {_short(_plain(value))}"
    names = [n for each in members for n in get_args(each) if get_origin(each) is Literal]
    near = get_close_matches(value, names, n=1) if isinstance(value, str) else []
    return f"{message}; did you mean '{near[0]}'?" if near else message


def _described(member: Any) -> str:
    """Return a type in words: `a number above 0 and at most 1`, `'auto'`."""
    if get_origin(member) is Literal:
        return ", or ".join(map(repr, get_args(member)))
    if _is_model(member):
        return f"a mapping of {', '.join(_field_names(member, []))}"
    kind, *found = get_args(member) if get_origin(member) is Annotated else (member,)
    limits = [limit for each in found for limit in getattr(each, "metadata", [each])]
    bounds = [
        f"{word} {getattr(limit, name):g}"
        for limit in limits
        for name, word in _BOUNDS.items()
        if hasattr(limit, name)
    ]
    said = _KINDS.get(kind, getattr(kind, "__name__", str(kind)))
    return " ".join([said, " and ".join(bounds)]).strip()


def _plain(value: Any) -> Any:
    """Return a value as the user wrote it: with lists for the tuples used here."""
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _field_names(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the YAML names of the fields at `path` below `model` (best effort for nesting)."""
    current: type[BaseModel] | None = model
    for part in path:
        if current is None:
            break
        found: type[BaseModel] | None = None
        for name, field in current.model_fields.items():
            if part in (name, field.alias):
                found = next((t for t in _types(field.annotation) if _is_model(t)), None)
        current = found or current
    assert current is not None
    return sorted(field.alias or name for name, field in current.model_fields.items())


def _types(annotation: Any) -> list[Any]:
    """Return a type and all its arguments, recursively."""
    found = [annotation]
    for argument in get_args(annotation):
        found.extend(_types(argument))
    return found


def _is_model(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
