"""Confirmation: new training seeds for what a sweep found, in a sweep of its own.

`<sweep>.confirm` is a fixed design of every finished configuration times the new seeds; the race
(sweeps/search/race.py) decides which of these trials are trained. It runs, packs, resumes and is
tracked like any sweep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rc_core.errors import ConfigError, Problem, StorageError, did_you_mean
from rc_core.labels import count_of
from rc_core.record import TrialRecord
from sweeps.commands import command
from sweeps.config import SweepConfig
from sweeps.ending import was_interrupted
from sweeps.engine import runner
from sweeps.engine.relocating import asking_where
from sweeps.engine.resuming import say_changed_plugins
from sweeps.folder import SweepFolder
from sweeps.plugin_configs import recorded_defaults
from sweeps.remote.mirror import CONFIRM_SUFFIX
from sweeps.sections import check_list
from sweeps.selection.answers import clusters_of, write_clusters
from sweeps.stored_sweep import StoredSweep
from sweeps.tracking.afterwards import tell_confirmed
from sweeps.views.progress import Progress

# Far from the seeds people choose, so that no confirmation repeats a search's seed by accident.
FIRST_SEED = 1_001
_SECTIONS = ("training", "compression", "loss", "difficulty")


def confirm(
    sweep: StoredSweep,
    *,
    seeds: int,
    also: Sequence[str] = (),
    whole: bool | None = None,
    hours: float | None = None,
    address: str = "local",
    progress: Progress | None = None,
) -> StoredSweep:
    """Train new seeds where the decision is open; return the confirmation.

    An existing confirmation is continued; with more seeds than before, these are added.

    Args:
        sweep: ended, with one seed per configuration; for an interrupted one a warning says how
            many trials are missing.
        seeds: maximum new seeds per configuration, at least 2.
        also: ids of trials that get all new seeds, whether or not they may be on the front.
        whole: whether the teacher and what depends on it get the new seeds too. None: as in the
            existing confirmation; for a new one, True if trials start from the teacher, whose luck
            would be in each of their seeds (`sweeps.selection.one_start`).
        hours: after this time, over all drivers, no training starts; open decisions stay open.
            None: until every decision is made.
        address: as in `runner.launch`.
        progress: as in `runner.launch`.

    Raises:
        InputError: `also` is a string, fewer than two seeds, unknown ids, another `whole` than
            before, or the sweep is itself a confirmation.
        StorageError: no compressed model finished, or the sweep is running.
    """
    progress = progress or Progress()
    folder = SweepFolder(sweep.path.with_name(sweep.name + CONFIRM_SUFFIX))
    begun = (folder.path / "sweep.yaml").is_file()
    if begun:
        before = bool(folder.read_config()["confirm"]["whole"])
        if whole not in (None, before):
            was, other = ("--whole", "--one-teacher")[:: 1 if before else -1]
            raise ConfigError(
                Problem(
                    other,
                    f"{folder.name} was begun with {was}; to go on, leave out {other}; to begin "
                    f"anew, first run: {command(folder, 'remove')}",
                )
            )
        whole = before
    elif whole is None and (whole := _some_start_from_teacher(sweep)):
        progress.say(
            "each new seed gets a teacher of its own: some trials start from it (init: teacher), "
            "and with one teacher its luck would be in every seed (--one-teacher keeps one)"
        )
    config = confirmation(sweep, seeds=seeds, also=also, whole=bool(whole), hours=hours)
    unfinished = unfinished_line(sweep)
    if unfinished is not None:
        progress.say(f"warning: {unfinished}")
    say_changed_plugins(sweep.records, progress.say)
    if begun:
        if folder.is_running():
            raise StorageError(f"{folder.name} is already running")
        with folder.driving():
            # Locked: a driver that starts meanwhile would use the configuration it read before.
            folder.write_config(_merged(folder.read_config(), config).as_dict())
        done = runner.resume(folder.path, address=address, progress=progress)
    else:
        with asking_where(sweep.folder, sweep.config):
            done = runner.launch(
                config, name=folder.name, storage=folder.storage, address=address, progress=progress
            )
    conclude(done)
    return done


def _some_start_from_teacher(sweep: StoredSweep) -> bool:
    finished = [record for record in sweep.records if record.status == "finished"]
    return any(record.config["compression"].get("init") == "teacher" for record in finished)


def unfinished_line(sweep: StoredSweep) -> str | None:
    """Say how many trials an interrupted sweep still has to run; None if it was not interrupted."""
    records = sweep.records
    if not was_interrupted(sweep.path, sweep.config, records):
        return None
    ended = sum(record.status != "running" for record in records)
    total = max(sweep.config["search"]["trials"], len(records))
    left = total - ended
    return (
        f"sweep {sweep.name} was interrupted: {left} of its {count_of(total, 'trial')} "
        f"{'is' if left == 1 else 'are'} open and will not be confirmed; to finish it first: "
        f"{command(sweep.folder, 'resume')} (or confirm again after that, which adds the new rows)"
    )


def conclude(confirmation: StoredSweep) -> None:
    """Update the sweep and its tracking after a driver of its confirmation has ended."""
    sweep = confirmation.searched
    keep_clusters(sweep)
    tell_confirmed(sweep)
    sweep.folder.share()


def keep_clusters(sweep: StoredSweep) -> None:
    """Write the clusters of dependent dev samples, which the tables' intervals need."""
    from rc_core import plugins
    from rc_core.config import PLUGIN_PACKAGES, decode
    from rc_core.data._task import DEV_ROLES, check_task

    if not sweep.folder.clusters.is_file():
        task = decode(next(iter(sweep.records)).config).task
        found = check_task(plugins.load(PLUGIN_PACKAGES["task"], task.name).load(task))
        write_clusters(sweep.folder.clusters, clusters_of(found.without_tests(), DEV_ROLES))


def confirmation(
    sweep: StoredSweep,
    *,
    seeds: int,
    also: Sequence[str] = (),
    whole: bool = False,
    hours: float | None = None,
) -> SweepConfig:
    """Return the fixed design of a confirmation: finished configurations times new seeds."""
    check_list("also", also, "t0001")
    confirmed = sweep.config.get("confirm", {}).get("sweep")
    if confirmed is not None:
        of = SweepFolder(sweep.path.with_name(confirmed))
        raise ConfigError(
            f"a confirmation cannot itself be confirmed: {sweep.name} holds the new seeds of "
            f"{confirmed}; for more seeds: {command(of, 'confirm', '--seeds', 'N')}"
        )
    if sweep.folder.is_running():
        raise StorageError(f"sweep {sweep.name} is running; confirm it when it has ended")
    finished = [record for record in sweep.records if record.status == "finished"]
    problems = [
        Problem("--also", f"no finished trial '{i}': {did_you_mean(i, [r.id for r in finished])}")
        for i in also
        if i not in {record.id for record in finished}
    ]
    if seeds < 2:
        problems.append(Problem("--seeds", f"must be at least 2 to show any noise, but is {seeds}"))
    if problems:
        raise ConfigError(problems)
    if all(record.reference for record in finished):
        raise StorageError(
            f"sweep {sweep.name} must have a finished trial of a compressed model to be confirmed, "
            f"but has none; see: {command(sweep.folder, 'status')}"
        )
    taken = {record.config["training"]["seed"] for record in finished}
    fresh = range(FIRST_SEED, FIRST_SEED + seeds + len(taken))
    chosen = [seed for seed in fresh if seed not in taken][:seeds]
    values = recorded_defaults(sweep.config, (record.config for record in finished))
    points = [_point(record, seed, whole) for record in _distinct(finished) for seed in chosen]
    values |= {
        "design": "fixed",
        "space": {},
        "search": {"name": "race", "points": points},
        "budget": {} if hours is None else {"hours": hours},
        # New seeds are trained to the end: rows are dropped by their means, never at a rung.
        "scheduler": {"name": "none"},
        "confirm": {"sweep": sweep.name, "also": list(also), "whole": whole},
    }
    return SweepConfig(values)


def _distinct(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return one record per configuration (a fixed design may hold several seeds of it)."""
    from rc_core.config import seedless

    found: dict[str, TrialRecord] = {}
    for record in records:
        found.setdefault(seedless(record.config), record)
    return list(found.values())


def _point(record: TrialRecord, seed: int, whole: bool) -> dict[str, Any]:
    """Return a trial's configuration with another seed, as a point over its sweep's base."""
    point = {
        f"{section}.{key}": value
        for section in _SECTIONS
        for key, value in record.config[section].items()
        if value is not None
    }
    point["training.seed"] = seed
    if whole:
        point["teacher.seed"] = seed
    return point


def _merged(before: Mapping[str, Any], now: SweepConfig) -> SweepConfig:
    """Return the new configuration with the old points first: their order names the trials."""
    points = list(before["search"]["points"])
    asked = now.as_dict()
    points += [point for point in asked["search"]["points"] if point not in points]
    also = list(dict.fromkeys([*before["confirm"]["also"], *asked["confirm"]["also"]]))
    asked["search"] = {"name": "race", "points": points}
    asked["confirm"] = asked["confirm"] | {"also": also}
    return SweepConfig(asked)
