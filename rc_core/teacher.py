"""The dense reference: trained once, stored, compared with, and distilled from.

teacher            dense, vanilla model: weights, and its evaluation on the open roles
teacher_log_probs  its float32 log-probabilities on train, (N, C)
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rc_core.artifacts import Artifact, ArtifactKey
from rc_core.compression._layers import blocks
from rc_core.config import TrainingConfig, TrialConfig
from rc_core.data._task import DEV_ROLES
from rc_core.errors import DivergedError, TrialError
from rc_core.evaluation import predict_splits, split_metrics, write_predictions
from rc_core.models import load_encoder, load_model, save_model
from rc_core.training import FitPoint, fit_vanilla, predict
from rc_core.workspace import Workspace

# 2, 3: dropout draws other random numbers (rc_core/cpu_steps.py; rc_core/first_token.py).
# 4: a fine-tuned folder's head is replaced; keys also include the label maps and the tokenizer.
TEACHER_VERSION = 4
LOG_PROBS_VERSION = 1


def teacher_key(config: TrialConfig, workspace: Workspace) -> ArtifactKey:
    """Return the key of a configuration's dense reference."""
    reference = config.reference()
    inputs = workspace.identity(reference) | {"training": training_inputs(reference.training)}
    return ArtifactKey("teacher", TEACHER_VERSION, inputs)


def training_inputs(training: TrainingConfig) -> dict[str, Any]:
    """Return the training settings that determine the result of a training run, for keys.

    Rungs are left out, as they only say when the model is evaluated. So is `precision`, as it may
    be spelled `auto`: what it resolves to is in `Workspace.identity`, and so in every key that
    includes the teacher.
    """
    return training.model_dump(mode="json", exclude={"precision", "rungs"})


def teacher(config: TrialConfig, workspace: Workspace) -> Artifact:
    """Return the dense reference, training it if it is not in the store yet."""
    reference = config.reference()
    training = reference.training

    def build(folder: Path) -> None:
        data = workspace.data(reference)
        model = load_encoder(reference.model, label_names=data.task.label_names, seed=training.seed)
        # Fail now: an encoder whose blocks are unknown could be trained, but never compressed.
        blocks(model)
        model.to(workspace.device)
        train = data.encoded(data.task.train)
        precision = workspace.precision(reference)
        try:
            points = list(fit_vanilla(model, train, training, precision=precision))
        except DivergedError as error:
            raise TrialError(
                f"the dense reference diverged: its training loss must stay finite, but "
                f"{error.where}; lower teacher.learning_rate (or training.learning_rate)"
            ) from error
        started = time.perf_counter()
        predictions = predict_splits(model, data, data.open_splits)
        metrics = split_metrics(data, DEV_ROLES, predictions)
        for split in data.open_splits:
            path = folder / "predictions" / f"{split.name}.parquet"
            write_predictions(path, split, predictions[split.name], data.task.label_names)
        save_model(model.cpu(), data.tokenizer, folder / "model")
        facts = {
            "metrics": metrics,
            "training": training_facts([(p.step, p.train_loss) for p in points[:-1]], points[-1]),
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


def log_probs_key(config: TrialConfig, workspace: Workspace) -> ArtifactKey:
    """Return the key of the teacher's outputs on train."""
    inputs = {"teacher": teacher_key(config, workspace).key}
    return ArtifactKey("teacher_log_probs", LOG_PROBS_VERSION, inputs)


def log_probs_artifact(config: TrialConfig, workspace: Workspace) -> Artifact:
    """Return the teacher's outputs on train, computing them if they are not stored yet."""

    def build(folder: Path) -> None:
        data = workspace.data(config.reference())
        model = load_model(teacher(config, workspace).path / "model").to(workspace.device)
        log_probs = predict(model, data.encoded(data.task.train))
        save_file({"train": torch.from_numpy(log_probs)}, folder / "log_probs.safetensors")

    return workspace.store.build(log_probs_key(config, workspace), build)


def teacher_log_probs(config: TrialConfig, workspace: Workspace) -> Tensor:
    """Return the teacher's log-probabilities on train, (N, C) float32."""
    path = log_probs_artifact(config, workspace).path / "log_probs.safetensors"
    return load_file(path)["train"]


def training_facts(losses: Sequence[tuple[int, float]], last: FitPoint) -> dict[str, Any]:
    """Return what a record says about a training run.

    Args:
        losses: (step, mean training loss since the previous one) of each rung but the last.
        last: the end of training.
    """
    return {
        "loss": [*map(list, losses), [last.step, last.train_loss]],
        "samples_per_second": round(last.samples / last.seconds, 1) if last.seconds else None,
    }


def health(metrics: Mapping[str, float], majority: float, num_samples: int) -> list[str]:
    """Return what makes a dense reference unfit as the basis of a sweep (empty: nothing).

    Args:
        metrics: of the reference on the dev roles.
        majority: accuracy on id_dev of always predicting the most frequent label.
        num_samples: size of id_dev.
    """
    found = []
    accuracy = metrics["id_dev/accuracy"]
    error = float(np.sqrt(max(accuracy * (1 - accuracy), 1e-4) / num_samples))
    if accuracy - majority < max(0.05, 2 * error):
        found.append(
            f"the dense reference has {100 * accuracy:.1f} % on id_dev, which must clearly beat "
            f"the majority class's {100 * majority:.1f} %; raise training.epochs, change "
            "training.learning_rate (large encoders want about 2e-5, small ones 1e-4), or give it "
            "more data"
        )
    return found
