"""Training runs behind the estimates: the teacher pruned to levels, a dense model on part of train.

    pruned_level    outputs of the teacher pruned separately to one sparsity, on train and id_dev

Gradual pruning passes through several levels in one run. Independent runs are stored one by one, so
that they can be made in parallel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from rc_core.artifacts import Artifact, ArtifactKey
from rc_core.compression import magnitude
from rc_core.compression._base import CompressionContext
from rc_core.compression._gradual import milestones_at
from rc_core.config import TrainingConfig, TrialConfig
from rc_core.data._task import Split, Task
from rc_core.difficulty._base import Outputs, Predict, PrunedLevel
from rc_core.difficulty._levels import LevelsConfig
from rc_core.errors import DifficultyError, TrialError
from rc_core.models import load_encoder, load_model
from rc_core.teacher import teacher, teacher_key, training_inputs
from rc_core.training import FitPoint, fit_vanilla, num_steps, predict, rung_steps
from rc_core.workspace import Workspace

# 2: trained and evaluated in the reference's precision, which is the one in the key.
PRUNED_LEVEL_VERSION = 2
_OUTPUTS, _REPORT = "log_probs.safetensors", "report.json"


def level_key(
    config: TrialConfig,
    workspace: Workspace,
    level: float,
    *,
    epochs: float | None = None,
    learning_rate: float | None = None,
) -> ArtifactKey:
    """Return the key of the teacher pruned separately to one level.

    Args:
        config: of a trial.
        workspace: names the data.
        level: its sparsity.
        epochs: None takes those of the difficulty's settings.
        learning_rate: likewise.
    """
    training = _level_training(config, rungs=1, epochs=epochs, learning_rate=learning_rate)
    inputs = {
        "teacher": teacher_key(config, workspace).key,
        "level": level,
        "training": training_inputs(training),
    }
    return ArtifactKey("pruned_level", PRUNED_LEVEL_VERSION, inputs)


def level_artifact(
    config: TrialConfig,
    workspace: Workspace,
    level: float,
    *,
    epochs: float | None = None,
    learning_rate: float | None = None,
) -> Artifact:
    """Return the outputs of the teacher pruned to one level, training it if they are not stored.

    The arguments are those of `level_key`.
    """
    training = _level_training(config, rungs=1, epochs=epochs, learning_rate=learning_rate)
    key = level_key(config, workspace, level, epochs=epochs, learning_rate=learning_rate)

    def build(folder: Path) -> None:
        task = workspace.data(config.reference()).task
        model, points = _prune(config, workspace, None, level, training)
        with _naming(level):
            seconds = max(point.seconds for point in points)
        judge = predictor(model, config, workspace)
        outputs = {"train": judge(task.train), "id_dev": judge(task.id_dev)}
        log_probs = {name: torch.from_numpy(found)[None] for name, found in outputs.items()}
        save_outputs(Outputs(log_probs, {"train_seconds": seconds}), folder)

    return workspace.store.build(key, build)


def _level_training(
    config: TrialConfig,
    *,
    rungs: int,
    epochs: float | None = None,
    learning_rate: float | None = None,
) -> TrainingConfig:
    """Return how levels are trained: as the teacher, except for the steps and maybe the rate."""
    settings = config.difficulty
    if isinstance(settings, LevelsConfig):
        epochs = settings.epochs if epochs is None else epochs
        learning_rate = settings.learning_rate if learning_rate is None else learning_rate
    values = config.reference().training.as_dict() | {"epochs": epochs or 1.0, "rungs": rungs}
    if learning_rate is not None:
        values["learning_rate"] = learning_rate
    return TrainingConfig(**values)


def prune_levels(
    config: TrialConfig,
    workspace: Workspace,
    levels: tuple[float, ...],
    *,
    mode: Literal["gradual", "independent"],
    epochs: float,
    learning_rate: float | None,
) -> Iterator[PrunedLevel]:
    """Yield the teacher pruned to each level.

    gradual: one run whose milestones are the levels. Each level gets an equal share of the steps
    (in whole steps), the first half to reach its sparsity, the second to recover. independent: one
    run per level.
    """
    if mode == "independent":
        for level in levels:
            artifact = level_artifact(
                config, workspace, level, epochs=epochs, learning_rate=learning_rate
            )
            yield _stored_level(artifact, level, workspace.data(config.reference()).task)
    else:
        training = _level_training(
            config, rungs=len(levels), epochs=epochs, learning_rate=learning_rate
        )
        yield from _gradual_levels(config, workspace, levels, training)


def _stored_level(artifact: Artifact, level: float, task: Task) -> PrunedLevel:
    """Return a level that was pruned separately, with its predictions from the store."""
    stored = load_outputs(artifact)
    outputs = {
        split.name: stored.log_probs[name][0].numpy()
        for name, split in (("train", task.train), ("id_dev", task.id_dev))
    }
    seconds = float(stored.report["train_seconds"])
    return PrunedLevel(level, lambda split: outputs[split.name], seconds)


def _gradual_levels(
    config: TrialConfig, workspace: Workspace, levels: tuple[float, ...], training: TrainingConfig
) -> Iterator[PrunedLevel]:
    """Yield the levels of one run; each one's predictions are valid until the next is asked for."""
    task = workspace.data(config.reference()).task
    _check_steps(len(task.train), training)
    # Levels are evaluated at the ends of rungs, which fall on whole steps, so milestones must too.
    total = num_steps(len(task.train), training)
    ends = [step / total for step in rung_steps(total, training.rungs)]
    target = partial(milestones_at, levels=levels, ends=ends, num_prunings=5)
    model, points = _prune(config, workspace, target, levels[-1], training)
    seconds = 0.0
    for level in levels:
        with _naming(level):
            point = next(points)
        lent = _Lent(predictor(model, config, workspace))
        yield PrunedLevel(level, lent, point.seconds - seconds)
        lent.over = True
        seconds = point.seconds


def check_gradual(config: TrialConfig, workspace: Workspace) -> None:
    """Check that a gradual run has a step for each level, before anything is trained.

    Raises:
        DifficultyError: it does not.
    """
    settings = config.difficulty
    if isinstance(settings, LevelsConfig) and settings.mode != "independent":
        train = workspace.data(config.reference()).task.train
        _check_steps(len(train), _level_training(config, rungs=len(settings.levels)))


def _check_steps(num_train: int, training: TrainingConfig) -> None:
    available = num_steps(num_train, training)
    if available < training.rungs:
        raise DifficultyError(
            f"difficulty needs at least one optimizer step for each of its {training.rungs} "
            f"levels, but difficulty.epochs gives {available}; raise it"
        )


@contextmanager
def _naming(level: float) -> Iterator[None]:
    """Add the level to the message if its training diverges."""
    try:
        yield
    except TrialError as error:
        raise DifficultyError(
            f"difficulty level {level:g} diverged: {error}; lower difficulty.learning_rate or "
            "leave the level out of difficulty.levels"
        ) from error


def _prune(
    config: TrialConfig,
    workspace: Workspace,
    target: Callable[[float], float] | None,
    level: float,
    training: TrainingConfig,
) -> tuple[nn.Module, Iterator[FitPoint]]:
    """Return the teacher, prepared for pruning, and its training run.

    Args:
        target: the schedule; None takes the usual one up to `level`.
    """
    data = workspace.data(config.reference())
    model = load_model(teacher(config, workspace).path / "model").to(workspace.device)
    settings = magnitude.Config(name="magnitude", init="teacher", sparsity=level)
    compression = magnitude.Compression(settings, target=target)
    context = CompressionContext(batches=lambda: iter(()), device=workspace.device)
    model = compression.prepare(model, context)
    points = fit_vanilla(
        model,
        data.encoded(data.task.train),
        training,
        precision=workspace.precision(config.reference()),
        after_step=partial(compression.after_step, model),
    )
    return model, points


def fit_dense(
    config: TrialConfig,
    workspace: Workspace,
    rows: NDArray[np.int64],
    *,
    epochs: float | None = None,
    seed: int | None = None,
) -> Predict:
    """Train the dense model on some rows of train, as the teacher was trained."""
    model, points = _dense(config, workspace, rows, points=1, epochs=epochs, seed=seed)
    for _ in points:
        pass
    return predictor(model, config, workspace)


def fit_points(
    config: TrialConfig,
    workspace: Workspace,
    rows: NDArray[np.int64],
    *,
    points: int,
    epochs: float | None = None,
    seed: int | None = None,
) -> Iterator[Predict]:
    """Train as `fit_dense` does, and yield the model's predictions at the ends of equal parts.

    Raises:
        DifficultyError: there are fewer optimizer steps than points.
    """
    model, reached = _dense(config, workspace, rows, points=points, epochs=epochs, seed=seed)
    for _ in reached:
        lent = _Lent(predictor(model, config, workspace))
        yield lent
        lent.over = True


def _dense(
    config: TrialConfig,
    workspace: Workspace,
    rows: NDArray[np.int64],
    *,
    points: int,
    epochs: float | None,
    seed: int | None,
) -> tuple[nn.Module, Iterator[FitPoint]]:
    """Return a new dense model, and its training run on some rows of train."""
    reference = config.reference()
    data = workspace.data(reference)
    given = {"epochs": epochs, "seed": seed, "rungs": points}
    training = reference.training.model_copy(
        update={key: value for key, value in given.items() if value is not None}
    )
    available = num_steps(len(rows), training)
    if available < points:
        raise DifficultyError(
            f"{points} points of a training run need as many optimizer steps, but it has "
            f"{available}; ask for fewer points or more epochs"
        )
    names = data.task.label_names
    model = load_encoder(reference.model, label_names=names, seed=training.seed)
    model.to(workspace.device)
    train = data.encoded(data.task.train.take(rows))
    precision = workspace.precision(reference)
    return model, fit_vanilla(model, train, training, precision=precision)


class _Lent:
    """Predictions of a model that is still in training, valid until it is trained further."""

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self.over = False

    def __call__(self, split: Split) -> NDArray[np.float32]:
        if self.over:
            raise ValueError(
                "a model's predictions must be read before the next one is requested, but it has "
                "been trained further since; call predict inside the loop that yields it, and keep "
                "what it returns"
            )
        return self._predict(split)


def predictor(model: nn.Module, config: TrialConfig, workspace: Workspace) -> Predict:
    """Return a function from a split to the model's current log-probabilities, (N, C)."""
    reference = config.reference()
    data = workspace.data(reference)
    # Unlike a trial's evaluation, these only rank samples. On 2 cores bf16 took half as long as
    # fp32 and gave the same degrees: rank correlation 0.99996 (docs/calibration.md).
    precision = workspace.precision(reference)
    return lambda split: predict(model, data.encoded(split), precision=precision)


def save_outputs(outputs: Outputs, folder: Path) -> None:
    """Write an estimate's outputs and its report into an artifact's folder."""
    parts = {name: each.float().contiguous() for name, each in outputs.log_probs.items()}
    save_file(parts, folder / _OUTPUTS)
    (folder / _REPORT).write_text(json.dumps(outputs.report, indent=1))


def load_outputs(artifact: Artifact) -> Outputs:
    """Read what `save_outputs` wrote."""
    report: dict[str, Any] = json.loads((artifact.path / _REPORT).read_text())
    return Outputs(load_file(artifact.path / _OUTPUTS), report)
