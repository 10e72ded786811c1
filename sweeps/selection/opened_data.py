"""Whether the test splits are those of the launch and of earlier openings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rc_core.data._task import TEST_ROLES, Task, seal_name
from rc_core.errors import Problem, StorageError
from rc_core.record import TrialRecord, sealed_digests


def opened_data(
    task: Task, document: Mapping[str, Any], records: Sequence[TrialRecord]
) -> dict[str, dict[str, Any]]:
    """Return what test.json records of each test split.

    Args:
        task: with its test roles.
        document: test.json as it is so far.
        records: of the trials to open; they hold the digests read when they were trained.

    Returns:
        {split: {"samples", "counted": by the headline, "digest", "changed": since the launch}}

    Raises:
        StorageError: a split of the launch is missing, or earlier trials were opened on other
            samples, so figures would not compare.
    """
    known = sealed_digests(records)
    found = {}
    splits = [split for role in TEST_ROLES for split in task.of_role(role)]
    for split in splits:
        digest = split.digest()[:16]
        found[split.name] = {
            "samples": len(split),
            "counted": int(split.headline_rows().sum()),
            "digest": digest,
            # Records of early versions have no digests.
            "changed": bool(known) and known.get(seal_name(split)) != digest,
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
    problems += [
        Problem(name, "must hold the test samples of the launch, but is missing; put the file back")
        for name in sorted(known.keys() - {seal_name(split) for split in splits})
    ]
    if problems:
        raise StorageError(problems)
    return found


def has_test(records: Iterable[TrialRecord]) -> bool:
    """Tell whether there is a test to open; assumed if the records are too old to say."""
    told = [record.data["sealed"] for record in records if "sealed" in record.data]
    return not told or any(told)


def changed_splits(document: Mapping[str, Any]) -> list[str]:
    """Return the test splits that have changed since the sweep was launched."""
    return [name for name, each in document.get("data", {}).items() if each.get("changed")]
