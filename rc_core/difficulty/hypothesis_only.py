"""A sample is hard when a classifier of the second text alone gets it wrong.

Gururangan et al. 2018: annotators leave traces in the hypothesis, and a model that reads nothing
else is right on the easy samples. Du et al. 2023 use it to check loss variance (82.8 % agreement on
MNLI dev). It is cross-fitted here: no training sample is judged by a model that saw it, or a
duplicate of the pair. A second text that also occurs with other first texts is not held out: that
such a text gives away the label is what the classifier is meant to find.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from rc_core.config import PluginConfig
from rc_core.data._splits import split_keys
from rc_core.data._task import Split
from rc_core.difficulty._base import DifficultyContext, Outputs, error_probability
from rc_core.difficulty._text import cross_fitted
from rc_core.errors import DifficultyError

# For the build order: a linear classifier on words, fitted without any encoder.
USES_TEACHER, LIGHT = False, True


class Config(PluginConfig):
    """How often the classifier is fitted.

    Attributes:
        folds: number of parts of train; each is judged by a classifier fitted on the others.
    """

    folds: Annotated[int, Field(ge=2)] = 5


def title(config: Config) -> str:
    """Return what is built, for people."""
    return f"difficulty: classifier of the second text alone, {config.folds} folds"


def outputs(config: Config, context: DifficultyContext) -> Outputs:
    """Return the classifier's log-probabilities, K = 1.

    Raises:
        DifficultyError: the task has single texts.
    """
    task = context.task
    train, id_dev = cross_fitted(
        _second(task.train),
        task.train.labels,
        _second(task.id_dev),
        keys=split_keys(task.train),
        num_labels=len(task.label_names),
        num_folds=config.folds,
        seed=context.seed,
    )
    report = {
        f"{name}_accuracy": float((found.argmax(axis=1) == split.labels).mean())
        for name, found, split in (("train", train, task.train), ("id_dev", id_dev, task.id_dev))
    }
    log_probs = {"train": torch.from_numpy(train)[None], "id_dev": torch.from_numpy(id_dev)[None]}
    return Outputs(log_probs, report)


def scores(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return 1 - p(y) of the classifier, (N,) float64 in [0, 1]; log_probs (1, N, C)."""
    return error_probability(log_probs[0], labels)


def hard(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return which samples the classifier gets wrong, (N,) bool (Gururangan et al. 2018)."""
    return log_probs[0].argmax(dim=1) != labels


def summary(log_probs: Tensor, labels: Tensor, config: Config) -> dict[str, Any]:
    """Return the share of hard samples."""
    return {"hard_share": float(hard(log_probs, labels).double().mean())}


def _second(split: Split) -> list[str]:
    """Return a split's second texts. Raises DifficultyError if it has none."""
    if split.second is None:
        raise DifficultyError(
            "hypothesis_only needs pairs of texts, but this task has single texts; take "
            "difficulty.name: loss_variance, or as loss.expert a level: {level: 0.75}"
        )
    return list(split.second)
