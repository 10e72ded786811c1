"""The training of one compressed model: what it reads, its rungs, its end.

run = begin                          artifacts built, loss and model made, a checkpoint loaded
for point in fit_compressed: report  at each rung: evaluate, commit the record, then the checkpoint
finish                               evaluate the open roles in full, save the model, seal
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from rc_core.alpha import resolve
from rc_core.artifacts import Artifact
from rc_core.assembly import (
    compressed_data,
    fit_compressed,
    prepare_loss,
    prepare_model,
    prepare_teacher,
)
from rc_core.checkpoint import load_checkpoint, save_checkpoint
from rc_core.compression._base import Compression
from rc_core.config import TrialConfig
from rc_core.data._task import DEV_ROLES
from rc_core.errors import ModelError, TrialError
from rc_core.estimates import difficulty, knows_difficulty
from rc_core.evaluation import (
    LogProbs,
    agreement_metrics,
    counted_sizes,
    difficulty_metrics,
    predict_splits,
    relative_metrics,
    rung_metrics,
    split_metrics,
    write_predictions,
)
from rc_core.forward import FrozenTeacher
from rc_core.losses._base import AnyLoss
from rc_core.metrics.footprint import footprint
from rc_core.models import load_model, save_model
from rc_core.preparation import steps
from rc_core.record import RungRecord, TrialFolder, TrialRecord
from rc_core.teacher import teacher, teacher_facts, training_facts
from rc_core.training import FitPoint
from rc_core.workspace import TaskData, Workspace


@dataclass
class _Run:
    """A trial between its first step and its last: what the parts below share.

    Attributes:
        config: of the trial.
        dense: the dense reference.
        asked: its model, where the loss asks it in every step.
        resume: the checkpoint's state, None where training begins anew.
        spent: seconds besides training, `prepare` and `evaluate`, over all processes that worked on
            the trial, as training's own are.
    """

    config: TrialConfig
    workspace: Workspace
    folder: TrialFolder
    data: TaskData
    dense: Artifact
    asked: FrozenTeacher | None
    loss: AnyLoss
    rows: Mapping[str, Tensor]
    compression: Compression
    model: nn.Module
    precision: str
    resume: dict[str, Any] | None
    spent: dict[str, float]

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count what is done meanwhile as evaluation."""
        clock = time.perf_counter()
        yield
        self.spent["evaluate"] += time.perf_counter() - clock


def train_trial(
    config: TrialConfig, workspace: Workspace, folder: TrialFolder, record: TrialRecord
) -> Generator[RungRecord, None, TrialRecord]:
    """Train and evaluate a compressed model, yielding after each rung but the last.

    Args:
        record: of the trial, running; its rungs are those before the checkpoint, if there is one.

    Returns:
        The finished record, not committed yet.

    Raises:
        TrialError: training diverged or the compression missed its target.
        StaleAttemptError: a newer driver has taken the sweep over.
    """
    run, record = _begin(config, workspace, folder, record)
    for point in fit_compressed(
        config,
        workspace,
        run.loss,
        run.rows,
        run.compression,
        run.model,
        dense=run.asked,
        resume=run.resume,
    ):
        if point.progress == 1.0:
            break
        record = _report(run, record, point)
        yield record.rungs[-1]
    return _finish(run, record, point)


def _begin(
    config: TrialConfig, workspace: Workspace, folder: TrialFolder, record: TrialRecord
) -> tuple[_Run, TrialRecord]:
    """Make everything that training reads, and what the record says of it."""
    started = time.perf_counter()
    data = compressed_data(config, workspace)
    artifacts = _build(config, workspace)
    dense = teacher(config, workspace)
    resolved, chosen = resolve(config, workspace)
    compression, model = prepare_model(resolved, workspace)
    asked = prepare_teacher(resolved, workspace)
    loss, rows, report = prepare_loss(resolved, workspace, model=model, dense=asked)
    if chosen:
        report["alpha"] = chosen
    resume = load_checkpoint(folder, config, dense.key.key, model)
    precision = workspace.precision(config)
    before = resume["spent"] if resume is not None else {"prepare": 0.0, "evaluate": 0.0}
    spent = before | {"prepare": before["prepare"] + time.perf_counter() - started}
    record = record.model_copy(
        update={
            "artifacts": artifacts,
            "loss": report,
            "data": data.facts([data.task.train, *data.open_splits]),
            # Where training begins anew (other data), those of before are not of this run.
            "rungs": record.rungs if resume is not None else (),
        }
    )
    run = _Run(
        config,
        workspace,
        folder,
        data,
        dense,
        asked,
        loss,
        rows,
        compression,
        model,
        precision,
        resume,
        spent,
    )
    return run, record


def _report(run: _Run, record: TrialRecord, point: FitPoint) -> TrialRecord:
    """Evaluate at the end of a rung; commit the record with it, and then the checkpoint."""
    with run.evaluating():
        rung = RungRecord(
            step=point.step,
            progress=point.progress,
            seconds=round(point.seconds, 3),
            metrics={"rung/train_loss": point.train_loss}
            | rung_metrics(run.model, run.data, DEV_ROLES, run.precision),
        )
    spent = dict(run.spent)
    with run.evaluating():
        record = record.model_copy(update={"rungs": (*record.rungs, rung)})
        run.folder.commit(record)
        save_checkpoint(run.folder, run.config, run.dense.key.key, run.model, point, spent)
    return record


def _finish(run: _Run, record: TrialRecord, point: FitPoint) -> TrialRecord:
    """Evaluate the finished model on the open roles, save it, and return the sealed record."""
    config, folder, data = run.config, run.folder, run.data
    reference = teacher_facts(run.dense)
    with run.evaluating():
        folder.check(record)
        model = run.compression.finalize(run.model)
        predictions = predict_splits(model, data, data.open_splits)
        metrics = split_metrics(data, DEV_ROLES, predictions)
        sizes = counted_sizes(data.task, "dev")
        relative, undefined = relative_metrics(metrics, reference["metrics"], "dev", sizes=sizes)
        metrics |= agreement_metrics(predictions, data.open_splits, run.dense.path / "predictions")
        halves, unclear = measure_halves(config, run.workspace, predictions)
        packed = getattr(run.compression, "packed_bits", None)
        metrics |= relative | halves
        metrics |= footprint(model, packed_bits=None if packed is None else packed(model))
        for split in data.open_splits:
            path = folder.predictions(split.role, split.suite)
            write_predictions(path, split, predictions[split.name], data.task.label_names)
        report = run.compression.report(model)
        try:
            json.dumps(report)
        except TypeError as error:
            raise TrialError(
                f"rc_core/compression/{config.compression.name}.py: report() must return plain "
                f"JSON values, but {error}"
            ) from error
        name = config.compression.name
        save_model(model.cpu(), data.tokenizer, folder.model, compression=name)
        _check_saved(config, folder)
    seconds = {
        "prepare": round(run.spent["prepare"], 3),
        "train": round(point.seconds, 3),
        "evaluate": round(run.spent["evaluate"], 3),
    }
    losses = [(rung.step, rung.metrics["rung/train_loss"]) for rung in record.rungs]
    from_teacher = config.compression.init == "teacher"
    return record.model_copy(
        update={
            "metrics": metrics,
            "undefined": undefined | unclear,
            "compression": report,
            "training": {**training_facts(losses, point), "precision": run.precision},
            "steps": {
                "own": point.step,
                "counted": point.step + (reference["steps"] if from_teacher else 0),
            },
            "seconds": seconds | {"total": round(sum(seconds.values()), 3)},
        }
    ).sealed("finished")


def _check_saved(config: TrialConfig, folder: TrialFolder) -> None:
    """Load what was saved: a record must not call finished what nobody can read. TrialError."""
    try:
        load_model(folder.model)
    except ModelError as error:
        raise TrialError(
            f"a finished model must load from its folder, but what compression "
            f"'{config.compression.name}' made of {config.compression.encoder(config.model)} does "
            f"not ({error}); take another encoder or compression"
        ) from error


def measure_halves(
    config: TrialConfig, workspace: Workspace, predictions: Mapping[str, LogProbs]
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the figures of easy and hard id_dev samples, where an estimate of difficulty exists.

    A sweep makes it before its first trial if any of its losses needs it; nothing is trained here.
    """
    if not knows_difficulty(config, workspace):
        return {}, {}
    task = workspace.data(config).task
    hard = difficulty(config, workspace).hard_id_dev
    return difficulty_metrics(predictions[task.id_dev.name], task.id_dev, task.label_names, hard)


def _build(config: TrialConfig, workspace: Workspace) -> dict[str, str]:
    """Build what is missing; return kind -> key, several keys of one kind joined."""
    found: dict[str, list[str]] = {}
    for step in steps(config, workspace):
        artifact = step.attempt()
        if not isinstance(artifact, str):
            found.setdefault(step.key.kind, []).append(artifact.key.key)
    return {kind: "+".join(keys) for kind, keys in found.items()}
