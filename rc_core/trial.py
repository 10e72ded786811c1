"""One trial: from a resolved configuration to a record, model and predictions on disk.

    python -m rc_core.trial LIST.jsonl --out DIR [--jobs N]    (see rc_core.batch)

`trial_steps` is a generator, so that whoever drives it (a loop, a Ray actor) may stop after any
rung: the record on disk is valid then, and a checkpoint lets the same trial go on later.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator, Mapping, Sequence

from rc_core.alpha import resolve
from rc_core.assembly import compressed_data, prepare_loss, prepare_model, recordable
from rc_core.checkpoint import load_checkpoint, rungs_before, save_checkpoint
from rc_core.config import TrialConfig
from rc_core.data._task import DEV_ROLES, TEST_ROLES, Role, Split
from rc_core.errors import RobustCompressionError, StaleAttemptError
from rc_core.estimates import difficulty, knows_difficulty
from rc_core.evaluation import (
    LogProbs,
    agreement_metrics,
    counted_sizes,
    difficulty_metrics,
    predict_splits,
    read_predictions,
    relative_metrics,
    rung_metrics,
    split_metrics,
    write_predictions,
)
from rc_core.metrics._floors import floors
from rc_core.metrics.footprint import footprint
from rc_core.models import load_model, save_model
from rc_core.preparation import steps
from rc_core.record import RungRecord, TrialFolder, TrialRecord
from rc_core.teacher import teacher, teacher_facts, training_facts
from rc_core.training import fit
from rc_core.workspace import TaskData, Workspace


def run_trial(
    config: TrialConfig, workspace: Workspace, folder: TrialFolder, *, trial_id: str
) -> TrialRecord:
    """Run a trial to its end and return its record; a failure is recorded, then raised."""
    generator = trial_steps(config, workspace, folder, trial_id=trial_id)
    while True:
        try:
            next(generator)
        except StopIteration as end:
            record: TrialRecord = end.value
            return record


def trial_steps(
    config: TrialConfig,
    workspace: Workspace,
    folder: TrialFolder,
    *,
    trial_id: str,
    attempt: int = 0,
) -> Generator[RungRecord, None, TrialRecord]:
    """Run a trial, yielding after each rung but the last; return the finished record.

    Only the open roles (id_dev, ood_dev) are evaluated. The record is committed before each
    yield. A checkpoint of the same configuration in the folder is continued from.

    Raises:
        TrialError: training diverged or the compression missed its target.
        StaleAttemptError: a newer driver has taken the sweep over.
    """
    previous = folder.read()
    record = TrialRecord(
        id=trial_id,
        status="running",
        name=config.label(),
        config=config.as_dict(),
        fingerprint=config.fingerprint(),
        reference=config.is_reference(),
        attempt=attempt,
        started=time.time(),
        environment=workspace.environment(),
    )
    rungs = None if previous is None else rungs_before(folder, config, previous)
    if previous is not None and rungs is not None:
        # The first commit below must not lose what the interrupted run had reported.
        record = record.model_copy(update={"rungs": rungs, "started": previous.started})
    try:
        folder.commit(record)
        folder.forget_test()
        if record.reference:
            record = _adopt_teacher(config, workspace, folder, record)
        else:
            record = yield from _train(config, workspace, folder, record)
        folder.commit(record)
        shutil.rmtree(folder.checkpoint, ignore_errors=True)
        return record
    except StaleAttemptError:
        raise
    except Exception as error:
        current = folder.read() or record
        # What could not be taken on from here (an upload) makes no failure of what is finished.
        if current.status != "finished":
            folder.commit(current.sealed("failed", error=reason(error)))
        raise


def evaluate_saved(
    config: TrialConfig,
    workspace: Workspace,
    folder: TrialFolder,
    roles: Sequence[Role] = TEST_ROLES,
) -> dict[str, float]:
    """Evaluate a finished trial's saved weights on roles that were closed while it ran.

    Predictions are written beside the others, and last a stamp that says whose they are; the record
    is not changed. The test roles need a workspace that is not sealed.
    """
    data = compressed_data(config, workspace)
    model = load_model(folder.model).to(workspace.device)
    splits = [split for role in roles for split in data.task.of_role(role)]
    predictions = predict_splits(model, data, splits)
    for split in splits:
        path = folder.predictions(split.role, split.suite)
        write_predictions(path, split, predictions[split.name], data.task.label_names)
    if set(TEST_ROLES) <= set(roles):
        folder.stamp_test({split.name: data.digest(split) for split in splits})
    return split_metrics(data, roles, predictions)


def _adopt_teacher(
    config: TrialConfig, workspace: Workspace, folder: TrialFolder, record: TrialRecord
) -> TrialRecord:
    """The dense, vanilla trial *is* the teacher: take its weights and evaluation, train nothing."""
    artifact = teacher(config, workspace)
    facts = teacher_facts(artifact)
    data = workspace.data(config)
    shutil.rmtree(folder.model, ignore_errors=True)
    shutil.copytree(artifact.path / "model", folder.model)
    shutil.copytree(artifact.path / "predictions", folder.path / "predictions", dirs_exist_ok=True)
    metrics = dict(facts["metrics"])
    sizes = counted_sizes(data.task, "dev")
    relative, undefined = relative_metrics(metrics, metrics, "dev", sizes=sizes)
    metrics |= relative | footprint(load_model(folder.model))
    predictions = {
        split.name: read_predictions(folder.predictions(split.role, split.suite))
        for split in _open_splits(data)
    }
    halves, unclear = _difficulty_metrics(config, workspace, predictions)
    seconds = {**facts["seconds"], "total": sum(facts["seconds"].values())}
    return record.model_copy(
        update={
            "metrics": metrics | halves,
            "undefined": undefined | unclear,
            "seconds": seconds,
            "steps": {"own": facts["steps"], "counted": facts["steps"]},
            "data": data.facts([data.task.train, *_open_splits(data)])
            | {"floors": floors(data.task, DEV_ROLES)},
            "training": {**facts["training"], "precision": facts["precision"]},
            "artifacts": {"teacher": artifact.key.key},
        }
    ).sealed("finished")


def _train(
    config: TrialConfig, workspace: Workspace, folder: TrialFolder, record: TrialRecord
) -> Generator[RungRecord, None, TrialRecord]:
    started = time.perf_counter()
    data = compressed_data(config, workspace)
    training = config.training
    artifacts = _build(config, workspace)
    dense = teacher(config, workspace)
    reference = teacher_facts(dense)
    resolved, chosen = resolve(config, workspace)
    loss, rows, loss_report = prepare_loss(resolved, workspace)
    if chosen:
        loss_report["alpha"] = chosen
    compression, model = prepare_model(resolved, workspace, loss, rows)
    resume = load_checkpoint(folder, config, dense.key.key, model)
    precision = workspace.precision(config)
    # Like the training's own, over all processes that worked on the trial.
    before = resume["spent"] if resume is not None else {"prepare": 0.0, "evaluate": 0.0}
    prepare_seconds = before["prepare"] + time.perf_counter() - started
    record = record.model_copy(
        update={
            "artifacts": artifacts,
            "loss": loss_report,
            "data": data.facts([data.task.train, *_open_splits(data)]),
            # Where training begins anew (other data), those of before are not of this run.
            "rungs": record.rungs if resume is not None else (),
        }
    )
    evaluate_seconds = before["evaluate"]
    for point in fit(
        model,
        data.encoded(data.task.train),
        loss,
        training,
        precision=precision,
        rows=rows,
        after_step=lambda progress: compression.after_step(model, progress),
        resume=resume,
        recordable=recordable(loss, compression),
    ):
        if point.progress == 1.0:
            break
        clock = time.perf_counter()
        rung = RungRecord(
            step=point.step,
            progress=point.progress,
            seconds=round(point.seconds, 3),
            metrics={"rung/train_loss": point.train_loss}
            | rung_metrics(model, data, DEV_ROLES, precision),
        )
        evaluate_seconds += time.perf_counter() - clock
        spent = {"prepare": prepare_seconds, "evaluate": evaluate_seconds}
        clock = time.perf_counter()
        record = record.model_copy(update={"rungs": (*record.rungs, rung)})
        folder.commit(record)
        save_checkpoint(folder, config, dense.key.key, model, point, spent)
        evaluate_seconds += time.perf_counter() - clock
        yield rung
    clock = time.perf_counter()
    folder.check(record)
    model = compression.finalize(model)
    predictions = predict_splits(model, data, _open_splits(data))
    metrics = split_metrics(data, DEV_ROLES, predictions)
    sizes = counted_sizes(data.task, "dev")
    relative, undefined = relative_metrics(metrics, reference["metrics"], "dev", sizes=sizes)
    metrics |= agreement_metrics(predictions, _open_splits(data), dense.path / "predictions")
    halves, unclear = _difficulty_metrics(config, workspace, predictions)
    metrics |= relative | halves | footprint(model)
    for split in _open_splits(data):
        path = folder.predictions(split.role, split.suite)
        write_predictions(path, split, predictions[split.name], data.task.label_names)
    report = compression.report(model)
    save_model(model.cpu(), data.tokenizer, folder.model)
    evaluate_seconds += time.perf_counter() - clock
    seconds = {
        "prepare": round(prepare_seconds, 3),
        "train": round(point.seconds, 3),
        "evaluate": round(evaluate_seconds, 3),
    }
    losses = [(rung.step, rung.metrics["rung/train_loss"]) for rung in record.rungs]
    from_teacher = config.compression.init == "teacher"
    return record.model_copy(
        update={
            "metrics": metrics,
            "undefined": undefined | unclear,
            "compression": report,
            "training": {**training_facts(losses, point), "precision": precision},
            "steps": {
                "own": point.step,
                "counted": point.step + (reference["steps"] if from_teacher else 0),
            },
            "seconds": seconds | {"total": round(sum(seconds.values()), 3)},
        }
    ).sealed("finished")


def _difficulty_metrics(
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


def _open_splits(data: TaskData) -> list[Split]:
    return [split for role in DEV_ROLES for split in data.task.of_role(role)]


def reason(error: Exception) -> str:
    """Return what a record says of a failure: our own message, else type and message."""
    if isinstance(error, RobustCompressionError):
        return str(error)
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    import sys

    from rc_core.batch import main

    sys.exit(main())
