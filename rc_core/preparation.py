"""The shared artifacts, each built once: the teacher, its outputs, the pruned levels' outputs.

    teacher            dense, vanilla model: weights, its evaluation on the open roles
    teacher_log_probs  its float32 log-probabilities on train, (N, C)
    level_log_probs    those of sub-networks pruned to L sparsities, on train and id_dev, (L, N, C)

Degrees of difficulty, and later bias experts, follow from these without another training run
(Du et al. 2023, section 5.1, stage 1).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rc_core import plugins
from rc_core.artifacts import Artifact, ArtifactKey
from rc_core.compression import magnitude
from rc_core.compression._base import CompressionContext
from rc_core.config import PLUGIN_PACKAGES, TrainingConfig, TrialConfig
from rc_core.data._task import DEV_ROLES
from rc_core.difficulty.loss_variance import Config as LossVarianceConfig
from rc_core.errors import TrialError
from rc_core.evaluation import predict_splits, split_metrics, write_predictions
from rc_core.losses import vanilla
from rc_core.losses._base import Need
from rc_core.models import load_encoder, load_model, save_model
from rc_core.training import FitPoint, fit, num_steps, predict
from rc_core.workspace import Workspace

TEACHER_VERSION = 1
TEACHER_LOG_PROBS_VERSION = 1
LEVEL_LOG_PROBS_VERSION = 2


@dataclass(frozen=True)
class Step:
    """One artifact to build: its key, a line for people, and how."""

    key: ArtifactKey
    title: str
    build: Callable[[], Artifact]


def needs_of(config: TrialConfig) -> frozenset[Need]:
    """Return which shared outputs a configuration's loss reads."""
    needs: frozenset[Need] = plugins.load(PLUGIN_PACKAGES["loss"], config.loss.name).Loss.needs
    return needs


def steps(config: TrialConfig, workspace: Workspace) -> list[Step]:
    """Return the artifacts a configuration needs, in building order.

    The teacher is always among them: every model is compared with it.
    """
    needs = needs_of(config)
    found = [
        Step(teacher_key(config, workspace), "teacher", lambda: teacher(config, workspace)),
    ]
    if "teacher_log_probs" in needs:
        found.append(
            Step(
                _log_probs_key(config, workspace),
                "teacher's outputs on train",
                lambda: _teacher_log_probs(config, workspace),
            )
        )
    if "level_log_probs" in needs:
        count = len(_level_settings(config).levels)
        found.append(
            Step(
                _levels_key(config, workspace),
                f"difficulty: outputs of {count} pruned levels",
                lambda: _level_log_probs(config, workspace),
            )
        )
    return found


def teacher_key(config: TrialConfig, workspace: Workspace) -> ArtifactKey:
    """Return the key of the dense reference of a configuration."""
    reference = config.reference()
    # `precision` is in the identity as resolved; rungs do not change what is trained.
    training = reference.training.model_dump(mode="json", exclude={"precision", "rungs"})
    inputs = workspace.identity(reference) | {"training": training}
    return ArtifactKey("teacher", TEACHER_VERSION, inputs)


def teacher(config: TrialConfig, workspace: Workspace) -> Artifact:
    """Return the dense reference, training it where it is not in the store yet."""
    reference = config.reference()
    training = reference.training

    def build(folder: Path) -> None:
        data = workspace.data(reference)
        model = load_encoder(reference.model, label_names=data.task.label_names, seed=training.seed)
        model.to(workspace.device)
        train = data.encoded(data.task.train)
        loss = vanilla.Loss(vanilla.Config(name="vanilla"))
        precision = workspace.precision(reference)
        points = list(fit(model, train, loss, training, precision=precision))
        started = time.perf_counter()
        open_splits = [split for role in DEV_ROLES for split in data.task.of_role(role)]
        predictions = predict_splits(model, data, open_splits)
        metrics = split_metrics(data, DEV_ROLES, predictions)
        for split in open_splits:
            path = folder / "predictions" / f"{split.name}.parquet"
            write_predictions(path, split, predictions[split.name], data.task.label_names)
        save_model(model.cpu(), data.tokenizer, folder / "model")
        facts = {
            "metrics": metrics,
            "training": training_facts(points),
            "precision": precision,
            "seconds": {
                "train": points[-1].seconds,
                "evaluate": time.perf_counter() - started,
            },
            "steps": points[-1].step,
        }
        (folder / "teacher.json").write_text(json.dumps(facts, indent=1))

    return workspace.store.build(teacher_key(config, workspace), build)


def teacher_facts(artifact: Artifact) -> dict[str, Any]:
    """Return the teacher's metrics, training log, seconds and steps."""
    facts: dict[str, Any] = json.loads((artifact.path / "teacher.json").read_text())
    return facts


def teacher_log_probs(config: TrialConfig, workspace: Workspace) -> Tensor:
    """Return the teacher's log-probabilities on train, (N, C) float32."""
    return load_file(_teacher_log_probs(config, workspace).path / "log_probs.safetensors")["train"]


def level_log_probs(config: TrialConfig, workspace: Workspace) -> dict[str, Tensor]:
    """Return the levels' log-probabilities, `train` (L, N, C) and `id_dev` (L, M, C) float32."""
    return load_file(_level_log_probs(config, workspace).path / "log_probs.safetensors")


def levels_of(config: TrialConfig) -> tuple[float, ...]:
    """Return the L sparsities behind `level_log_probs`."""
    return _level_settings(config).levels


def training_facts(points: list[FitPoint]) -> dict[str, Any]:
    """Return what a record says of a training run."""
    last = points[-1]
    return {
        "loss": [[point.step, point.train_loss] for point in points],
        "samples_per_second": round(last.samples / last.seconds, 1) if last.seconds else None,
    }


def _log_probs_key(config: TrialConfig, workspace: Workspace) -> ArtifactKey:
    inputs = {"teacher": teacher_key(config, workspace).key}
    return ArtifactKey("teacher_log_probs", TEACHER_LOG_PROBS_VERSION, inputs)


def _teacher_log_probs(config: TrialConfig, workspace: Workspace) -> Artifact:
    def build(folder: Path) -> None:
        data = workspace.data(config)
        model = load_model(teacher(config, workspace).path / "model").to(workspace.device)
        log_probs = predict(model, data.encoded(data.task.train))
        save_file({"train": torch.from_numpy(log_probs)}, folder / "log_probs.safetensors")

    return workspace.store.build(_log_probs_key(config, workspace), build)


def _level_settings(config: TrialConfig) -> LossVarianceConfig:
    settings = config.difficulty
    if not isinstance(settings, LossVarianceConfig):
        raise TrialError(
            f"loss '{config.loss.name}' needs difficulty.name: loss_variance, but got "
            f"{settings.name}"
        )
    return settings


def _level_training(config: TrialConfig) -> TrainingConfig:
    """Return how the levels are trained: as the teacher, but for the steps and maybe the rate."""
    settings = _level_settings(config)
    gradual = settings.mode == "gradual"
    values = config.reference().training.as_dict() | {
        "epochs": settings.epochs,
        "rungs": len(settings.levels) if gradual else 1,
    }
    if settings.learning_rate is not None:
        values["learning_rate"] = settings.learning_rate
    return TrainingConfig(**values)


def _levels_key(config: TrialConfig, workspace: Workspace) -> ArtifactKey:
    inputs = {
        "teacher": teacher_key(config, workspace).key,
        "difficulty": _level_settings(config).as_dict(),
        "training": _level_training(config).as_dict(),
    }
    return ArtifactKey("level_log_probs", LEVEL_LOG_PROBS_VERSION, inputs)


def _level_log_probs(config: TrialConfig, workspace: Workspace) -> Artifact:
    def build(folder: Path) -> None:
        data = workspace.data(config)
        splits = {"train": data.task.train, "id_dev": data.task.id_dev}
        outputs: dict[str, list[Tensor]] = {name: [] for name in splits}
        report = []
        # Unlike a trial's evaluation these only rank samples. On 2 cores bf16 took half of fp32's
        # time and gave the same degrees: rank correlation 0.99996 (docs/calibration.md).
        precision = workspace.precision(config)
        for level, model, seconds in _pruned_levels(config, workspace):
            row: dict[str, Any] = {"level": level, "train_seconds": round(seconds, 2)}
            for name, split in splits.items():
                log_probs = predict(model, data.encoded(split), precision=precision)
                if not np.isfinite(log_probs).all():
                    raise TrialError(
                        f"difficulty level {level} diverged: its outputs on {name} are not finite; "
                        "lower difficulty.learning_rate or leave the level out of difficulty.levels"
                    )
                outputs[name].append(torch.from_numpy(log_probs))
                right = log_probs.argmax(axis=1) == split.labels
                row[f"{name}_accuracy"] = float(right.mean())
                if name == "train" and data.task.bias_conflicting is not None:
                    # Known for generated tasks only; checks a claim, never enters training.
                    row["conflicting_accuracy"] = _mean(right[data.task.bias_conflicting])
                    row["aligned_accuracy"] = _mean(right[~data.task.bias_conflicting])
            report.append(row)
        stacked = {name: torch.stack(parts) for name, parts in outputs.items()}
        save_file(stacked, folder / "log_probs.safetensors")
        (folder / "levels.json").write_text(json.dumps(report, indent=1))

    return workspace.store.build(_levels_key(config, workspace), build)


def _pruned_levels(
    config: TrialConfig, workspace: Workspace
) -> Iterator[tuple[float, nn.Module, float]]:
    """Yield (level, model pruned to it, training seconds), from the teacher's weights.

    gradual: one run whose milestones are the levels; each gets an equal share of the steps, the
    first half to reach the sparsity, the second to recover. independent: one run per level.
    """
    settings = _level_settings(config)
    if settings.mode == "gradual":
        available = num_steps(len(workspace.data(config).task.train), _level_training(config))
        if available < len(settings.levels):
            raise TrialError(
                f"difficulty needs at least one optimizer step for each of its "
                f"{len(settings.levels)} levels, but difficulty.epochs gives {available}; raise it"
            )
        target = partial(magnitude.milestones_at, levels=settings.levels, num_prunings=5)
        model, points = _prune(config, workspace, target, settings.levels[-1])
        seconds = 0.0
        for level, point in zip(settings.levels, points, strict=True):
            yield level, model, point.seconds - seconds
            seconds = point.seconds
        return
    for level in settings.levels:
        model, points = _prune(config, workspace, None, level)
        seconds = max(point.seconds for point in points)
        yield level, model, seconds


def _prune(
    config: TrialConfig,
    workspace: Workspace,
    target: Callable[[float], float] | None,
    level: float,
) -> tuple[nn.Module, Iterator[FitPoint]]:
    data = workspace.data(config)
    training = _level_training(config)
    model = load_model(teacher(config, workspace).path / "model").to(workspace.device)
    settings = magnitude.Config(name="magnitude", init="teacher", sparsity=level)
    compression = magnitude.Compression(settings, target=target)
    context = CompressionContext(
        batches=lambda: iter(()),
        loss=lambda logits, batch: torch.nn.functional.cross_entropy(logits, batch.labels),
        device=workspace.device,
        generator=torch.Generator().manual_seed(training.seed),
    )
    model = compression.prepare(model, context)
    points = fit(
        model,
        data.encoded(data.task.train),
        vanilla.Loss(vanilla.Config(name="vanilla")),
        training,
        precision=workspace.precision(config),
        after_step=lambda progress: compression.after_step(model, progress),
    )
    return model, points


def _mean(values: np.ndarray[Any, Any]) -> float | None:
    return float(values.mean()) if values.size else None


def health(metrics: Mapping[str, float], majority: float, num_samples: int) -> list[str]:
    """Return what is wrong with a dense reference as a basis for a sweep (empty: nothing).

    Args:
        metrics: of the reference on the dev roles.
        majority: accuracy on id_dev of always answering the most frequent label.
        num_samples: size of id_dev.
    """
    found = []
    accuracy = metrics["id_dev/accuracy"]
    error = float(np.sqrt(max(accuracy * (1 - accuracy), 1e-4) / num_samples))
    if accuracy - majority < max(0.05, 2 * error):
        found.append(
            f"the dense reference has {100 * accuracy:.1f} % on id_dev, which must clearly beat "
            f"the majority class's {100 * majority:.1f} %; raise training.epochs or "
            "training.learning_rate, or give it more data"
        )
    return found
