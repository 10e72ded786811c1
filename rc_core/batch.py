"""Runs a list of configurations without Ray, MLflow or Optuna, on one machine.

    python -m rc_core.trial LIST.jsonl --out DIR [--jobs N]

Each line of LIST is a trial's configuration as JSON, or {"id": "t0003", "config": {...}}. DIR gets
the same folders as a sweep: `artifacts/` and `trials/<id>/`; `rc-sweep adopt` imports them.
Finished trials are not run again, nor overwritten by another configuration with the same id;
unfinished ones resume from their last rung. Artifacts that trials share are built once, before the
first trial that reads them; with N above 1 they are built in the worker processes too, and a trial
starts as soon as everything that it reads is there.

With --test every trial's test roles are evaluated at its end. This is for fixed designs only, in
which nothing is selected by results. `rc-sweep test` of the adopted sweep then needs no weights.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from rc_core.config import TrialConfig
from rc_core.encoders import Encoders
from rc_core.errors import (
    ConfigError,
    DifficultyError,
    InputError,
    Problem,
    RobustCompressionError,
)
from rc_core.estimates import difficulty_key
from rc_core.job_list import EXAMPLE, Job, check_ids, read_list
from rc_core.labels import count_of
from rc_core.pool import open_pool
from rc_core.preparation import Step, steps
from rc_core.record import TrialFolder
from rc_core.trial import evaluate_saved, reason, run_trial
from rc_core.workspace import Workspace


def run_batch(jobs: Sequence[Job], out: Path, *, num_jobs: int = 1, test: bool = False) -> int:
    """Run every job and print a line for each; return the number that failed.

    Args:
        jobs: what to run; those finished in `out` are skipped.
        out: gets `artifacts/` and `trials/`.
        num_jobs: number of worker processes.
        test: whether the test roles are predicted too.

    Raises:
        ConfigError: as `_needed`, `check_ids` and `_check_data`; nothing is run then.
    """
    check_ids(jobs, out / "trials")
    open_jobs = [job for job in jobs if not _is_finished(job, out, test=test)]
    if len(open_jobs) < len(jobs):
        trials = count_of(len(jobs), "trial is", "trials are")
        print(f"{len(jobs) - len(open_jobs)} of {trials} finished already")
    started = time.monotonic()
    failed = 0
    names = {job.trial_id for job in open_jobs}
    finished = [job for job in jobs if job.trial_id not in names]
    with contextlib.closing(_lines(open_jobs, finished, out, num_jobs, test=test)) as lines:
        for line, ok in lines:
            print(line, flush=True)
            failed += not ok
    print(
        f"{len(open_jobs) - failed} finished, {failed} failed, {time.monotonic() - started:.0f} s"
    )
    return failed


def _check_data(
    jobs: Sequence[Job], finished: Sequence[Job], out: Path, workspace: Workspace
) -> None:
    """Check that finished trials used the same data as those that are to be run.

    Raises:
        ConfigError: files have changed since, so results would not be comparable; names each trial.
    """
    problems = []
    for job in finished:
        record = TrialFolder(out / "trials" / job.trial_id).read()
        before = None if record is None else record.data.get("digest")
        same_task = next((each for each in jobs if each.config.task == job.config.task), None)
        if before is None or same_task is None:
            continue
        now = workspace.data(same_task.config).digest()
        if now != before:
            message = f"is finished on other data (digest {before}) than is there now ({now})"
            problems.append(Problem(job.trial_id, message))
    if problems:
        advice = (
            "data must be the same in all trials, or they cannot be compared; put the old files "
            "back, or take another --out"
        )
        raise ConfigError([*problems, Problem("task", advice)])


# What is printed, and whether it counts as a success (an artifact always does).
_Line = tuple[str, bool]


def _needed(jobs: Sequence[Job], workspace: Workspace) -> list[dict[str, Step]]:
    """Return the steps that each job needs, by their artifacts' keys.

    Raises:
        ConfigError: some jobs cannot work; names all of them. A problem with a model or with data
            that several jobs share is reported for the first one.
    """
    needed: list[dict[str, Step]] = []
    problems: list[Problem] = []
    encoders = Encoders()
    reported: set[str] = set()
    for job in jobs:
        wrong = encoders.problems(job.config)
        reported |= {each.message for each in wrong}
        try:
            needed.append({step.key.key: step for step in steps(job.config, workspace)})
        except DifficultyError as error:
            wrong.append(Problem("", str(error)))
        except InputError as error:
            wrong += [each for each in error.problems if each.message not in reported]
            reported |= {each.message for each in error.problems}
        for each in wrong:
            where = f"{job.trial_id}: {each.where}" if each.where else job.trial_id
            problems.append(Problem(where, each.message))
    if problems:
        raise ConfigError(problems)
    return needed


class _Task(NamedTuple):
    """A unit of work: run one trial, or build one artifact.

    Attributes:
        job: whose trial is run, or whose artifact is built.
        key: of the artifact; None for the trial.
        needs: keys of the artifacts that it reads, in build order.
        waits: keys of artifacts that it waits for if they are built at all, but can do without.
    """

    job: Job
    key: str | None
    needs: tuple[str, ...]
    waits: tuple[str, ...] = ()


def _plan(
    jobs: Sequence[Job], needed: Sequence[Mapping[str, Step]], workspace: Workspace
) -> list[_Task]:
    """Return the tasks of a list in its order, each artifact with the first job that needs it."""
    tasks: list[_Task] = []
    planned: set[str] = set()
    for job, found in zip(jobs, needed, strict=True):
        # Steps cannot be sent to a worker; their key and a configuration that needs them can.
        for key, step in found.items():
            if key not in planned:
                tasks.append(_Task(job, key, step.needs))
        planned |= set(found)
        # A record's easy and hard halves come from the difficulty estimate, if any job reads one.
        halves = difficulty_key(job.config, workspace).key
        tasks.append(_Task(job, None, tuple(found), (halves,)))
    return tasks


def _lines(
    jobs: Sequence[Job], finished: Sequence[Job], out: Path, num_jobs: int, *, test: bool
) -> Generator[_Line, None, None]:
    """Build what is needed and run the trials, each as soon as everything that it reads is there.

    Ready tasks run in the order of the list, so a list cut short has its first trials complete, not
    parts of all of them.
    """
    workspace = Workspace(out / "artifacts")
    needed = _needed(jobs, workspace)
    _check_data(jobs, finished, out, workspace)
    tasks = _plan(jobs, needed, workspace)
    # Data that was read for the plan serves the trials too, if they run in this process.
    shared = workspace if num_jobs == 1 else None
    unbuilt = {task.key for task in tasks if task.key is not None}
    failed: dict[str, str] = {}  # Key of an artifact -> why it could not be built.
    running: dict[Future[_Line], str | None] = {}
    with open_pool(num_jobs) as pool:
        while tasks or running:
            ready = [each for each in tasks if unbuilt.isdisjoint(each.needs + each.waits)]
            # A task that everything else waits for, as for the teacher, gets every core.
            threads = torch.get_num_threads() if len(ready) == 1 and not running else None
            for task in ready:
                if len(running) == num_jobs:
                    break
                tasks.remove(task)
                job, key = task.job, task.key
                why = next((failed[each] for each in task.needs if each in failed), None)
                if why is not None and key is not None:
                    failed[key] = why
                    unbuilt.discard(key)
                elif why is not None:
                    yield f"{job.trial_id} {job.config.label()}: failed: {why}", False
                elif key is None:
                    running[pool.submit(_run, job, out, test, shared)] = None
                else:
                    future = pool.submit(_build, job.config, key, out, threads, shared)
                    running[future] = key
            for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                key = running.pop(future)
                if key is not None:
                    unbuilt.discard(key)
                # Raises if the worker was killed, which is no fault of the task.
                message, ok = future.result()
                if key is not None and not ok:
                    failed[key] = message
                else:
                    yield message, ok


@functools.cache
def _workspace(out: Path, *, sealed: bool = True) -> Workspace:
    """Return this worker's workspace, which keeps the tokenised data between jobs."""
    return Workspace(out / "artifacts", sealed=sealed)


def _build(
    config: TrialConfig,
    key: str,
    out: Path,
    threads: int | None = None,
    workspace: Workspace | None = None,
) -> _Line:
    """Build one artifact of a configuration; return a line, or why it failed.

    Args:
        threads: number of torch's threads; None: as many as a trial has.
    """
    usual = torch.get_num_threads()
    torch.set_num_threads(threads or usual)
    try:
        workspace = workspace or _workspace(out)
        step = next(step for step in steps(config, workspace) if step.key.key == key)
        artifact = step.attempt()
    except Exception as error:
        # Any error fails the trials that read this artifact. It is returned as text, not raised: a
        # traceback would keep alive whatever the failed build held.
        return reason(error), False
    finally:
        torch.set_num_threads(usual)
    if isinstance(artifact, str):
        return f"{step.title}: left out: {artifact}", True
    how = "built" if artifact.built else "reused"
    return f"{step.title}: {how} ({artifact.seconds:.0f} s)", True


def _run(job: Job, out: Path, test: bool, workspace: Workspace | None = None) -> _Line:
    """Run one trial; return a line, and whether it succeeded."""
    workspace = workspace or _workspace(out)
    folder = TrialFolder(out / "trials" / job.trial_id)
    name = f"{job.trial_id} {job.config.label()}"
    try:
        record = folder.read() if _is_finished(job, out) else None
        if record is None:
            record = run_trial(job.config, workspace, folder, trial_id=job.trial_id)
        tested: Mapping[str, float] = {}
        if test:
            tested = evaluate_saved(job.config, _workspace(out, sealed=False), folder)
    except Exception as error:
        # Whatever it is, one trial does not end the list.
        return f"{name}: failed: {reason(error)}", False
    found = _accuracies(record.metrics, "dev")
    if opened := _accuracies(tested, "test"):
        found += f", test: {opened}"
    return f"{name}: {found} ({record.seconds.get('total', 0.0):.0f} s)", True


def _accuracies(metrics: Mapping[str, float], stage: Literal["dev", "test"]) -> str:
    """Return the accuracies of a stage's roles in percent, as far as they exist."""
    values = {name: metrics.get(f"{name.lower()}_{stage}/accuracy") for name in ("ID", "OOD")}
    return " ".join(f"{n} {100 * value:.1f}" for n, value in values.items() if value is not None)


def _is_finished(job: Job, out: Path, *, test: bool = False) -> bool:
    """Tell whether a job's trial is finished; with `test`, its test predictions as well."""
    folder = TrialFolder(out / "trials" / job.trial_id)
    record = folder.read()
    return (
        record is not None
        and record.status == "finished"
        and job.made(record)
        and (not test or folder.tested_splits() is not None)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code (0 done, 1 failed, 2 input, 3 failed trials)."""
    parser = argparse.ArgumentParser(
        prog="python -m rc_core.trial",
        description="Run a list of trial configurations without Ray, MLflow or Optuna.",
        epilog="A line of the list, with any keys of a trial's YAML (the id may be left out, and "
        f"the configuration be the line itself):\n\n  {EXAMPLE}\n\nAn uncompressed vanilla "
        "reference is trained if none is stored. rc-sweep trials CONFIG writes the list of a "
        "fixed\ndesign; rc-sweep adopt SWEEP DIR --config CONFIG makes a sweep of its trials, and "
        "without\n--config takes it into a sweep that was launched with the same model, task and "
        "training.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("list", type=Path, help="JSON Lines: one trial configuration per line")
    parser.add_argument("--out", type=Path, required=True, help="folder for artifacts and trials")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes (default 1)")
    parser.add_argument(
        "--test",
        action="store_true",
        help="predict the test roles too: for fixed designs, in which no result selects anything",
    )
    options = parser.parse_args(arguments)
    try:
        if options.jobs < 1:
            raise InputError(f"--jobs must be at least 1, but got {options.jobs}")
        jobs = read_list(options.list)
        failed = run_batch(jobs, options.out, num_jobs=options.jobs, test=options.test)
    except KeyboardInterrupt:
        print(
            "error: interrupted; finished work is kept: run the same command again to continue",
            file=sys.stderr,
        )
        return 1
    except BrokenProcessPool:
        print(
            "error: a worker process was killed (out of memory?); finished work is kept: run the "
            f"same command again, with fewer --jobs than {options.jobs}",
            file=sys.stderr,
        )
        return 1
    except RobustCompressionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 3 if failed else 0
