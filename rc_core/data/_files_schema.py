"""The parts of the `files` task's configuration: label maps, sources, roles.

Raw labels are spelled as strings, so that a configuration is the same after a round trip through
JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from rc_core.data._sources import BOOLEAN_HINT, DataFile, raw_label
from rc_core.data._task import ROLES, Role
from rc_core.schema import Section

_SUITE_NAME = re.compile(r"[A-Za-z0-9][\w-]*")


def _label_map(value: Any) -> Any:
    """Spell raw labels as `raw_label` does; a list of names maps each name to itself."""
    if isinstance(value, tuple | list):
        if any(isinstance(item, Mapping | tuple | list) for item in value):
            # As `- 0: negative` in YAML, which is a list of mappings.
            raise ValueError(
                "must be a list of names, or one mapping of what is in the file to names, "
                "{0: negative, 1: positive} (on separate lines: without dashes)"
            )
        value = {name: name for name in value}
    if not isinstance(value, Mapping):
        return value
    for raw, name in value.items():
        if not isinstance(raw, str | int):
            raise ValueError(f"labels in the file must be integers or strings, not {raw!r}")
        if isinstance(name, bool):
            raise ValueError(f"the name of label {raw!r} must be a string; {BOOLEAN_HINT}")
        if isinstance(name, int):
            raise ValueError(
                f"the name of label {raw!r} must be a text, like {{{raw!r}: good}}, or the number "
                f"in quotes, {{{raw!r}: '{name}'}}"
            )
    spelled = [raw_label(raw) for raw in value]
    if len(set(spelled)) < len(spelled):
        raise ValueError("labels in the file must differ (1 and '1' are the same)")
    return dict(zip(spelled, value.values(), strict=True))


def _name_map(value: Any) -> Any:
    if isinstance(value, Mapping) and any(
        isinstance(part, bool) for pair in value.items() for part in pair
    ):
        raise ValueError(f"must map label names to label names; {BOOLEAN_HINT}")
    return value


def _raw_labels(value: Any) -> Any:
    if isinstance(value, tuple | list) and all(isinstance(item, str | int) for item in value):
        return tuple(raw_label(item) for item in value)
    return value


def as_list(value: Any) -> Any:
    """Accept a single name for a list with that name."""
    return (value,) if isinstance(value, str) else value


def _as_source(value: Any) -> Any:
    if isinstance(value, str):
        return {"file": value}
    if not isinstance(value, Mapping | Source):
        raise ValueError("must be a path, or {file: PATH, ...}")
    return value


LabelName = Annotated[str, Field(min_length=1)]
LabelMap = Annotated[dict[str, LabelName], BeforeValidator(_label_map)]
RawLabels = Annotated[tuple[str, ...], BeforeValidator(_raw_labels)]
Names = Annotated[tuple[str, ...], BeforeValidator(as_list)]


class Source(Section):
    """One file of a role; a plain path is short for `{file: PATH}`.

    Attributes:
        file: relative to data_dir.
        text: this file's text columns, if they have other names than the task's; as many, in the
            same order.
        label: this file's column of labels, if it has another name.
        labels: raw label -> this suite's label, if it differs from the task's. For
            out-of-distribution roles only.
        drop_labels: raw labels whose rows are left out; the task's, unless `labels` is given.
        merge: task label -> suite label, for names that differ. A task label that is neither merged
            nor a suite label is always wrong. For out-of-distribution roles only.
        slice: columns by whose values results are also reported separately.
        exclude: files whose pairs are left out of this one; their text columns have the same names
            as this file's.
    """

    file: DataFile
    text: Names | None = None
    label: str | None = None
    labels: LabelMap | None = None
    drop_labels: RawLabels | None = None
    merge: Annotated[dict[str, str], BeforeValidator(_name_map)] = Field(default_factory=dict)
    slice: Names = ()
    exclude: Annotated[tuple[DataFile, ...], BeforeValidator(as_list)] = ()

    @model_serializer(mode="wrap")
    def _without_own_columns(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write columns only where there are any of its own.

        Configurations of before these keys are the same as those of today that do not use them.
        """
        written: dict[str, Any] = write(self)
        unset = {key for key in ("text", "label") if getattr(self, key) is None}
        return {key: value for key, value in written.items() if key not in unset}


def _as_suites(value: Any) -> Any:
    if not isinstance(value, Mapping):
        file = value if isinstance(value, str) else "FILE"
        raise ValueError(
            f"must give each of its suites a name, like {{my_suite: {file}}} or {{my_suite: "
            f"{{file: {file}, ...}}}}"
        )
    return value


AnySource = Annotated[Source, BeforeValidator(_as_source)]
Suites = Annotated[dict[str, AnySource], BeforeValidator(_as_suites)]


class Roles(Section):
    """Which file has which role (`rc_core.data._task`); OOD roles hold named suites.

    Attributes:
        train: what is trained on: a path, or the keys of a suite below.
        id_dev: in-distribution data that the search sees; carved from train unless given.
        ood_dev: out-of-distribution suites that the search sees, at least one, with names of your
            own: `{NAME: PATH}`, or `{NAME: {file: PATH, ...}}` with the keys below.
        id_test: in-distribution data that stays sealed until `rc-sweep test`.
        ood_test: out-of-distribution suites that stay sealed until then, given like ood_dev.
    """

    train: AnySource
    id_dev: AnySource | None = None
    ood_dev: Suites
    id_test: AnySource | None = None
    ood_test: Suites = Field(default_factory=dict)

    @field_validator("ood_dev")
    @classmethod
    def _check_any(cls, value: Suites) -> Suites:
        if not value:
            raise ValueError("must have at least one suite, {NAME: PATH}")
        return value

    @field_validator("ood_dev", "ood_test")
    @classmethod
    def _check_names(cls, value: Suites) -> Suites:
        wrong = [name for name in value if not _SUITE_NAME.fullmatch(name)]
        if wrong:
            raise ValueError(f"names of suites must be letters, digits, _ and -, not {wrong}")
        return value

    def sources(self) -> Iterator[tuple[Role, str, Source]]:
        """Yield role, suite and source of every file."""
        for role in ROLES:
            part = getattr(self, role)
            if isinstance(part, Source):
                yield role, "files", part
            else:
                for suite, source in (part or {}).items():
                    yield role, suite, source
