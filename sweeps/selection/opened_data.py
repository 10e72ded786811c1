"""Whether the test splits are those of the launch, and those that were opened before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rc_core.data._task import TEST_ROLES, Task, seal_name
from rc_core.errors import Problem, StorageError
from rc_core.record import TrialRecord


def opened_data(
    task: Task, document: Mapping[str, Any], records: Sequence[TrialRecord]
) -> dict[str, dict[str, Any]]:
    """Return what test.json says of each test split.

    Args:
        task: with its test roles.
        document: test.json as it is so far.
        records: of trials that are opened; what they say was read when they were trained.

    Returns:
        {split: {"samples", "counted": by the headline, "digest", "changed": since the launch}}

    Raises:
        StorageError: trials were opened on other samples: their figures would not compare.
    """
    known: dict[str, str] = {}
    for record in records:
        known |= record.data.get("sealed", {})
    found = {}
    for split in (split for role in TEST_ROLES for split in task.of_role(role)):
        digest = split.digest()[:16]
        found[split.name] = {
            "samples": len(split),
            "counted": int(split.headline_rows().sum()),
            "digest": digest,
            "changed": known.get(seal_name(split), digest) != digest,
        }
    before = document.get("data", {}) if document.get("trials") else {}
    problems = [
        Problem(
            name,
            f"must hold the samples on which trials were opened before (digest "
            f"{before[name]['digest']}), but has changed ({each['digest']}); put the old file back",
        )
        for name, each in found.items()
        if name in before and before[name]["digest"] != each["digest"]
    ]
    if problems:
        raise StorageError(problems)
    return found


def has_test(records: Iterable[TrialRecord]) -> bool:
    """Tell whether there is a test to open; so it is taken of records that do not say it yet."""
    told = [record.data["sealed"] for record in records if "sealed" in record.data]
    return not told or any(told)


def changed_splits(document: Mapping[str, Any]) -> list[str]:
    """Return the test splits that are not what they were when the sweep was launched."""
    return [name for name, each in document.get("data", {}).items() if each.get("changed")]
