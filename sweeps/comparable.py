"""When trials of two sweeps, or of two machines, are comparable: same model, task and data.

The location of the data is ignored, as it differs between machines; its digest decides instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Sections of a configuration that must be equal.
COMPARED = ("model", "task")


def flat(key: str, value: Any) -> dict[str, Any]:
    """Return the plain values of a section by dotted key."""
    if not isinstance(value, Mapping):
        return {key: value}
    return {k: v for part, each in value.items() for k, v in flat(f"{key}.{part}", each).items()}


def other_data(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two records were made from different data; False if either does not say.

    Args:
        own, other: `TrialRecord.data` of each.
    """
    digests = {own.get("digest"), other.get("digest")} - {None}
    return len(digests) > 1
