"""A sample is hard when the dense model, trained without it, gets it wrong.

A teacher makes hardly any errors on its own training data, so it is cross-fitted: train is divided
into folds, and each is judged by a dense model of the other folds, trained as the teacher is. A
pair that occurs more than once stays in one fold.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rc_core.config import PluginConfig
from rc_core.data._splits import split_keys
from rc_core.difficulty._base import DifficultyContext, Outputs, error_probability
from rc_core.difficulty._text import folds

# For the build order: it trains its own dense models, on parts of train.
USES_TEACHER = False


class Config(PluginConfig):
    """How often the dense model is trained.

    Attributes:
        folds: number of parts of train, and of trainings of the dense model, each on all parts but
            one.
        epochs: of each training; null takes the teacher's.
    """

    folds: Annotated[int, Field(ge=2)] = 2
    epochs: Annotated[float, Field(gt=0.0)] | None = None


def title(config: Config) -> str:
    """Return what is built, for people."""
    return f"difficulty: dense model cross-fitted, {config.folds} trainings"


def outputs(config: Config, context: DifficultyContext) -> Outputs:
    """Return the held-out models' log-probabilities, K = 1; on id_dev of their mean probability."""
    task = context.task
    keys = split_keys(task.train)
    assigned = folds(task.train.labels, keys, config.folds, context.seed)
    shape = (len(task.train), len(task.label_names))
    train = np.empty(shape, dtype=np.float32)
    id_dev = []
    for fold in range(config.folds):
        held = np.flatnonzero(assigned == fold)
        predict = context.fit_dense(np.flatnonzero(assigned != fold), epochs=config.epochs)
        train[held] = predict(task.train.take(held))
        id_dev.append(torch.from_numpy(predict(task.id_dev)))
    mean = torch.stack(id_dev).double().logsumexp(dim=0) - np.log(config.folds)
    log_probs = {"train": torch.from_numpy(train)[None], "id_dev": mean.float()[None]}
    return Outputs(
        log_probs,
        {"train_accuracy": float((train.argmax(axis=1) == task.train.labels).mean())},
    )


def scores(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return 1 - p(y) of the model that did not see the sample, (N,) float64.

    Args:
        log_probs: (1, N, C).
        labels: (N,) int64.
    """
    return error_probability(log_probs[0], labels)


def hard(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return which samples that model gets wrong, (N,) bool."""
    return log_probs[0].argmax(dim=1) != labels


def summary(log_probs: Tensor, labels: Tensor, config: Config) -> dict[str, Any]:
    """Return the share of hard samples."""
    return {"hard_share": float(hard(log_probs, labels).double().mean())}
