"""What a launch would do: configuration, artifacts, trials, disk and time. Starts nothing.

The checks of a launch come first; see sweeps/engine/launch_check.py.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from rc_core.config import TrainingConfig
from rc_core.data._foreseen import foreseen_cuts
from rc_core.data._task import TEST_ROLES, Task
from rc_core.errors import StorageError
from rc_core.labels import count_of
from rc_core.model_facts import ModelFacts, model_facts
from rc_core.record import TrialRecord, read_records
from rc_core.throughput import stored_measurements
from rc_core.training import num_steps
from rc_core.workspace import Workspace
from sweeps.config import SweepConfig
from sweeps.cores import usable_cores
from sweeps.engine.data_check import data_warnings
from sweeps.engine.rough_time import rough_seconds
from sweeps.engine.shares import numbers, packing_line
from sweeps.names import as_stem
from sweeps.remote.mirror import Mirror
from sweeps.shown_values import duration

_MOST_LABELS = 8
# Notes of a task on how many rows of a split were left out, and why.
_LEFT_OUT = {
    "dropped_labels": "drop_labels",
    "without_text": "a text is empty",
    "excluded": "exclude",
    "removed_overlap": "also in a split that takes precedence",
    "left_out_by_limit": "limit",
}


def plan(
    sweep: SweepConfig, task: Task, root: Path, *, stem: str, name: str | None
) -> dict[str, Any]:
    """Return what would be done, as plain JSON values.

    Args:
        sweep: to be launched.
        task: its data.
        root: its storage's folder.
        stem: stem of the default name.
        name: the requested name.
    """
    mirror = Mirror.at(root)
    facts = model_facts(sweep.base["model"])
    num_trials = sweep.settings.search.trials
    weights = 4 * facts.num_parameters
    seconds, source = _seconds(sweep, facts, root, task)
    return {
        "sweep": f"{root if mirror is None else mirror.uri}/{name or as_stem(stem) + '-<n>'}",
        "trials": num_trials,
        "origin": _origin(sweep),
        "stops_early": _stopping(sweep),
        "each_holds": _held(sweep, root),
        "artifacts": _artifacts(sweep, root),
        "models_bytes": num_trials * weights,
        # A checkpoint (weights and two moments) exists only while a trial runs.
        "running_trial_bytes": 3 * weights,
        "seconds_a_trial": round(seconds, 3),
        "seconds_from": source,
        "at_once_here": _at_once(sweep),
        "data": _data(task),
        "steps": num_steps(len(task.train), sweep.reference().training),
        "warnings": [*data_warnings(sweep, task), *foreseen_cuts(task, sweep.reference())],
        "configuration": sweep.as_dict(),
    }


def as_text(found: Mapping[str, Any]) -> str:
    """Return a plan as text."""
    resolved = OmegaConf.to_yaml(OmegaConf.create(found["configuration"]), sort_keys=False)
    trials, training = found["trials"], found["configuration"]["training"]
    lines = [
        "# resolved configuration",
        resolved.rstrip(),
        "",
        "# plan (dry run: nothing was started)",
        *(f"warning:    {line}" for line in found["warnings"]),
        f"sweep:      {found['sweep']}",
        *(f"data:       {_read(name, split)}" for name, split in found["data"].items()),
        f"trials:     {trials}: {found['origin']}",
        f"training:   {count_of(found['steps'], 'optimizer step')} a trial"
        f" ({training['epochs']:g} epochs, batches of {training['batch_size']})",
        f"stops early: {found['stops_early']}",
        f"each holds: {found['each_holds']}",
        *(f"artifacts:  {line}" for line in found["artifacts"]),
        f"disk:       {_about(found['models_bytes'] / 1e9)} GB for {count_of(trials, 'model')}, "
        f"and {_about(found['running_trial_bytes'] / 1e9)} GB for each trial that is running",
        f"time:       {_time(found)}; building artifacts (teacher, levels) takes extra time",
    ]
    return "\n".join(lines)


def _data(task: Task) -> dict[str, dict[str, Any]]:
    """Return facts on each split: samples, repeats, labels, what was left out and why.

    Of the sealed test only its size.
    """
    found: dict[str, dict[str, Any]] = {}
    for split in task.splits:
        found[split.name] = {"samples": len(split)}
        if split.role in TEST_ROLES:
            continue
        counts = np.bincount(split.labels, minlength=len(split.label_names)).tolist()
        found[split.name] |= {
            "carved": f"carved/{split.name}" in task.notes,
            "repeats": len(split) - len(set(split.texts())),
            "labels": dict(zip(split.label_names, counts, strict=True)),
            "left_out": {
                kind: int(task.notes[f"{kind}/{split.name}"])
                for kind in _LEFT_OUT
                if task.notes.get(f"{kind}/{split.name}")
            },
        }
    return found


def _read(name: str, split: Mapping[str, Any]) -> str:
    if "labels" not in split:
        return f"{name}: {count_of(split['samples'], 'sample')}, sealed"
    labels = sorted(split["labels"].items(), key=lambda each: -each[1])
    shown = [f"{label} {count}" for label, count in labels[:_MOST_LABELS]]
    more = len(labels) - len(shown)
    parts = [", ".join(shown) + (f" and {count_of(more, 'label')} more" if more > 0 else "")]
    if split["repeats"]:
        rows = count_of(split["repeats"], "row repeats", "rows repeat")
        parts.append(f"{rows} the texts of another")
    parts += [
        f"{count_of(count, 'row')} left out: {_LEFT_OUT[k]}"
        for k, count in split["left_out"].items()
    ]
    carved = " carved from train" if split["carved"] else ""
    return f"{name}: {count_of(split['samples'], 'sample')}{carved}: {'; '.join(parts)}"


def _about(amount: float) -> str:
    return "less than 0.1" if amount < 0.1 else f"about {amount:.1f}"


def _time(found: Mapping[str, Any]) -> str:
    trials, seconds, at_once = found["trials"], found["seconds_a_trial"], found["at_once_here"]
    each = f"{_long(seconds)} a trial; {found['seconds_from']}"
    if at_once is None:
        total = f"{_long(seconds * trials)} of one trial's resources"
        return f"{total} ({each}), divided by the number that run at once"
    total = _long(seconds * -(-trials // at_once))
    return f"{total} on this machine alone, {at_once} at once ({each})"


def _long(seconds: float) -> str:
    return f"about {duration(seconds)}" if seconds >= 1 else "less than 1 s"


def _at_once(sweep: SweepConfig) -> int | None:
    """Return how many trials fit on this machine at once; None if unknown, or if none does."""
    resources = sweep.settings.resources
    if resources.auto:
        return None
    fit = usable_cores() / resources.cpu if resources.cpu else float("inf")
    if resources.gpu:
        fit = min(fit, torch.cuda.device_count() / resources.gpu)
    return int(fit) if 1 <= fit < float("inf") else None


def _origin(sweep: SweepConfig) -> str:
    """Return where the trials come from."""
    if sweep.settings.design == "fixed":
        return "the rows of a fixed design, with every seed; the dense reference is one of them"
    return (
        f"{sweep.num_first} first points (dense reference, each compression with "
        f"vanilla, search.points), then {sweep.settings.search.name}"
    )


def _held(sweep: SweepConfig, root: Path) -> str:
    resources = sweep.settings.resources
    if not resources.auto:
        return f"{resources.cpu:g} CPU, {resources.gpu:g} GPU"
    # For this whole machine; the nodes of a cluster are only known in a launch there.
    cuda = resources.device == "auto" and torch.cuda.is_available()
    workspace = Workspace(root / "artifacts", device="cuda" if cuda else "cpu")
    gpus, cores = torch.cuda.device_count() if cuda else 0, usable_cores()
    found = stored_measurements(sweep.reference(), workspace, cores)
    if found is None:
        return "auto: to be measured at the start (about a minute)"
    return f"auto: {packing_line(found, numbers(found, resources, cores, gpus))}"


def _stopping(sweep: SweepConfig) -> str:
    """Return what may stop trials, and the sweep, early."""
    settings = sweep.settings
    keys = {k: v for k, v in settings.scheduler.as_dict().items() if k != "name"}
    shown = ", ".join(f"{key} {value}" for key, value in keys.items())
    trials = f"{settings.scheduler.name} ({shown})" if shown else "no trial"
    limits = [key for key, value in settings.budget if value is not None]
    return trials + (f"; the sweep by {' or '.join(limits)}" if limits else "")


def _artifacts(sweep: SweepConfig, root: Path) -> list[str]:
    from rc_core.preparation import steps

    device = sweep.settings.resources.torch_device
    if device == "cuda" and not torch.cuda.is_available():
        return ["unknown: what is stored is for a GPU, and torch sees none on this machine"]
    workspace = Workspace(root / "artifacts", device=device)
    seen: set[str] = set()
    lines: Counter[str] = Counter()
    for config in (sweep.reference(), *sweep.structures()):
        if not workspace.knows_precision(config):
            return ["all to be built (this machine has not trained this model yet)"]
        for step in steps(config, workspace):
            state = "stored, reused" if workspace.store.has(step.key) else "to be built"
            if step.key.key not in seen:
                seen.add(step.key.key)
                lines[f"{step.title}: {state}"] += 1
    return [f"{f'{count} x ' if count > 1 else ''}{line}" for line, count in lines.items()]


def _seconds(sweep: SweepConfig, facts: ModelFacts, root: Path, task: Task) -> tuple[float, str]:
    """Return the seconds of a trial, and how they are known."""
    earlier = [r for r in _earlier(root) if _comparable(r, sweep)]
    if earlier:
        seconds = statistics.median(record.seconds["total"] for record in earlier)
        return seconds, f"median of {count_of(len(earlier), 'earlier trial')}"
    training = TrainingConfig(**sweep.base["training"])
    threads = max(1, int(sweep.settings.resources.cpu))
    return rough_seconds(training, facts, task, threads), (
        f"rough: a block of its shape, timed now, times {facts.num_layers} blocks and "
        f"{len(task.of_role('train')[0])} training samples; no GPU assumed"
    )


def _earlier(root: Path) -> list[TrialRecord]:
    found: list[TrialRecord] = []
    for trials in root.glob("[!.]*/trials"):
        # Ignore unreadable records of other sweeps.
        with suppress(StorageError):
            found.extend(record for record in read_records(trials) if record.status == "finished")
    return [record for record in found if not record.reference and record.seconds.get("total")]


def _comparable(record: TrialRecord, sweep: SweepConfig) -> bool:
    # Records of references are left out, as `teacher` may change their training.
    base, same = sweep.base, ("epochs", "batch_size", "max_length")
    return (
        record.config["model"] == base["model"]
        and record.config["task"] == base["task"]
        and all(record.config["training"][k] == base["training"][k] for k in same)
    )
