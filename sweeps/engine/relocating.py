"""Telling a sweep where its data lies now, after it moved or on another machine.

Only the location changes: a resume checks by digest that the samples are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from rc_core.config import fingerprint
from rc_core.errors import DataError, Problem
from rc_core.record import TrialFolder, TrialRecord
from sweeps.commands import command
from sweeps.config import SweepConfig
from sweeps.ending import confirmed_by, ending_of, keep_ending
from sweeps.folder import SweepFolder
from sweeps.remote.lease import check_free
from sweeps.remote.mirror import CONFIRM_SUFFIX

_PLACE = "task.data_dir"


def is_relocated(overrides: Sequence[str]) -> bool:
    """Tell whether the changes of a resume, `dotted.key=value`, name a location of the data."""
    return _PLACE in map(_key, overrides)


def is_only_relocated(overrides: Sequence[str]) -> bool:
    """Tell whether the changes of a resume name a location of the data, and nothing else."""
    return {_PLACE} == set(map(_key, overrides))


def _key(override: str) -> str:
    return override.partition("=")[0].strip()


@contextmanager
def asking_where(folder: SweepFolder, config: Mapping[str, Any]) -> Iterator[None]:
    """Add to an error about a stored sweep's files how to say where they lie now.

    Args:
        folder: of the sweep, or of its confirmation, which has the same location.
        config: its resolved values.

    Raises:
        DataError: as raised inside, with one more problem if a file of `task.data_dir` is named.
    """
    try:
        yield
    except DataError as error:
        place = config["task"].get("data_dir")
        named = place is not None and any(place in str(each) for each in error.problems)
        if not named or any(each.where == _PLACE for each in error.problems):
            raise
        told = command(confirmed_by(folder, config), "resume", "--set", f"{_PLACE}=FOLDER")
        where = Problem(_PLACE, f"is {place}; if the same data lies elsewhere now: {told}")
        raise DataError([*error.problems, where]) from error


def relocate(
    folder: SweepFolder,
    sweep: SweepConfig,
    *,
    take_over: bool,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Write a new `task.data_dir` into a sweep and its confirmation, and into their records.

    Left as they are, trials of the old location would count as other configurations and run again,
    and the sealed test would look for the samples there. Nothing is written if either is running.

    Args:
        folder: the sweep's.
        sweep: its configuration with the new location, whose data has been checked.
        take_over: do not check whether another machine seems to run them.
        say: told when it is done.

    Raises:
        StorageError: the sweep or its confirmation is running.
    """
    confirmation = SweepFolder(folder.path.with_name(f"{folder.name}{CONFIRM_SUFFIX}"))
    begun = (confirmation.path / "sweep.yaml").is_file()
    both = [confirmation, folder] if begun else [folder]
    for each in both:
        if each.mirror is not None and not take_over:
            check_free(each.mirror, each.path)
    endings = {each.name: ending_of(each.path) for each in both}
    with ExitStack() as held:
        for each in both:
            attempt = held.enter_context(each.driving())
            if (ending := endings[each.name]) is not None:
                # This attempt trains nothing, so the last driver's note on the end still holds.
                keep_ending(each.path, attempt, ending)
        for each in both:
            settle(each, sweep)
            values = each.read_config()
            # Last: if this is cut short before, the sweep still has its old location.
            each.write_config({**values, "task": _at(values["task"], _place(sweep))})
    for each in both:
        each.share()
    say(f"{folder.name} reads its data from {_place(sweep)} now")


def settle(folder: SweepFolder, sweep: SweepConfig) -> None:
    """Give all records of a sweep its location of the data, as a cut-short `relocate` may not have.

    Args:
        folder: of a sweep whose lock the caller holds.
        sweep: its configuration.
    """
    place = _place(sweep)
    for record in folder.records():
        if record.config["task"].get("data_dir") != place:
            # Not through the fence: a record keeps the attempt under which its trial ran.
            TrialFolder(folder.trials / record.id).commit(_moved(record, place))


def _moved(record: TrialRecord, place: str | None) -> TrialRecord:
    config = {**record.config, "task": _at(record.config["task"], place)}
    return record.model_copy(update={"config": config, "fingerprint": fingerprint(config)})


def _place(sweep: SweepConfig) -> str | None:
    found: str | None = sweep.base["task"].get("data_dir")
    return found


def _at(task: Mapping[str, Any], place: str | None) -> dict[str, Any]:
    return {**task, "data_dir": place}
