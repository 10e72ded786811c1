"""The sweeps of a storage: state, progress, age and size of each.

No torch, Ray or MLflow here: `rc-sweep sweeps` and `remove` use it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rc_core.errors import RobustCompressionError
from rc_core.record import TrialRecord
from sweeps.artifact_uses import age, size, sweep_folders
from sweeps.ending import was_interrupted
from sweeps.failure import failure_of
from sweeps.folder import SweepFolder
from sweeps.names import RESERVED
from sweeps.remote.mirror import CONFIRM_SUFFIX, Mirror
from sweeps.remote.steps import Steps


@dataclass(frozen=True)
class ListedSweep:
    """One sweep of a storage; a confirmation is one too.

    Attributes:
        folder: the sweep's.
        state: `running`, `failed` (its newest driver), `interrupted` (trials are left), `done` or
            `unreadable`.
        trials: status -> number of trials.
        planned: planned number of trials; a budget or a race may end it with fewer.
        began: when its first trial started, or its folder was created; seconds since 1970.
        size: in bytes; for a storage at a URI, of the files there.
        confirmed: whether it has a confirmation.
        tested: whether its sealed test was opened.
        here_only: it lies on this machine, but not at its storage's URI.
        problem: why it failed or cannot be read, else empty.
    """

    folder: SweepFolder
    state: str
    trials: Mapping[str, int] = field(default_factory=dict)
    planned: int = 0
    began: float = 0.0
    size: int = 0
    confirmed: bool = False
    tested: bool = False
    here_only: bool = False
    problem: str = ""

    @property
    def finished(self) -> int:
        return self.trials.get("finished", 0)


def stored_sweeps(storage: Path) -> list[ListedSweep]:
    """Return the sweeps of a storage by name; for a URI, those there and those only here.

    Models are not downloaded. Sweeps that cannot be read are included.

    Raises:
        StorageError: the URI's service cannot be reached or refuses.
    """
    mirror = Mirror.at(storage)
    there: set[str] | None = None
    if mirror is not None:
        there = set(mirror.names()) - set(RESERVED)
        # A pull brings a sweep and its confirmation.
        for base in sorted({name.removesuffix(CONFIRM_SUFFIX) for name in there}):
            mirror.pull(base)
    return [
        look_at(folder, here_only=there is not None and folder.name not in there)
        for folder in sweep_folders(storage)
    ]


def look_at(folder: SweepFolder, *, here_only: bool = False) -> ListedSweep:
    """Return what is known of one sweep; damaged files raise no error.

    Args:
        folder: the sweep's.
        here_only: it is not at its storage's URI.
    """
    made = (folder.path / "sweep.yaml").stat().st_mtime
    found = ListedSweep(
        folder, "unreadable", began=made, size=_size(folder, here_only), here_only=here_only
    )
    try:
        # Asked before reading the records, as the sweep may end in between.
        running = folder.is_running()
        records, config = folder.records(), folder.read_config()
        planned, failure = int(config["search"]["trials"]), failure_of(folder.path)
        state = "running" if running else _state(folder, records, config, failure)
    except (RobustCompressionError, OSError) as error:
        return replace(found, problem=" ".join(str(error).split()))
    except (LookupError, TypeError, ValueError, AttributeError):
        return replace(found, problem="sweep.yaml must be a launched sweep's, but is not")
    confirmation = folder.path.with_name(folder.name + CONFIRM_SUFFIX)
    return replace(
        found,
        state=state,
        trials=Counter(record.status for record in records),
        planned=planned,
        began=min((record.started for record in records), default=made),
        confirmed=(confirmation / "sweep.yaml").is_file(),
        tested=folder.test.is_file(),
        problem="" if running else failure or "",
    )


def leftovers(storage: Path) -> list[Path]:
    """Return folders of sweeps whose removal was interrupted, or is in progress."""
    return sorted(storage.glob(".*.removed"))


def _state(
    folder: SweepFolder,
    records: Sequence[TrialRecord],
    config: Mapping[str, Any],
    failure: str | None,
) -> str:
    """Return the state of a sweep that no driver runs."""
    if failure is not None:
        return "failed"
    return "interrupted" if was_interrupted(folder.path, config, records) else "done"


def _size(folder: SweepFolder, here_only: bool) -> int:
    if folder.mirror is not None and not here_only:
        listed = Steps(folder.path).listed
        if listed:
            return sum(num_bytes for num_bytes, _ in listed.values())
    total = 0
    for place, _, names in os.walk(folder.path):
        for name in names:
            # Checkpoints of a running sweep may vanish.
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def as_json(found: Iterable[ListedSweep]) -> list[dict[str, Any]]:
    """Return sweeps as plain JSON values."""
    return [
        {
            "sweep": each.folder.name,
            "path": str(each.folder.path),
            "state": each.state,
            "problem": each.problem or None,
            "trials": dict(each.trials),
            "finished": each.finished,
            "planned": each.planned,
            "began": each.began,
            "bytes": each.size,
            "confirmed": each.confirmed,
            "tested": each.tested,
            "here_only": each.here_only,
        }
        for each in found
    ]


def as_text(found: Sequence[ListedSweep], where: str, left: Iterable[Path] = ()) -> str:
    """Return sweeps as lines of text, one each, and their sum.

    Args:
        found: as `stored_sweeps` returns them.
        where: the storage, as a user names it.
        left: see `leftovers`.
    """
    rest = [f"{path}: left by an interrupted removal, unless one is in progress" for path in left]
    if not found:
        return "\n".join([*rest, f"no sweeps in {where}; rc-sweep launch CONFIG makes one"])
    titles = ("sweep", "state", "finished", "age", "size", "")
    lines = [titles, *map(_cells, found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    problems = [f"{each.folder.name}: {each.problem}" for each in found if each.problem]
    total = size(sum(each.size for each in found))
    counted = "1 sweep" if len(found) == 1 else f"{len(found)} sweeps"
    return "\n".join([*shown, *problems, *rest, f"{counted} in {where}, {total}"])


def _cells(each: ListedSweep) -> tuple[str, ...]:
    failed = each.trials.get("failed", 0)
    notes = ["confirmed"] if each.confirmed else []
    notes += ["tested"] if each.tested else []
    notes += [f"{failed} failed"] if failed else []
    notes += ["on this machine only"] if each.here_only else []
    counts = "-" if each.state == "unreadable" else f"{each.finished}/{each.planned}"
    return each.folder.name, each.state, counts, age(each.began), size(each.size), ", ".join(notes)
