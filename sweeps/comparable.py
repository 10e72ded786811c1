"""When trials of two sweeps, or of two machines, compare at all: one model, one task, one data.

Where the data lies is left out: it differs between machines. The data's digest decides instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Sections of a configuration that must be equal.
COMPARED = ("model", "task")


def without_place(section: Any) -> Any:
    """Return a section (or the plain value that stands for one) without where its files lie."""
    if isinstance(section, Mapping):
        return {key: value for key, value in section.items() if key != "data_dir"}
    return section


def flat(key: str, value: Any) -> dict[str, Any]:
    """Return the plain values of a section by dotted key."""
    if not isinstance(value, Mapping):
        return {key: value}
    return {k: v for part, each in value.items() for k, v in flat(f"{key}.{part}", each).items()}


def placeless(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resolved configuration's values without where its data lies."""
    return {**config, "task": without_place(config["task"])}


def other_data(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two records' `data` say that they are of different data; not where one does not.

    Args:
        own, other: as `TrialRecord.data`.
    """
    digests = {own.get("digest"), other.get("digest")} - {None}
    return len(digests) > 1
