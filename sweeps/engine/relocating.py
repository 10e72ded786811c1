"""Telling a sweep's trials where their data lies now, after it moved or on another machine.

Only the location changes: a resume checks by digest that the samples are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rc_core.config import current_fingerprint
from rc_core.record import TrialFolder, TrialRecord
from sweeps.config import SweepConfig
from sweeps.ending import ending_of, keep_ending
from sweeps.folder import SweepFolder
from sweeps.remote.mirror import CONFIRM_SUFFIX

_PLACE = "task.data_dir"


def is_relocated(overrides: Sequence[str]) -> bool:
    """Tell whether the changes of a resume, `dotted.key=value`, name a location of the data."""
    return any(override.partition("=")[0].strip() == _PLACE for override in overrides)


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
