"""The base of every configuration section, and validation that reports all problems with places.

No torch here: the sweep's quick commands import this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from rc_core.errors import ConfigError, Problem, did_you_mean


class Section(BaseModel):
    """Frozen, strict (no `"3"` for 3, no `true` for 1), and an unknown key is an error."""

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


# What pydantic says of these names its own classes.
_SHAPES = {
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "tuple_type": "a list",
}
SectionT = TypeVar("SectionT", bound=Section)


def validate_section(model: type[SectionT], values: Any, where: str = "") -> SectionT:
    """Validate one section strictly; lists stand for tuples, as YAML has no tuples.

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
    problems = []
    for detail in error.errors(include_url=False):
        path = [str(part) for part in detail["loc"]]
        place = ".".join([*([where] if where else []), *path])
        if detail["type"] == "extra_forbidden":
            names = _field_names(model, path[:-1])
            message = f"unknown key '{path[-1]}': {did_you_mean(path[-1], names)}"
        elif detail["type"] == "missing":
            message = "is required, but was not given"
        elif detail["type"] in _SHAPES:
            message = f"must be {_SHAPES[detail['type']]}, but is {_short(_plain(detail['input']))}"
        else:
            text = detail["msg"].removeprefix("Value error, ").replace("Tuple ", "List ")
            message = f"{text[:1].lower()}{text[1:]}, but got {_short(_plain(detail['input']))}"
        problems.append(Problem(place, message))
    return problems


def _plain(value: Any) -> Any:
    """Return a value as the user wrote it: lists, where they stand for tuples here."""
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
    found = [annotation]
    for argument in get_args(annotation):
        found.extend(_types(argument))
    return found


def _is_model(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
