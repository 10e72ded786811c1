"""What a launch would do: configuration, artifacts, trials, disk and time. Starts nothing."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from pathlib import Path

import torch
from omegaconf import OmegaConf

from rc_core.config import TrialConfig
from rc_core.model_facts import ModelFacts, model_facts
from rc_core.record import TrialRecord, read_records
from rc_core.throughput import stored_measurements
from rc_core.workspace import Workspace
from sweeps.config import SweepConfig
from sweeps.engine.shares import numbers, packing_line
from sweeps.folder import storage_root
from sweeps.remote.mirror import Mirror

# Training costs about 6 FLOP per weight and token (2 forward, 4 backward); evaluation is left out.
_FLOP_PER_WEIGHT_AND_TOKEN = 6
# What training of MiniLM reached on one core in float32 (tests/benchmarks/RESULTS.md: 58).
_ROUGH_FLOPS_PER_CPU = 5e10
_ROUGH_TOKENS = 32


def describe(sweep: SweepConfig, stem: str, name: str | None, storage: str | None) -> str:
    """Return the description as text."""
    root = storage_root(storage or sweep.settings.storage)
    mirror = Mirror.at(root)
    facts = model_facts(sweep.base["model"])
    search = sweep.settings.search
    num_trials = max(search.trials, 1 + len(sweep.first_points()))
    if sweep.settings.design == "fixed":
        num_trials = search.trials
    weights = 4 * facts.num_parameters
    resolved = OmegaConf.to_yaml(OmegaConf.create(sweep.as_dict()), sort_keys=False).rstrip()
    lines = [
        "# resolved configuration",
        resolved,
        "",
        "# plan (dry run: nothing was started)",
        f"sweep:      {root if mirror is None else mirror.uri}/{name or stem + '-<n>'}",
        f"trials:     {num_trials}: {_origin(sweep)}",
        f"stops early: {_stopping(sweep)}",
        _holds_line(sweep, root),
        *_artifact_lines(sweep, root),
        # A checkpoint (weights and two moments) exists only while a trial runs.
        f"disk:       about {num_trials * weights / 1e9:.1f} GB for {num_trials} models, and "
        f"{3 * weights / 1e9:.1f} GB for each trial that is running",
        _time_line(sweep, facts, root, num_trials),
    ]
    return "\n".join(lines)


def _origin(sweep: SweepConfig) -> str:
    """Return where the trials come from."""
    if sweep.settings.design == "fixed":
        return "the rows of a fixed design, with every seed; the dense reference is one of them"
    return (
        f"{1 + len(sweep.first_points())} first points (dense reference, each compression with "
        f"vanilla, search.points), then {sweep.settings.search.name}"
    )


def _holds_line(sweep: SweepConfig, root: Path) -> str:
    resources = sweep.settings.resources
    if not resources.auto:
        return f"each holds: {resources.cpu:g} CPU, {resources.gpu:g} GPU"
    # Of this machine, whole; a cluster's nodes are asked only when it is launched there.
    cuda = resources.device == "auto" and torch.cuda.is_available()
    workspace = Workspace(root / "artifacts", device="cuda" if cuda else "cpu")
    gpus, cores = torch.cuda.device_count() if cuda else 0, os.cpu_count() or 1
    found = stored_measurements(sweep.reference(), workspace, cores)
    if found is None:
        return "each holds: auto: to be measured at the start (about a minute)"
    return f"each holds: auto: {packing_line(found, numbers(found, resources, cores, gpus))}"


def _stopping(sweep: SweepConfig) -> str:
    """Return what ends trials, and the sweep, before all is trained."""
    settings = sweep.settings
    keys = {k: v for k, v in settings.scheduler.as_dict().items() if k != "name"}
    shown = ", ".join(f"{key} {value}" for key, value in keys.items())
    trials = f"{settings.scheduler.name} ({shown})" if shown else "no trial"
    limits = [key for key, value in settings.budget if value is not None]
    return trials + (f"; the sweep by {' or '.join(limits)}" if limits else "")


def _artifact_lines(sweep: SweepConfig, root: Path) -> list[str]:
    from rc_core.preparation import steps

    device = sweep.settings.resources.torch_device
    if device == "cuda" and not torch.cuda.is_available():
        return ["artifacts:  their keys name the GPU's results, and torch sees no GPU here"]
    workspace = Workspace(root / "artifacts", device=device)
    seen: set[str] = set()
    lines: Counter[str] = Counter()
    for config in (sweep.reference(), *sweep.structures()):
        if not workspace.knows_precision(config):
            return ["artifacts:  all to be built (this machine has not trained this model yet)"]
        for step in steps(config, workspace):
            state = "stored, reused" if workspace.store.has(step.key) else "to be built"
            if step.key.key not in seen:
                seen.add(step.key.key)
                lines[f"{step.title}: {state}"] += 1
    return [
        f"artifacts:  {f'{count} x ' if count > 1 else ''}{line}" for line, count in lines.items()
    ]


def _time_line(sweep: SweepConfig, facts: ModelFacts, root: Path, num_trials: int) -> str:
    earlier = [r for r in _earlier(root) if _comparable(r, sweep)]
    if earlier:
        seconds = statistics.median(record.seconds["total"] for record in earlier)
        source = f"median of {len(earlier)} earlier trials"
    else:
        seconds = _rough_seconds(sweep.reference(), facts, sweep.settings.resources.cpu)
        source = "rough: from the model's size, at about 50 GFLOP/s a core, no GPU assumed"
    return (
        f"time:       about {seconds * num_trials / 60:.1f} minutes of one trial's resources "
        f"({seconds:.0f} s a trial; {source}), divided by how many run at once"
    )


def _earlier(root: Path) -> list[TrialRecord]:
    found: list[TrialRecord] = []
    for trials in root.glob("*/trials"):
        found.extend(record for record in read_records(trials) if record.status == "finished")
    return [record for record in found if not record.reference and record.seconds.get("total")]


def _comparable(record: TrialRecord, sweep: SweepConfig) -> bool:
    base = sweep.reference().as_dict()
    same = ("epochs", "batch_size", "max_length")
    return (
        record.config["model"] == base["model"]
        and record.config["task"] == base["task"]
        and all(record.config["training"][k] == base["training"][k] for k in same)
    )


def _rough_seconds(config: TrialConfig, facts: ModelFacts, cpus: float) -> float:
    samples = int(getattr(config.task, "train_size", 10_000))
    tokens = samples * config.training.epochs * min(_ROUGH_TOKENS, config.training.max_length)
    weights = facts.num_parameters - facts.num_embedding_parameters
    return _FLOP_PER_WEIGHT_AND_TOKEN * weights * tokens / (_ROUGH_FLOPS_PER_CPU * cpus)
