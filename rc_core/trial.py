"""One trial: from a resolved configuration to a record, a model and predictions on disk.

    python -m rc_core.trial LIST.jsonl --out DIR [--jobs N]    (see rc_core.batch)

`trial_steps` is a generator, so its caller (a loop, a Ray actor) can stop after any rung: the
record on disk is valid at that point, and the checkpoint beside it lets the same trial resume
later.
"""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Generator, Sequence

from rc_core.assembly import compressed_data
from rc_core.checkpoint import rungs_before
from rc_core.config import PLUGIN_PACKAGES, TrialConfig
from rc_core.data._task import DEV_ROLES, TEST_ROLES, Role
from rc_core.errors import RobustCompressionError, StaleAttemptError
from rc_core.evaluation import (
    counted_sizes,
    predict_splits,
    read_predictions,
    relative_metrics,
    split_metrics,
    write_predictions,
)
from rc_core.memory import give_back
from rc_core.metrics._floors import floors
from rc_core.metrics.footprint import footprint
from rc_core.models import load_model
from rc_core.record import RungRecord, TrialFolder, TrialRecord
from rc_core.teacher import teacher, teacher_facts
from rc_core.trial_run import measure_halves, train_trial
from rc_core.workspace import Workspace


def run_trial(
    config: TrialConfig, workspace: Workspace, folder: TrialFolder, *, trial_id: str
) -> TrialRecord:
    """Run a trial to completion and return its record; a failure is recorded, then re-raised."""
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
    """Run a trial, yielding after every rung but the last; return the finished record.

    Only the open roles (id_dev, ood_dev) are evaluated. The record is committed before each yield.
    If the folder holds a checkpoint of the same configuration, training resumes from it.

    Raises:
        TrialError: training diverged, or the compression missed its target.
        StaleAttemptError: a newer driver has taken over the sweep.
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
        environment=workspace.environment() | {"plugins": config.sources()},
    )
    rungs = None if previous is None else rungs_before(folder, config, previous)
    if previous is not None and rungs is not None:
        # The first commit below must not drop the rungs that the interrupted run reported.
        record = record.model_copy(update={"rungs": rungs, "started": previous.started})
    try:
        folder.commit(record)
        folder.forget_test()
        if record.reference:
            record = _adopt_teacher(config, workspace, folder, record)
        else:
            record = yield from train_trial(config, workspace, folder, record)
        folder.commit(record)
        folder.forget_checkpoint()
        return record
    except StaleAttemptError:
        raise
    except Exception as error:
        # If a newer driver has taken over, the record on disk is its own: `check` raises first.
        folder.check(record)
        current = folder.read() or record
        # An error after the final commit (a failed upload) does not undo a finished trial.
        if current.status != "finished":
            folder.commit(current.sealed("failed", error=reason(error)))
        raise
    finally:
        # Freed memory goes back to the system before this process starts its next trial.
        give_back()


def evaluate_saved(
    config: TrialConfig,
    workspace: Workspace,
    folder: TrialFolder,
    roles: Sequence[Role] = TEST_ROLES,
) -> dict[str, float]:
    """Evaluate a finished trial's saved weights on roles that were sealed while it ran.

    The predictions are written beside the others. A stamp that ties them to this run is written
    last. The record is not changed.

    Args:
        workspace: must not be sealed if `roles` include a test role.
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
    """Record the dense, vanilla trial, which *is* the teacher: copy its artifact, train nothing."""
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
        for split in data.open_splits
    }
    halves, unclear = measure_halves(config, workspace, predictions)
    seconds = {**facts["seconds"], "total": sum(facts["seconds"].values())}
    return record.model_copy(
        update={
            "metrics": metrics | halves,
            "undefined": undefined | unclear,
            "seconds": seconds,
            "steps": {"own": facts["steps"], "counted": facts["steps"]},
            "data": data.facts([data.task.train, *data.open_splits])
            | {"floors": floors(data.task, DEV_ROLES)},
            "training": {**facts["training"], "precision": facts["precision"]},
            "artifacts": {"teacher": artifact.key.key},
        }
    ).sealed("finished")


def reason(error: Exception) -> str:
    """Return what a record says about a failure: our own message, else type, message and location.

    The location is the innermost frame inside a plugin package, or else inside rc_core: that is
    where a plugin's author will look first.
    """
    if isinstance(error, RobustCompressionError):
        return str(error)
    message = f"{type(error).__name__}: {error}"
    frames = [
        (frame, file)
        for frame in traceback.extract_tb(error.__traceback__)
        if (file := _in_package(frame.filename))
    ]
    if not frames:
        return message
    in_plugins = [each for each in frames if each[1].rpartition("/")[0] in _PLUGIN_FOLDERS]
    frame, file = (in_plugins or frames)[-1]
    return f"{message} (in {frame.name}, {file}:{frame.lineno})"


_PLUGIN_FOLDERS = {package.replace(".", "/") for package in PLUGIN_PACKAGES.values()}


def _in_package(filename: str) -> str:
    """Return a source file as `rc_core/losses/mine.py`, or "" if it is not part of rc_core."""
    path = filename.replace(os.sep, "/").replace("/rc_core.", "/rc_core/")
    _, found, rest = path.rpartition("/rc_core/")
    return f"rc_core/{rest}" if found else ""


if __name__ == "__main__":
    import sys

    from rc_core.batch import main

    sys.exit(main())
