"""Which shared artifacts a sweep's newest preparation is about: kept beside the sweep.

    <sweep>/prepared.json   {"keys": [...], "later": {title: how many}}

Records name an artifact only once their trial has begun: until then this says that it is used.
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
        keys: of all artifacts that the sweep's open trials may read, built or not.
        later: title -> how many are left to the first trial that needs them.
    """

    keys: frozenset[str] = frozenset()
    later: Mapping[str, int] = field(default_factory=dict)


def keep_preparation(sweep: Path, found: Preparation) -> None:
    """Write what a preparation is about. Raises OSError."""
    write_json(sweep / FILE, {"keys": sorted(found.keys), "later": dict(found.later)})


def preparation_of(sweep: Path) -> Preparation:
    """Return what the newest preparation was about, nothing where there was none.

    Raises:
        StorageError: prepared.json is damaged.
    """
    found = read_json(
        sweep / FILE,
        _read,
        what="what the sweep's newest preparation was about",
        advice="remove it: what was prepared, and no trial has read, may then be pruned",
    )
    return found or Preparation()


def _read(raw: Any) -> Preparation:
    later = {str(title): int(count) for title, count in raw["later"].items()}
    return Preparation(frozenset(map(str, raw["keys"])), later)
