"""Which shared artifacts a sweep's newest preparation planned, stored in its folder.

    <sweep>/prepared.json   {"keys": [...], "later": {title: how many}}

A record names an artifact only once its trial has begun; until then, this file marks it as used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rc_core.atomic import write_json
from sweeps.json_files import read_json

FILE = "prepared.json"


@dataclass(frozen=True)
class Preparation:
    """What was planned.

    Attributes:
        keys: keys of all artifacts that the sweep's open trials may read, built or not.
        later: title -> number left to the first trial that needs them.
    """

    keys: frozenset[str] = frozenset()
    later: Mapping[str, int] = field(default_factory=dict)


def keep_preparation(sweep: Path, found: Preparation) -> None:
    """Write what a preparation planned. Raises OSError."""
    write_json(sweep / FILE, {"keys": sorted(found.keys), "later": dict(found.later)})


def preparation_of(sweep: Path) -> Preparation:
    """Return what the newest preparation planned, empty if there was none.

    Raises:
        StorageError: prepared.json is damaged.
    """
    found = read_json(
        sweep / FILE,
        _read,
        what="the plan of the sweep's newest preparation",
        advice="remove it; prepared artifacts that no trial has read may then be pruned",
    )
    return found or Preparation()


def _read(raw: Any) -> Preparation:
    later = {str(title): int(count) for title, count in raw["later"].items()}
    return Preparation(frozenset(map(str, raw["keys"])), later)
