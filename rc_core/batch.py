"""Runs a list of configurations without Ray, MLflow or Optuna, on one machine.

    python -m rc_core.trial LIST.jsonl --out DIR [--jobs N]

Each line of LIST is a trial's configuration as JSON, or {"id": "t0003", "config": {...}}. DIR gets
the same folders as a sweep: `artifacts/` and `trials/<id>/`; `rc-sweep adopt` takes them in.
Finished trials are not run again, unfinished ones go on from their last rung.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch

from rc_core.config import TrialConfig, decode
from rc_core.errors import ConfigError, InputError, Problem, RobustCompressionError
from rc_core.preparation import steps
from rc_core.record import TrialFolder
from rc_core.trial import run_trial
from rc_core.workspace import Workspace

# Checked by a test; in the help, as nothing else says what a line of the list looks like.
EXAMPLE = (
    '{"id": "half-rmc", "config": {"model": "packaged:all-MiniLM-L6-v2", '
    '"task": {"name": "shortcut_nli"}, "training": {"epochs": 2}, '
    '"compression": {"name": "magnitude", "sparsity": 0.5}, "loss": {"name": "rmc"}}}'
)
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")


@dataclass(frozen=True)
class Job:
    """One line of the list."""

    trial_id: str
    config: TrialConfig


def read_list(path: Path) -> list[Job]:
    """Read and validate every line.

    Raises:
        ConfigError: all problems of all lines, each with its line number; one problem where no line
            is a JSON object at all.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(Problem(str(path), f"must be a JSON Lines file: {error}")) from error
    jobs: list[Job] = []
    problems: list[Problem] = []
    objects = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            content = json.loads(line)
            if not isinstance(content, dict):
                raise ConfigError(Problem(where, "must be a JSON object"))
            objects += 1
            wrapped = set(content) <= {"id", "config"} and isinstance(content.get("config"), dict)
            trial_id = (
                str(content.get("id", f"t{len(jobs):04d}")) if wrapped else f"t{len(jobs):04d}"
            )
            if not _ID.fullmatch(trial_id):
                raise ConfigError(
                    Problem(where, f"id must be letters, digits, . _ -, got {trial_id!r}")
                )
            jobs.append(Job(trial_id, decode(content["config"] if wrapped else content, where)))
        except json.JSONDecodeError as error:
            problems.append(Problem(where, f"is not valid JSON: {error}"))
        except ConfigError as error:
            problems.extend(error.problems)
    if problems and not objects:
        raise ConfigError(
            Problem(
                str(path),
                "must be JSON Lines, one trial's configuration a line, but no line is a JSON "
                f"object; a line looks like {EXAMPLE} (a sweep's YAML is for rc-sweep launch)",
            )
        )
    ids = [job.trial_id for job in jobs]
    problems += [
        Problem(str(path), f"ids must differ, but '{name}' is used {ids.count(name)} times")
        for name in sorted({name for name in ids if ids.count(name) > 1})
    ]
    if not jobs and not problems:
        problems.append(Problem(str(path), "must hold at least one configuration, but is empty"))
    if problems:
        raise ConfigError(problems)
    return jobs


def run_batch(jobs: Sequence[Job], out: Path, *, num_jobs: int = 1) -> int:
    """Run every job and print a line for each; return the number that failed."""
    workspace = Workspace(out / "artifacts")
    open_jobs = [job for job in jobs if not _is_finished(job, out)]
    if len(open_jobs) < len(jobs):
        print(f"{len(jobs) - len(open_jobs)} of {len(jobs)} trials are finished already")
    seen: set[str] = set()
    for job in open_jobs:
        for step in steps(job.config, workspace):
            if step.key.key not in seen:
                seen.add(step.key.key)
                artifact = step.build()
                how = "built" if artifact.built else "reused"
                print(f"{step.title}: {how} ({artifact.seconds:.0f} s)", flush=True)
    started = time.monotonic()
    failed = 0
    if num_jobs == 1:
        results = (_run(job, out, None, workspace) for job in open_jobs)
        for line, ok in results:
            print(line, flush=True)
            failed += not ok
    else:
        threads = max(1, (os.cpu_count() or 1) // num_jobs)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(num_jobs, mp_context=context) as pool:
            futures = [pool.submit(_run, job, out, threads, None) for job in open_jobs]
            for future in as_completed(futures):
                line, ok = future.result()
                print(line, flush=True)
                failed += not ok
    print(
        f"{len(open_jobs) - failed} finished, {failed} failed, {time.monotonic() - started:.0f} s"
    )
    return failed


_WORKSPACES: dict[str, Workspace] = {}


def _run(job: Job, out: Path, threads: int | None, workspace: Workspace | None) -> tuple[str, bool]:
    if threads is not None:
        torch.set_num_threads(threads)
    if workspace is None:
        # A worker process keeps its workspace, and with it the tokenised data, between jobs.
        workspace = _WORKSPACES.setdefault(str(out), Workspace(out / "artifacts"))
    folder = TrialFolder(out / "trials" / job.trial_id)
    name = f"{job.trial_id} {job.config.label()}"
    try:
        record = run_trial(job.config, workspace, folder, trial_id=job.trial_id)
    except (RobustCompressionError, RuntimeError, OSError) as error:
        return f"{name}: failed: {error}", False
    id_accuracy, ood_accuracy = (100 * record.metric(f"{r}_dev/accuracy") for r in ("id", "ood"))
    seconds = record.seconds.get("total", 0.0)
    return f"{name}: ID {id_accuracy:.1f} OOD {ood_accuracy:.1f} ({seconds:.0f} s)", True


def _is_finished(job: Job, out: Path) -> bool:
    record = TrialFolder(out / "trials" / job.trial_id).read()
    return (
        record is not None
        and record.status == "finished"
        and record.fingerprint == job.config.fingerprint()
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code (0 done, 1 failed, 2 input, 3 failed trials)."""
    parser = argparse.ArgumentParser(
        prog="python -m rc_core.trial",
        description="Run a list of trial configurations without Ray, MLflow or Optuna.",
        epilog="A line of the list, with any keys of a trial's YAML (the id may be left out, and "
        f"the configuration be the line itself):\n\n  {EXAMPLE}\n\nAn uncompressed vanilla "
        "reference is trained where none is stored. Into a sweep that was launched with the same\n"
        "model, task and training the trials are taken by: rc-sweep adopt SWEEP DIR",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("list", type=Path, help="JSON Lines: one trial configuration a line")
    parser.add_argument("--out", type=Path, required=True, help="folder for artifacts and trials")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes (default 1)")
    options = parser.parse_args(arguments)
    try:
        if options.jobs < 1:
            raise InputError(f"--jobs must be at least 1, but got {options.jobs}")
        failed = run_batch(read_list(options.list), options.out, num_jobs=options.jobs)
    except RobustCompressionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 3 if failed else 0
