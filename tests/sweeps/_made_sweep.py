"""A sweep made up in a second: records of plausible numbers, told to tracking as a driver would."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path
from typing import Any

from rc_core.config import TrialConfig
from rc_core.record import RungRecord, TrialRecord
from sweeps.config import SweepConfig
from sweeps.folder import SweepFolder
from sweeps.tracking.events import SweepEvents

RAW: dict[str, Any] = {
    "model": "tiny:bert",
    "compression": {"name": "magnitude", "sparsity": 0.7},
    "space": {
        "compression.name": {"choice": ["magnitude", "student"]},
        "compression.sparsity": {
            "uniform": [0.2, 0.9],
            "when": {"compression.name": "magnitude"},
        },
        "compression.num_layers": {"int": [1, 4], "when": {"compression.name": "student"}},
        "loss.name": {"choice": ["vanilla", "distil", "rmc"]},
        "loss.alpha": {"uniform": [0.1, 0.9], "when": {"loss.name": "rmc"}},
        "loss.lambda": {"choice": [0.5, 0.9], "when": {"loss.name": ["distil", "rmc"]}},
    },
    "search": {"name": "tpe", "trials": 20},
}
SUBCASES = [
    f"subcase.{kind}_{i}" for kind in ("le", "ln", "se", "sn", "ce", "cn") for i in range(5)
]
DATA: dict[str, Any] = {
    "digest": "f6034a220f6e71e2",
    "notes": {},
    "train.shortcut_nli": {"samples": 3000, "digest": "56896be6eb972d48"},
    "id_dev.shortcut_nli": {"samples": 600, "digest": "7d5a15522d1167fc"},
    "ood_dev.overlap": {"samples": 600, "digest": "87a8841179684a68"},
}


def make_sweep(
    storage: Path,
    name: str,
    *,
    trials: int,
    running: int = 0,
    seed: int = 0,
    track: bool = True,
    status: str = "finished",
) -> SweepFolder:
    """Write a sweep's records and, unless told otherwise, deliver its events to MLflow.

    Args:
        trials: how many, the reference and the running ones included.
        running: the last so many have only a rung.
        status: how the sweep ended; `running` where its driver is still at work.
    """
    values = RAW | {"search": {"name": "tpe", "trials": max(trials, 1)}}
    sweep = SweepConfig(values)
    folder = SweepFolder.create(storage, name, name)
    folder.write_config(sweep.as_dict())
    (folder.path / "attempt.json").write_text('{"attempt": 1, "pid": 0}\n')
    rng = random.Random(seed)
    events = SweepEvents(sweep, folder) if track else None
    if events is not None:
        events.sweep_started(1)
    started = time.time()
    for number in range(trials):
        trial_id = f"t{number:04d}"
        config = sweep.reference() if number == 0 else sweep.trial(sweep.space.draw(rng))
        begin = started + number
        open_ended = number >= trials - running
        record = _record(trial_id, config, rng, begin, number, open_ended=open_ended)
        folder.trial(trial_id).commit(record)
        if record.status == "finished":
            folder.trial(trial_id).model.mkdir()
        if events is None:
            continue
        if number == 0:
            events.trial_started(record)
        else:
            events.trial_assigned(trial_id, config.as_dict())
        for rung in record.rungs:
            events.rung(trial_id, {**rung.metrics, "steps": rung.step})
        if record.status != "running":
            events.trial_ended(record)
    if events is not None and status != "running":
        assert events.sweep_ended(status, 20.0 * trials) == 0
    return folder


def _record(
    trial_id: str,
    config: TrialConfig,
    rng: random.Random,
    begin: float,
    number: int,
    *,
    open_ended: bool,
) -> TrialRecord:
    compression = config.compression.as_dict()
    if config.is_reference():
        kept = 1.0
    elif compression["name"] == "magnitude":
        kept = 1.0 - compression["sparsity"]
    else:
        kept = compression["num_layers"] / 6
    gain = {"vanilla": 0.0, "distil": 0.04, "rmc": 0.09}[config.loss.name]
    id_accuracy = 0.97 - 0.12 * (1 - kept) ** 2 - gain / 5 + rng.gauss(0, 0.006)
    ood_accuracy = 0.88 - 0.35 * (1 - kept) + gain + rng.gauss(0, 0.02)
    failed, stopped = number % 23 == 11, number % 9 == 7
    status: Any = "running" if open_ended else "failed" if failed else "finished"
    if status == "finished" and stopped:
        status = "stopped"
    rung = RungRecord(
        step=94,
        progress=0.5,
        seconds=9.0,
        metrics={
            "rung/train_loss": 0.4,
            "rung/id_dev/accuracy": id_accuracy - 0.05,
            "rung/ood_dev/accuracy": ood_accuracy - 0.05,
        },
    )
    metrics = {
        "id_dev/accuracy": id_accuracy,
        "id_dev/shortcut_nli/accuracy": id_accuracy,
        "ood_dev/accuracy": ood_accuracy,
        "ood_dev/overlap/accuracy": ood_accuracy,
        "ood_dev/relative_bias": math.nan,
        "ood_dev/difference": 100 * (ood_accuracy - 0.88),
        "footprint/parameters": 22.7e6,
        "footprint/encoder_sparsity": 1 - kept if compression["name"] == "magnitude" else 0.0,
        "footprint/nonzero_parameters": 11e6 + 11e6 * kept,
        **{f"ood_dev/overlap/{case}/accuracy": rng.random() for case in SUBCASES},
    }
    return TrialRecord(
        id=trial_id,
        status=status,
        name=config.label(),
        config=config.as_dict(),
        fingerprint=config.fingerprint(),
        reference=config.is_reference(),
        attempt=1,
        started=begin,
        finished=None if status == "running" else begin + 18,
        metrics=metrics if status == "finished" else {},
        rungs=() if config.is_reference() else (rung,),
        seconds={"total": 18.0} if status == "finished" else {},
        steps={"own": 188} if status == "finished" else {},
        data=DATA,
        error="loss is not finite at step 120" if status == "failed" else None,
    )
