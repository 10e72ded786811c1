"""Telling a sweep's trials where their data lies now, after it moved or on another machine.

Only the location changes: a resume checks by digest that the samples are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rc_core.config import current_fingerprint
from rc_core.errors import DataError, Problem
from rc_core.record import TrialFolder, TrialRecord
from sweeps.commands import command
from sweeps.config import SweepConfig
from sweeps.ending import confirmed_by, ending_of, keep_ending
from sweeps.folder import SweepFolder
from sweeps.remote.mirror import CONFIRM_SUFFIX

_PLACE = "task.data_dir"


def is_relocated(overrides: Sequence[str]) -> bool:
    """Tell whether the changes of a resume, `dotted.key=value`, name a location of the data."""
    return any(override.partition("=")[0].strip() == _PLACE for override in overrides)


@contextmanager
def asking_where(folder: SweepFolder, config: Mapping[str, Any]) -> Iterator[None]:
    """Add to an error about a stored sweep's data how to say where the data lies now.

    Args:
        folder: of the sweep, or of its confirmation, which has the same location.
        config: its resolved values.

    Raises:
        DataError: as raised inside, with one more problem.
    """
    try:
        yield
    except DataError as error:
        place = config["task"].get("data_dir")
        if place is None:
            raise
        told = command(confirmed_by(folder, config), "resume", "--set", f"{_PLACE}=FOLDER")
        where = Problem(_PLACE, f"is {place}; if the same data lies elsewhere now: {told}")
        raise DataError([*error.problems, where]) from error


def relocate(folder: SweepFolder, sweep: SweepConfig) -> None:
    """Write a sweep's `task.data_dir` into its records, and into those of its confirmation.

    Left as they are, trials of the old location would count as other configurations and run again,
    and the sealed test would look for the samples there.

    Args:
        folder: of a sweep whose lock the caller holds.
        sweep: its configuration, with today's location.

    Raises:
        StorageError: the confirmation is running.
    """
    place = sweep.base["task"].get("data_dir")
    outdated = _outdated(folder, place)
    if not outdated:
        return
    confirmation = SweepFolder(folder.path.with_name(f"{folder.name}{CONFIRM_SUFFIX}"))
    if (confirmation.path / "sweep.yaml").is_file():
        # First, as it may be refused; what is outdated here then still is at the next resume.
        _relocate_confirmation(confirmation, place)
    _rewrite(folder, outdated, place)


def _relocate_confirmation(folder: SweepFolder, place: str | None) -> None:
    ending = ending_of(folder.path)
    with folder.driving() as attempt:
        if ending is not None:
            # This attempt trains nothing, so what its last driver noted about the end still holds.
            keep_ending(folder.path, attempt, ending)
        values = folder.read_config()
        folder.write_config({**values, "task": _at(values["task"], place)})
        _rewrite(folder, _outdated(folder, place), place)
    folder.share()


def _outdated(folder: SweepFolder, place: str | None) -> list[TrialRecord]:
    return [r for r in folder.records() if r.config["task"].get("data_dir") != place]


def _rewrite(folder: SweepFolder, records: Sequence[TrialRecord], place: str | None) -> None:
    for record in records:
        config = {**record.config, "task": _at(record.config["task"], place)}
        update = {"config": config, "fingerprint": current_fingerprint(config)}
        # Not through the fence: a record keeps the attempt under which its trial ran.
        TrialFolder(folder.trials / record.id).commit(record.model_copy(update=update))


def _at(task: Mapping[str, Any], place: str | None) -> dict[str, Any]:
    return {**task, "data_dir": place}
