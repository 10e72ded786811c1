"""Launching and resuming a sweep on Ray.

A resume never uses Ray's pickled state: every attempt is a new Ray experiment of the sweep, fed
from our own records (see sweeps/engine/assignments.py).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray import tune

from rc_core import plugins
from rc_core.record import TrialRecord
from sweeps.commands import command
from sweeps.config import SweepConfig
from sweeps.ending import has_ended, keep_ending
from sweeps.engine.assignments import Assignments
from sweeps.engine.attempt import (
    SweepIncomplete,
    interrupted,
    new_folder,
    tracked,
)
from sweeps.engine.budget import Usage
from sweeps.engine.cluster import alive_nodes, check_room, check_storage, connected, usage
from sweeps.engine.data_check import check_same_data, data_warnings
from sweeps.engine.launch_check import as_config, check_confirmed, check_launch
from sweeps.engine.packing import resolve
from sweeps.engine.prepare import prepare
from sweeps.engine.ray_bridge import AssignmentSearcher, DriverCallback, many_may_wait, memory_told
from sweeps.engine.ray_scheduler import InOrderScheduler, RungScheduler
from sweeps.engine.relocating import (
    asking_where,
    is_only_relocated,
    is_relocated,
    relocate,
    settle,
)
from sweeps.engine.resuming import changed, make_ready, say_changed_plugins, take_on
from sweeps.engine.retry import open_again
from sweeps.engine.rungs import RungRule
from sweeps.engine.slots import Slots
from sweeps.engine.trainable import TrialTrainable
from sweeps.engine.warm_start import tell_known
from sweeps.failure import came_to_nothing
from sweeps.folder import SweepFolder
from sweeps.remote.uploads import uploading
from sweeps.search._checked import made_proposals
from sweeps.storages import storage_root
from sweeps.stored_sweep import StoredSweep
from sweeps.tracking.events import SweepEvents
from sweeps.views.progress import Progress


def launch(
    config: str | Path | Mapping[str, Any] | SweepConfig,
    *,
    name: str | None = None,
    overrides: Sequence[str] = (),
    storage: str | Path | None = None,
    address: str = "local",
    progress: Progress | None = None,
    stem: str | None = None,
) -> StoredSweep:
    """Run a new sweep to its end and return it.

    Args:
        config: YAML file, plain values, or a validated configuration.
        name: name of the sweep; by default `<yaml stem>-<n>`.
        overrides: `dotted.key=value`, as with `--set`; for a file or plain values.
        storage: folder or URI of all sweeps; by default the YAML's, RC_STORAGE, ./rc_storage.
        address: `local` starts Ray here; `auto` or `HOST:PORT` joins a running cluster.
        progress: where lines and the live view go; by default this terminal.
        stem: stem of the default name; by default the file's.

    Raises:
        InputError: the configuration, the name or the requested resources are wrong; nothing ran.
        TrialError: the health gate stopped the sweep.
        SweepInterrupted: Ctrl-C; `resume` continues.
        SweepIncomplete: a storage at a URI failed at the end; `resume` continues.
    """
    started = time.monotonic()
    sweep = as_config(config, overrides)
    if stem is None:
        stem = Path(config).stem if isinstance(config, str | Path) else "sweep"
    root = storage_root(storage or sweep.settings.storage)
    task = check_launch(sweep, root, stem=stem, name=name, address=address)
    progress = progress or Progress()
    # A confirmation trains on what its sweep did, and the launch of that has warned already.
    if sweep.settings.confirm.sweep is None:
        for line in data_warnings(sweep, task):
            progress.say(f"warning: {line}")
    folder: SweepFolder | None = None
    try:
        with connected(address, progress.say):
            check_room(sweep.settings.resources, wait=address != "local", say=progress.say)
            if name is not None and came_to_nothing(root / name):
                progress.say(f"replacing {name}, which failed before its first trial")
            with new_folder(root, name, stem, sweep) as folder:
                return _begin(sweep, folder, address, progress, started)
    except KeyboardInterrupt:
        raise interrupted(folder) from None


def resume(
    path: str | Path,
    *,
    storage: str | Path | None = None,
    address: str = "local",
    overrides: Sequence[str] = (),
    retry_failed: bool = False,
    take_over: bool = False,
    progress: Progress | None = None,
) -> StoredSweep:
    """Continue a sweep: finished trials count, unfinished ones run first, then the rest.

    Args:
        path, storage: the sweep's folder, or its name in the storage.
        address: as for `launch`.
        overrides: `dotted.key=value` for how it runs, kept from now on; see
            `sweeps.engine.resuming.CHANGEABLE`.
        retry_failed: also run failed trials again.
        take_over: resume even if another machine seems to run it (a storage at a URI).
        progress: as for `launch`.

    Raises: as `launch`, and StorageError if there is no such sweep or it is running.
    """
    started = time.monotonic()
    folder = SweepFolder.find(str(path), storage_root(storage))
    progress = progress or Progress()
    make_ready(folder, take_over=take_over)
    sweep = changed(folder, overrides)
    check_confirmed(sweep, folder.storage)
    records = folder.records()
    check_same_data(sweep, records, moved=is_relocated(overrides))
    if is_relocated(overrides):
        relocate(folder, sweep, take_over=take_over, say=progress.say)
        only = is_only_relocated(overrides) and not retry_failed
        if only and has_ended(folder, sweep.as_dict(), records):
            return StoredSweep(folder)
    say_changed_plugins(records, progress.say)
    try:
        with connected(address, progress.say):
            check_room(sweep.settings.resources, wait=address != "local", say=progress.say)
            how = {"retry_failed": retry_failed, "take_over": take_over}
            keep = bool(overrides)
            return _begin(sweep, folder, address, progress, started, keep=keep, **how)
    except KeyboardInterrupt:
        raise interrupted(folder) from None


def _begin(
    sweep: SweepConfig,
    folder: SweepFolder,
    address: str,
    progress: Progress,
    started: float,
    *,
    keep: bool = False,
    **how: bool,
) -> StoredSweep:
    """Drive a sweep once every node sees its folder.

    Args:
        keep: write the configuration, which a resume has changed.
        how: passed to `_drive`.
    """
    check_storage(folder)
    folder.alone = len(alive_nodes()) == 1 and address == "local"
    resolved = resolve(sweep, folder.artifacts_address, progress.say)
    return _drive(resolved, folder, progress, started, asked=sweep if keep else None, **how)


def _drive(
    sweep: SweepConfig,
    folder: SweepFolder,
    progress: Progress,
    started: float,
    *,
    asked: SweepConfig | None = None,
    retry_failed: bool = False,
    take_over: bool = False,
) -> StoredSweep:
    """Prepare, search, and close, while holding the sweep's lock.

    Args:
        started: start of the user's command, by `time.monotonic`.
        asked: the configuration that a resume has changed, as for `take_on`.
        retry_failed: open failed trials again, unless the budget is used up.
        take_over: take the lease from another machine that seems to run it.
    """
    with (
        folder.driving() as attempt,
        uploading(
            folder.mirror, folder.path, attempt, say=progress.say, take_over=take_over
        ) as uploads,
    ):
        take_on(folder, progress, asked)
        settle(folder, sweep)
        # From here on, so that preparation counts as driver time too.
        time_used = Usage(folder.usage, gpu=sweep.settings.resources.gpu)
        again = open_again(sweep, folder, attempt, time_used) if retry_failed else ""
        with tracked(
            sweep,
            folder,
            attempt,
            usage=time_used,
            uploads=uploads,
            progress=progress,
            started=started,
        ) as events:
            kept = "" if folder.mirror is None else f", kept at {folder.mirror.uri}"
            progress.say(f"sweep {folder.name} in {folder.path}{kept}")
            if again:
                progress.say(again)
            with asking_where(folder, sweep.as_dict()):
                reference = prepare(sweep, folder, attempt, say=progress.say)
            time_used.save()
            prepared = time.monotonic() - started
            _run_trials(sweep, folder, attempt, reference, time_used, events, progress)
            progress.finished(time.monotonic() - started, prepared)
    shutil.rmtree(folder.path / "ray", ignore_errors=True)
    return StoredSweep(folder)


def _run_trials(
    sweep: SweepConfig,
    folder: SweepFolder,
    attempt: int,
    reference: TrialRecord,
    time_used: Usage,
    events: SweepEvents,
    progress: Progress,
) -> None:
    """Search until nothing is left to run.

    Raises:
        SweepIncomplete: records of ended trials did not arrive.
    """
    proposals = made_proposals(sweep, folder.study)
    tell_known(sweep, folder, proposals, attempt, progress.say, data=reference.data)
    scheduler = sweep.settings.scheduler
    rule = plugins.load("sweeps.schedulers", scheduler.name).build(
        scheduler, sweep.settings.objectives
    )
    assignments = Assignments(
        sweep,
        folder,
        proposals,
        attempt,
        rule=rule,
        usage=time_used,
        on_record=events.trial_ended,
    )
    events.trial_started(reference)
    assignments.add(reference)
    _search(sweep, folder, assignments, rule, events, progress, attempt, "")
    rounds = 1
    # With the last results, a race may find a row open again, and a paused trial may be promoted
    # that Ray does not hold (any more).
    while assignments.reopened():
        rounds += 1
        _search(sweep, folder, assignments, rule, events, progress, attempt, f"-{rounds}")
    for record in assignments.stop_left():
        progress.trial_ended(record)
    if assignments.late:
        trials = ", ".join(sorted(assignments.late))
        raise SweepIncomplete(
            f"{trials} must have records that say how they ended, but none arrived, so they "
            "are still open; once the storage answers, continue with: "
            f"{command(folder, 'resume')}"
        )
    with suppress(OSError):
        # The note is only displayed.
        keep_ending(folder.path, attempt, assignments.ending)


def _search(
    sweep: SweepConfig,
    folder: SweepFolder,
    assignments: Assignments,
    rule: RungRule | None,
    events: SweepEvents,
    progress: Progress,
    attempt: int,
    part: str,
) -> None:
    """Run Ray Tune until the assignments have nothing left.

    Args:
        attempt: this driver's. The one in the file may be newer and fence off this driver's
            workers, so they must not get it.
        part: suffix of the experiment's name if the attempt has several.
    """
    resources = sweep.settings.resources
    searcher = AssignmentSearcher(
        assignments,
        {
            "sweep": folder.address,
            "artifacts": folder.artifacts_address,
            "attempt": attempt,
            "threads": max(1, int(resources.cpu)),
            "gpu": resources.gpu,
            "device": resources.torch_device,
        },
        has_room=lambda: scheduler.has_room(),
    )
    callback = DriverCallback(assignments, events, progress)
    scheduler = InOrderScheduler(slots := Slots(resources), over=assignments.over)
    if rule is not None:
        scheduler = RungScheduler(
            rule,
            slots,
            exhausted=lambda: searcher.exhausted,
            over=assignments.over,
            on_pause=callback.paused,
            on_leave=assignments.park,
        )
    tuner = tune.Tuner(
        tune.with_resources(TrialTrainable, {"cpu": resources.cpu, "gpu": resources.gpu}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.config.get("trial_id", trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=f"attempt-{attempt}{part}",
            storage_path=str(folder.path / "ray"),
            callbacks=[callback],
            # A trial that fails by itself ends as a result; this counts only lost workers.
            failure_config=tune.FailureConfig(max_failures=resources.retries),
            verbose=0,
        ),
    )
    progress.start(assignments, sweep, name=folder.name, cluster=usage)
    try:
        with many_may_wait(), memory_told(folder):
            tuner.fit()
        for record in assignments.close_late():
            progress.trial_ended(record)
    finally:
        progress.stop()
