"""Launching and resuming a sweep on Ray.

Resume never uses Ray's pickled state: every attempt is a new Ray experiment under the sweep, fed
from our own records (see sweeps/assignments.py).
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rc_core import plugins
from rc_core.errors import ConfigError, InputError, Problem, RobustCompressionError
from sweeps.assignments import Assignments
from sweeps.config import SweepConfig, load_sweep
from sweeps.data_check import check_data
from sweeps.events import SweepEvents
from sweeps.folder import SweepFolder, storage_root
from sweeps.prepare import prepare
from sweeps.progress import Progress
from sweeps.ray_bridge import AssignmentSearcher, DriverCallback
from sweeps.ray_scheduler import RungScheduler
from sweeps.rungs import RungRule
from sweeps.sweep import Sweep
from sweeps.trainable import TrialTrainable
from sweeps.warm_start import known_trials

# Ray's own loggers write files nobody reads here: the record is the result.
_RAY_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "600",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Workers inherit it before they import torch; see rc_core/__init__.py.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Ctrl-C reaches us as KeyboardInterrupt; our records need no state of Ray's to be saved first.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}


class SweepInterrupted(RobustCompressionError):
    """The driver was interrupted; everything computed is kept."""


def launch(
    config: str | Path | Mapping[str, Any] | SweepConfig,
    *,
    name: str | None = None,
    overrides: Sequence[str] = (),
    storage: str | Path | None = None,
    address: str = "local",
    progress: Progress | None = None,
    stem: str | None = None,
) -> Sweep:
    """Run a new sweep to its end and return it.

    Args:
        config: YAML file, plain values, or a validated configuration.
        name: of the sweep; by default `<yaml stem>-<n>`.
        overrides: `dotted.key=value`, as `--set`; for a file only.
        storage: folder of all sweeps; by default the YAML's, RC_STORAGE, ./rc_storage.
        address: `local` starts Ray here; `auto` or `HOST:PORT` joins a running cluster.
        progress: where lines and the live view go; by default this terminal.
        stem: of the default name; by default the file's.

    Raises:
        InputError: the configuration, the name or the resources asked for are wrong; nothing ran.
        TrialError: the health gate stopped the sweep.
        SweepInterrupted: Ctrl-C; `resume` goes on.
    """
    started = time.monotonic()
    sweep = _as_config(config, overrides)
    if stem is None:
        stem = Path(config).stem if isinstance(config, str | Path) else "sweep"
    root = storage_root(storage or sweep.settings.storage)
    check_data(sweep)
    known_trials(sweep, root)
    with _ray(address):
        _check_resources(sweep)
        folder = SweepFolder.create(root, name, stem)
        folder.write_config(sweep.as_dict())
        return _drive(sweep, folder, progress or Progress(), started)


def resume(
    path: str | Path,
    *,
    storage: str | Path | None = None,
    address: str = "local",
    progress: Progress | None = None,
) -> Sweep:
    """Go on with a sweep: finished trials count, unfinished ones come first, then the rest.

    Raises: as `launch`, and StorageError where there is no such sweep or it is running.
    """
    started = time.monotonic()
    folder = SweepFolder.find(str(path), storage_root(storage))
    sweep = SweepConfig(folder.read_config())
    if folder.is_running():
        with folder.driving():
            pass  # raises the error that says so
    with _ray(address):
        _check_resources(sweep)
        return _drive(sweep, folder, progress or Progress(), started)


def _drive(sweep: SweepConfig, folder: SweepFolder, progress: Progress, started: float) -> Sweep:
    """Prepare, search, and close, while holding the sweep's lock.

    Args:
        started: when the user's command did, as `time.monotonic` counts.
    """
    with folder.driving() as attempt:
        events = SweepEvents(sweep, folder)
        events.sweep_started(attempt)
        status = "failed"
        assignments: Assignments | None = None
        try:
            progress.say(f"sweep {folder.name} in {folder.path}")
            reference = prepare(sweep, folder, attempt, say=progress.say)
            prepared = time.monotonic() - started
            proposals = plugins.load("sweeps.search", sweep.settings.search.name).proposals(
                sweep, folder.study
            )
            if attempt == 1:
                # Later drivers find these trials in the study, whatever became of their sweeps.
                known, line = known_trials(sweep, folder.storage)
                for trial in known:
                    proposals.know(trial)
                if line:
                    progress.say(line)
            scheduler = sweep.settings.scheduler
            rule = plugins.load("sweeps.schedulers", scheduler.name).build(
                scheduler, sweep.settings.objectives
            )
            assignments = Assignments(
                sweep, folder, proposals, attempt, rule=rule, on_record=events.trial_ended
            )
            events.trial_started(reference)
            assignments.add(reference)
            _search(sweep, folder, assignments, rule, events, progress, f"attempt-{attempt}")
            rounds = 1
            # Once the last results are in, a race may find that something is open again, and a
            # trial that an earlier driver paused may be promoted.
            while assignments.reopened():
                rounds += 1
                part = f"attempt-{attempt}-{rounds}"
                _search(sweep, folder, assignments, rule, events, progress, part)
            assignments.stop_parked()
            status = "finished"
            elapsed = time.monotonic() - started
            progress.finished(elapsed, prepared)
        except KeyboardInterrupt:
            status = "interrupted"
            raise SweepInterrupted(
                f"interrupted; nothing is lost. Go on with: rc-sweep resume {folder.name}"
            ) from None
        finally:
            if assignments is not None:
                assignments.usage.save()
            left = events.sweep_ended(status, time.monotonic() - started)
            if left:
                progress.say(
                    f"warning: {left} tracking events could not be delivered to MLflow; they are "
                    f"kept in {folder.outbox} and sent at the next resume"
                )
    shutil.rmtree(folder.path / "ray", ignore_errors=True)
    return Sweep(folder)


def _search(
    sweep: SweepConfig,
    folder: SweepFolder,
    assignments: Assignments,
    rule: RungRule | None,
    events: SweepEvents,
    progress: Progress,
    name: str,
) -> None:
    """Run Ray Tune until the assignments have nothing left."""
    resources = sweep.settings.resources
    searcher = AssignmentSearcher(
        assignments,
        {
            "sweep": str(folder.path),
            "attempt": folder.attempt(),
            "threads": max(1, int(resources.cpu)),
            "gpu": resources.gpu,
        },
    )
    callback = DriverCallback(assignments, events, progress)
    scheduler: TrialScheduler = FIFOScheduler()
    if rule is not None:
        scheduler = RungScheduler(
            rule,
            exhausted=lambda: searcher.exhausted,
            over=assignments.over,
            on_pause=callback.paused,
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
            name=name,
            storage_path=str(folder.path / "ray"),
            callbacks=[callback],
            verbose=0,
        ),
    )
    progress.start(assignments, sweep)
    try:
        tuner.fit()
    finally:
        progress.stop()


@contextmanager
def _ray(address: str) -> Iterator[None]:
    """Join or start Ray; what was started here is shut down, also after an error."""
    if address.startswith("ray://"):
        raise InputError(
            "--address must be local, auto or HOST:PORT, but got a ray:// address: under the Ray "
            "client the driver's files would not be where its trials look. Submit the command "
            "instead: ray job submit --address http://HEAD:8265 -- rc-sweep launch ..."
        )
    os.environ.update({key: os.environ.get(key, value) for key, value in _RAY_SETTINGS.items()})
    owned = not ray.is_initialized()
    if owned:
        logging.getLogger("ray").setLevel(logging.ERROR)
        # Tune logs a traceback for every failed trial; the record has the reason, and we print it.
        for name in ("ray.tune", "ray.air"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        options: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "configure_logging": True,
        }
        if address == "local":
            # The address of a surrounding cluster must not be joined by accident.
            options |= {
                "address": "local",
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
            }
        else:
            variables = {"OMP_WAIT_POLICY": _RAY_SETTINGS["OMP_WAIT_POLICY"]}
            options |= {"address": address, "runtime_env": {"env_vars": variables}}
        try:
            ray.init(**options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(
                f"no Ray cluster could be joined at '{address}': {error}; start one with "
                "'ray start --head', or use --address local"
            ) from error
    try:
        yield
    finally:
        if owned:
            ray.shutdown()


def _check_resources(sweep: SweepConfig) -> None:
    """Check that some node can hold one trial. Raises ConfigError."""
    wanted = sweep.settings.resources
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    problems = []
    for key, resource, amount in (("cpu", "CPU", wanted.cpu), ("gpu", "GPU", wanted.gpu)):
        most = max((node.get(resource, 0.0) for node in nodes), default=0.0)
        if amount > most:
            problems.append(
                Problem(
                    f"resources.{key}",
                    f"a trial must fit on one node, but asks for {amount:g} {resource} and the "
                    f"largest of {len(nodes)} nodes has {most:g}; lower it",
                )
            )
    if problems:
        raise ConfigError(problems)


def _as_config(
    config: str | Path | Mapping[str, Any] | SweepConfig, overrides: Sequence[str]
) -> SweepConfig:
    if isinstance(config, SweepConfig):
        return config
    if isinstance(config, Mapping):
        return SweepConfig(config)
    return load_sweep(config, overrides)
