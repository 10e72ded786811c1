"""How one compressed model is trained, reported on and finished.

run = _begin                            build artifacts, loss and model; load a checkpoint
for point in fit_compressed: _report    at each rung: evaluate, commit record, write checkpoint
_finish                                 evaluate the open roles in full, save the model, seal
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from rc_core.alpha import resolve
from rc_core.artifacts import Artifact
from rc_core.assembly import Assembly, assemble, compressed_data, fit_compressed
from rc_core.checkpoint import load_checkpoint, save_checkpoint
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
from rc_core.metrics.footprint import footprint
from rc_core.models import load_model, save_model
from rc_core.preparation import steps
from rc_core.record import RungRecord, TrialFolder, TrialRecord
from rc_core.teacher import teacher, teacher_facts, training_facts
from rc_core.training import FitPoint
from rc_core.workspace import TaskData, Workspace


@dataclass
class _Run:
    """State of one trial, shared by the phases below from `_begin` to `_finish`.

    Attributes:
        config: the trial's configuration, as given.
        reference: the dense reference's artifact.
        parts: what is trained; its configuration has `alpha: auto` resolved.
        resume: state from a checkpoint; None if training starts from scratch.
        spent: seconds spent outside training, under `prepare` and `evaluate`, summed over all
            processes that worked on the trial. `FitPoint.seconds` does the same for training.
    """

    config: TrialConfig
    workspace: Workspace
    folder: TrialFolder
    data: TaskData
    reference: Artifact
    parts: Assembly
    precision: str
    resume: dict[str, Any] | None
    spent: dict[str, float]

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count the time spent inside as evaluation."""
        started = time.perf_counter()
        yield
        self.spent["evaluate"] += time.perf_counter() - started


def train_trial(
    config: TrialConfig, workspace: Workspace, folder: TrialFolder, record: TrialRecord
) -> Generator[RungRecord, None, TrialRecord]:
    """Train and evaluate a compressed model, yielding after every rung but the last.

    Args:
        record: the trial's running record; its rungs are those before the checkpoint, if any.

    Returns:
        The finished record, not committed yet.

    Raises:
        TrialError: training diverged, or the compression missed its target.
        StaleAttemptError: a newer driver has taken over the sweep.
    """
    run, record = _begin(config, workspace, folder, record)
    for point in fit_compressed(run.parts, resume=run.resume):
        if point.progress == 1.0:
            break
        record = _report(run, record, point)
        yield record.rungs[-1]
    return _finish(run, record, point)


def _begin(
    config: TrialConfig, workspace: Workspace, folder: TrialFolder, record: TrialRecord
) -> tuple[_Run, TrialRecord]:
    """Build everything that training reads; return it, and the record with what it says of it."""
    started = time.perf_counter()
    data = compressed_data(config, workspace)
    artifacts = _build_artifacts(config, workspace)
    reference = teacher(config, workspace)
    resolved, alpha_report = resolve(config, workspace)
    parts = assemble(resolved, workspace)
    loss_report = parts.prepared.report | ({"alpha": alpha_report} if alpha_report else {})
    resume = load_checkpoint(folder, config, reference.key.key, parts.model)
    precision = workspace.precision(config)
    spent = {"prepare": 0.0, "evaluate": 0.0} if resume is None else dict(resume["spent"])
    spent["prepare"] += time.perf_counter() - started
    record = record.model_copy(
        update={
            "artifacts": artifacts,
            "loss": loss_report,
            "data": data.facts([data.task.train, *data.open_splits]),
            # If the checkpoint was rejected (the data changed), its rungs are not part of this run.
            "rungs": record.rungs if resume is not None else (),
        }
    )
    run = _Run(
        config=config,
        workspace=workspace,
        folder=folder,
        data=data,
        reference=reference,
        parts=parts,
        precision=precision,
        resume=resume,
        spent=spent,
    )
    return run, record


def _build_artifacts(config: TrialConfig, workspace: Workspace) -> dict[str, str]:
    """Build missing artifacts; return kind -> key, several keys of one kind joined by "+"."""
    keys: dict[str, list[str]] = {}
    for step in steps(config, workspace):
        artifact = step.attempt()
        if not isinstance(artifact, str):
            keys.setdefault(step.key.kind, []).append(artifact.key.key)
    return {kind: "+".join(found) for kind, found in keys.items()}


def _report(run: _Run, record: TrialRecord, point: FitPoint) -> TrialRecord:
    """Evaluate at the end of a rung; commit the record with it, and then the checkpoint."""
    with run.evaluating():
        rung = RungRecord(
            step=point.step,
            progress=point.progress,
            seconds=round(point.seconds, 3),
            metrics={"rung/train_loss": point.train_loss}
            | rung_metrics(run.parts.model, run.data, DEV_ROLES, run.precision),
        )
    # The checkpoint can hold no more than the time before it is written; the rest counts here only.
    spent = dict(run.spent)
    with run.evaluating():
        record = record.model_copy(update={"rungs": (*record.rungs, rung)})
        run.folder.commit(record)
        save_checkpoint(
            run.folder, run.config, run.reference.key.key, run.parts.model, point, spent
        )
    return record


def _finish(run: _Run, record: TrialRecord, point: FitPoint) -> TrialRecord:
    """Evaluate the finished model on the open roles, save it, and return the sealed record."""
    name = run.config.compression.name
    reference = teacher_facts(run.reference)
    with run.evaluating():
        run.folder.check(record)
        model = run.parts.compression.finalize(run.parts.model)
        metrics, undefined = _evaluate(run, model, reference["metrics"])
        compression_report = run.parts.compression.report(model)
        try:
            json.dumps(compression_report)
        except TypeError as error:
            raise TrialError(
                f"rc_core/compression/{name}.py: report() must return plain JSON values, but "
                f"{error}"
            ) from error
        save_model(model.cpu(), run.data.tokenizer, run.folder.model, compression=name)
        _check_saved(run.config, run.folder)
    seconds = {
        "prepare": round(run.spent["prepare"], 3),
        "train": round(point.seconds, 3),
        "evaluate": round(run.spent["evaluate"], 3),
    }
    losses = [(rung.step, rung.metrics["rung/train_loss"]) for rung in record.rungs]
    inherited_steps = reference["steps"] if run.config.compression.init == "teacher" else 0
    return record.model_copy(
        update={
            "metrics": metrics,
            "undefined": undefined,
            "compression": compression_report,
            "training": {**training_facts(losses, point), "precision": run.precision},
            "steps": {"own": point.step, "counted": point.step + inherited_steps},
            "seconds": seconds | {"total": round(sum(seconds.values()), 3)},
        }
    ).sealed("finished")


def _evaluate(
    run: _Run, model: nn.Module, reference_metrics: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, str]]:
    """Predict the open splits, write the predictions, and return all metrics of a trial.

    Returns:
        The metrics, and for each undefined one the reason.
    """
    data = run.data
    predictions = predict_splits(model, data, data.open_splits)
    metrics = split_metrics(data, DEV_ROLES, predictions)
    sizes = counted_sizes(data.task, "dev")
    relative, undefined = relative_metrics(metrics, reference_metrics, "dev", sizes=sizes)
    halves, undefined_halves = measure_halves(run.config, run.workspace, predictions)
    packed_bits = getattr(run.parts.compression, "packed_bits", None)
    metrics |= agreement_metrics(predictions, data.open_splits, run.reference.path / "predictions")
    metrics |= relative | halves
    metrics |= footprint(model, packed_bits=None if packed_bits is None else packed_bits(model))
    for split in data.open_splits:
        path = run.folder.predictions(split.role, split.suite)
        write_predictions(path, split, predictions[split.name], data.task.label_names)
    return metrics, undefined | undefined_halves


def _check_saved(config: TrialConfig, folder: TrialFolder) -> None:
    """Load the saved model: a trial whose model cannot be read back must not count as finished.

    Raises:
        TrialError: it does not load.
    """
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
    """Return the metrics of easy and hard id_dev samples, if a difficulty estimate is stored.

    Nothing is trained here: a sweep builds the estimate before its first trial if any of its losses
    needs it.

    Returns:
        The metrics, and for each undefined one the reason; both empty without an estimate.
    """
    if not knows_difficulty(config, workspace):
        return {}, {}
    task = workspace.data(config).task
    hard = difficulty(config, workspace).hard_id_dev
    return difficulty_metrics(predictions[task.id_dev.name], task.id_dev, task.label_names, hard)
