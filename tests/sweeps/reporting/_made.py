"""Sweeps whose records are made by a formula: any number of trials, failures, stopped ones.

The formula: more removed is less OOD accuracy, `rmc` holds some of it up, `heads` costs most.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from rc_core.record import RungRecord, TrialRecord
from sweeps.api import Sweep
from sweeps.config import SweepConfig
from sweeps.ending import keep_ending
from sweeps.folder import SweepFolder
from sweeps.verification.confirm import confirmation

VALUES: dict[str, Any] = {
    "model": "tiny:bert",
    "task": {"name": "shortcut_nli", "train_size": 300},
    "compression": {"name": "magnitude"},
    "space": {
        "compression.name": {"choice": ["magnitude", "student", "heads"]},
        "compression.sparsity": {"uniform": [0.2, 0.8], "when": {"compression.name": "magnitude"}},
        "compression.num_layers": {"int": [1, 2], "when": {"compression.name": "student"}},
        "compression.remove": {"uniform": [0.1, 0.5], "when": {"compression.name": "heads"}},
        "loss.name": {"choice": ["vanilla", "distil", "rmc", "poe"]},
        "loss.alpha": {"choice": [0.2, 0.5], "when": {"loss.name": "rmc"}},
    },
    "search": {"name": "random", "trials": 12},
}
SUBCASES = ("ce_conjunction", "cn_disjunction", "ln_negation", "le_passive", "sn_no")
DENSE = 22.7e6


def made_sweep(
    storage: Path,
    *,
    trials: int,
    name: str = "made",
    failed: int = 0,
    stopped: int = 0,
    seed: int = 0,
    **changes: Any,
) -> Sweep:
    """Write a sweep of `trials` records, the dense reference among them.

    Args:
        storage: folder of all sweeps.
        trials: in all.
        name: of the sweep.
        failed: how many of them failed, the last ones.
        stopped: how many before these were stopped half-way.
        seed: of points and noise.
        changes: of the sweep's values.
    """
    values = VALUES | {"search": {"name": "random", "trials": trials}} | changes
    config = SweepConfig(values)
    folder = SweepFolder.create(storage, name, "made")
    folder.write_config(config.as_dict())
    rng = random.Random(seed)
    for number in range(trials):
        trial = config.reference() if number == 0 else config.trial(config.space.draw(rng))
        plain = trial.as_dict()
        metrics = made_metrics(plain, rng, dense=number == 0)
        left = trials - number
        status: Any = "failed" if left <= failed else None
        if status is None and left <= failed + stopped:
            status = "stopped"
        record = TrialRecord(
            id=f"t{number:04d}",
            status=status or "finished",
            name=f"{trial.compression.label()} {trial.loss.label()}",
            config=plain,
            fingerprint=trial.fingerprint(),
            reference=number == 0,
            started=1e9 + 40 * number,
            finished=1e9 + 40 * number + 60,
            metrics={} if status else metrics,
            rungs=_rungs(metrics) if status != "failed" or number % 2 else (),
            seconds={"prepare": 1.0, "train": 50.0, "evaluate": 8.0, "total": 60.0},
            steps={"own": 100, "counted": 100},
            data={
                "digest": "d0",
                "id_dev.made": {"samples": 600},
                "ood_dev.overlap": {"samples": 600},
                "floors": {
                    "id_dev": {"majority": 0.5, "bag_of_words": 0.7},
                    "ood_dev": {"majority": 0.5, "bag_of_words": 0.62},
                },
            },
            environment={"cores": 2, "processor": "made", "python": "3.11", "versions": {}},
            error=f"diverged at step {number}" if status == "failed" else None,
        )
        write_record(folder, record)
    return Sweep(folder)


def made_metrics(
    config: dict[str, Any], rng: random.Random, *, dense: bool = False
) -> dict[str, float]:
    """Return one trial's metrics."""
    compression = config["compression"]
    removed = {
        "dense": 0.0,
        "magnitude": 0.6 * (compression.get("sparsity") or 0.5),
        "student": 0.2 * (3 - (compression.get("num_layers") or 1)),
        "heads": 0.3 * (compression.get("remove") or 0.3),
    }[compression["name"]]
    kept = {"vanilla": 0.0, "distil": 0.15, "rmc": 0.35, "poe": 0.05}[config["loss"]["name"]]
    cost = removed * (1.6 if compression["name"] == "heads" else 1.0)
    inside = 0.97 - 0.1 * cost**1.5 + rng.gauss(0, 0.004)
    outside = 0.885 - 0.75 * cost**1.3 * (1 - kept) + rng.gauss(0, 0.015)
    if not dense:
        inside, outside = min(inside, 0.995), max(outside, 0.5)
    metrics = {
        "id_dev/accuracy": inside,
        "ood_dev/accuracy": outside,
        "footprint/nonzero_parameters": DENSE * (1 - removed),
        "footprint/parameters": DENSE,
        "id_dev/difficulty_gap": 8 + 40 * cost + rng.gauss(0, 1),
    }
    for i, subcase in enumerate(SUBCASES):
        key = f"ood_dev/overlap/subcase.{subcase}/accuracy"
        metrics[key] = min(max(outside + (0.1 - 0.12 * i * (1 + cost)) * (i - 2), 0.0), 1.0)
    return metrics


def write_record(folder: SweepFolder, record: TrialRecord) -> None:
    """Write a record without waiting for the disk."""
    path = folder.trials / record.id
    path.mkdir(parents=True, exist_ok=True)
    (path / "record.json").write_text(record.model_dump_json())


def confirm_made(sweep: Sweep, *, rows: int = 4, seeds: int = 3, seed: int = 1) -> None:
    """Give the dense reference and the best `rows` of a made sweep new seeds."""
    config = confirmation(sweep, seeds=seeds)
    folder = SweepFolder.create(sweep.folder.storage, f"{sweep.name}.confirm", "x")
    folder.write_config(config.as_dict())
    finished = [record for record in sweep.records if record.status == "finished"]
    wanted = {record.id for record in sweep.candidates[:rows]} | {"t0000"}
    rng = random.Random(seed)
    for number, (trial_id, point) in enumerate(config.first_trials().items()):
        row = number // seeds
        if row >= len(finished) or finished[row].id not in wanted:
            continue
        trial = config.trial(point)
        record = TrialRecord(
            id=trial_id,
            status="finished",
            name=trial.compression.label(),
            config=trial.as_dict(),
            fingerprint=trial.fingerprint(),
            started=0.0,
            metrics=made_metrics(trial.as_dict(), rng, dense=finished[row].reference),
        )
        write_record(folder, record)
    keep_ending(folder.path, folder.attempt(), "the race")


def open_made(sweep: Sweep, *, drop: float = 0.05) -> None:
    """Write test.json: the front loses `drop` from dev to test."""
    chosen = [*sweep.front, *sweep.candidates]
    trials = {
        record.id: {
            "name": record.name,
            "metrics": {
                "id_test/accuracy": record.metric("id_dev/accuracy") - 0.01,
                "ood_test/accuracy": record.metric("ood_dev/accuracy") - drop,
            },
            "opened": 0.0,
        }
        for record in [sweep.records[0], *chosen]
    }
    document = {
        "opened": 0.0,
        "design": "search",
        "selection": [record.id for record in chosen],
        "trials": trials,
        "changed_after_opening": [],
    }
    sweep.folder.test.write_text(json.dumps(document))


def _rungs(metrics: dict[str, float]) -> tuple[RungRecord, ...]:
    values = {f"rung/{role}/accuracy": metrics[f"{role}/accuracy"] - 0.03 for role in
              ("id_dev", "ood_dev")}  # fmt: skip
    assert all(math.isfinite(value) for value in values.values())
    return (RungRecord(step=50, progress=0.5, seconds=25.0, metrics=values),)
