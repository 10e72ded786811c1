"""The contract of a difficulty estimate, and how scores become degrees.

A difficulty file defines `Config` (its YAML section) and functions on the log-probabilities of K
models, (K, N, C) for train and (K, M, C) for id_dev:

    outputs(config, context) -> Outputs       makes them: expensive, stored as a shared artifact
    scores(log_probs, labels) -> (N,)         how hard each sample is: pure, higher is harder
    hard(log_probs, labels) -> (N,) bool      which samples count as hard
    title(config) -> str                      what is built, for the progress lines
    summary(log_probs, labels, config)        figures for the record

It may set three flags:

    USES_TEACHER = False    `outputs` needs no teacher (neither `teacher` nor `prune_levels` of the
                            context), so it does not wait for it. Default True
    LIGHT = True            `outputs` takes seconds on one core, so it is built beside others.
                            Default False
    OUTPUTS_OF = "name"     the outputs are those of another plugin with the same settings: its
                            `outputs` is called and the result stored once for both; this file's
                            own delegates to it

Stored outputs are identified by the settings, the teacher and the text of the file whose `outputs`
makes them, so editing that file makes them anew. Code that the file imports from elsewhere is not
tracked. `scores` and `hard` are computed each time the outputs are read. Anything a file lacks is
reported as soon as a configuration names the plugin (rc_core.plugins).

Limits: `scores` and `hard` see log-probabilities and labels, and nothing else: no texts, columns of
the data, hidden states, gradients or `Config`. So a difficulty that does not depend on model
outputs (the length of a text, annotator disagreement, a gradient norm, a column of the file) does
not fit this contract. Whatever can be expressed as outputs does: a classifier on such a feature
(`hypothesis_only` uses one on words), one model at K points of its training (`fit_points`:
forgetting events, mean confidence), K seeds (`seed` of `fit_dense`), K lengths of training (its
`epochs`; each is a separate training run, whose learning rate falls to zero).

tests/contracts/test_difficulties.py checks the following for every difficulty: the probabilities of
a sample sum to 1; the same seed gives the same outputs, bit for bit, even if the task has no splits
but train and id_dev; scores are finite float64 and not all equal; some but not all samples are
hard, and the hard ones have the higher mean score; `title` begins with `difficulty: `.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rc_core.data._task import Split, Task

Normalisation = Literal["minmax", "rank", "winsorized"]
Predict = Callable[[Split], NDArray[np.float32]]

# Winsorizing clips scores to these quantiles before min-max, so that outliers do not dominate.
_WINSOR = (0.05, 0.95)
# Scores whose range, relative to the largest score, is below this differ by rounding only.
_SAME = 1e-12


@dataclass(frozen=True)
class PrunedLevel:
    """One sub-network of the teacher.

    Attributes:
        level: its sparsity.
        predict: split -> log-probabilities (N, C). Call it before the next level is requested:
            later it raises ValueError, as the model has been trained further by then.
        seconds: how long its training took.
    """

    level: float
    predict: Predict
    seconds: float


class PruneLevels(Protocol):
    """Prunes the teacher to several levels, and yields each."""

    def __call__(
        self,
        levels: tuple[float, ...],
        *,
        mode: Literal["gradual", "independent"],
        epochs: float,
        learning_rate: float | None,
    ) -> Iterator[PrunedLevel]: ...


def _no_teacher(split: Split) -> NDArray[np.float32]:
    raise ValueError("this context must have a teacher, but was made without one")


def _no_points(
    rows: NDArray[np.int64], *, points: int, epochs: float | None = None, seed: int | None = None
) -> Iterator[Predict]:
    raise ValueError("this context must have points of a training, but was made without them")


class FitDense(Protocol):
    """Trains the dense model, as the teacher was trained, on some rows of train.

    `epochs` and `seed` (of the head, the data order and dropout) default to the teacher's.
    """

    def __call__(
        self, rows: NDArray[np.int64], *, epochs: float | None = None, seed: int | None = None
    ) -> Predict: ...


class FitPoints(Protocol):
    """Trains the model once, as `FitDense` does, and yields it at the ends of `points` equal parts.

    Call what is yielded before the next point is requested: later it raises ValueError.
    """

    def __call__(
        self,
        rows: NDArray[np.int64],
        *,
        points: int,
        epochs: float | None = None,
        seed: int | None = None,
    ) -> Iterator[Predict]: ...


@dataclass(frozen=True)
class DifficultyContext:
    """What a difficulty estimate may use.

    Attributes:
        task: texts and labels; only train and id_dev may be looked at.
        prune_levels: see `PruneLevels`.
        fit_dense: see `FitDense`.
        seed: for drawing folds and the like.
        teacher: split -> the dense reference's own log-probabilities (N, C). It was trained on
            train; to judge samples unseen, use `fit_dense` on other rows.
        fit_points: see `FitPoints`.
    """

    task: Task
    prune_levels: PruneLevels
    fit_dense: FitDense
    seed: int
    teacher: Predict = _no_teacher
    fit_points: FitPoints = _no_points


@dataclass(frozen=True)
class Outputs:
    """The outputs of the K models of an estimate.

    Attributes:
        log_probs: `train` (K, N, C) and `id_dev` (K, M, C), float32.
        report: what a record should say about how they were made.
    """

    log_probs: dict[str, Tensor]
    report: dict[str, Any]


class DifficultyModule(Protocol):
    """What a file in rc_core/difficulty defines besides its `Config`; see above for flags."""

    def outputs(self, config: object, context: DifficultyContext) -> Outputs:
        """Train what has to be trained and return its outputs on train and id_dev."""
        ...

    def scores(self, log_probs: Tensor, labels: Tensor) -> Tensor:
        """Return (N,) float64, higher is harder; log_probs (K, N, C), labels (N,) int64."""
        ...

    def hard(self, log_probs: Tensor, labels: Tensor) -> Tensor:
        """Return (N,) bool: which samples count as hard."""
        ...

    def title(self, config: object) -> str:
        """Return what is built, for the progress lines."""
        ...

    def summary(self, log_probs: Tensor, labels: Tensor, config: object) -> dict[str, Any]:
        """Return figures about the outputs on train, for the record."""
        ...


def normalised(scores: Tensor, how: Normalisation = "minmax") -> Tensor:
    """Return scores mapped to [0, 1], keeping their order; all 1 if they do not differ.

    minmax: (v - min v) / (max v - min v), as in Du et al. 2023. rank: mean rank of ties, from 0 for
    the smallest to 1 for the largest. winsorized: min-max after clipping to the 5 % and 95 %
    quantiles.

    Args:
        scores: (N,), finite, N at least 1.
        how: one of these names.

    Returns:
        (N,) float64.

    Raises:
        ValueError: not one row of finite numbers.
    """
    values = torch.as_tensor(scores, dtype=torch.float64)
    if values.ndim != 1 or not len(values) or not bool(torch.isfinite(values).all()):
        raise ValueError(f"scores must be (samples,) and finite, but are {tuple(values.shape)}")
    if how == "rank":
        values = _mean_ranks(values)
    elif how == "winsorized":
        ordered = values.sort().values
        low, high = (ordered[round(q * (len(values) - 1))] for q in _WINSOR)
        values = values.clamp(low, high)
    low, high = values.min(), values.max()
    if float(high - low) <= _SAME * float(values.abs().max()):
        return torch.ones_like(values)
    return (values - low) / (high - low)


def degrees(scores: Tensor, alpha: float, how: Normalisation = "minmax") -> Tensor:
    """Return d_i = alpha + (1 - alpha) normalised(score_i), in [alpha, 1]; 1 is hardest.

    Du et al. 2023, section 5.1. If scores do not differ, all degrees are 1: the teacher's
    probabilities stay as they are.

    Args:
        scores: (N,), finite, higher is harder.
        alpha: degree of the easiest sample, in [0, 1].
        how: see `normalised`.

    Returns:
        (N,) float32.

    Raises:
        ValueError: alpha outside [0, 1], or scores as in `normalised`.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must be in [0, 1], but got {alpha}")
    return (alpha + (1.0 - alpha) * normalised(scores, how)).float()


def above_median(scores: Tensor) -> Tensor:
    """Return the harder half, (N,) bool: the floor(N / 2) largest scores.

    Among equal scores the later count as larger, so these are halves even if many are equal.
    """
    return hardest(scores, len(scores) // 2)


def error_probability(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return 1 - p(y) of one model's log-probabilities, (N,) float64 in [0, 1].

    Args:
        log_probs: (N, C).
        labels: (N,) int64.
    """
    chosen = log_probs.double().gather(1, labels.view(-1, 1)).squeeze(1)
    return (1.0 - chosen.exp()).clamp(0.0, 1.0)


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Return Spearman's rank correlation of two rows of scores, in [-1, 1]; NaN if one is flat.

    Args:
        first: (N,), N at least 2.
        second: (N,).
    """
    ranks = torch.stack([_mean_ranks(torch.as_tensor(each).double()) for each in (first, second)])
    centred = ranks - ranks.mean(dim=1, keepdim=True)
    product = centred.square().sum(dim=1).prod().sqrt()
    return float((centred[0] * centred[1]).sum() / product) if product > 0 else float("nan")


def agreement(first: Tensor, second: Tensor) -> dict[str, float]:
    """Return how far two easy / hard splits agree.

    Args:
        first: (N,) bool, hard or not.
        second: (N,) bool.

    Returns:
        `agreement`, the share of samples on the same side; `by_chance`, the share expected of two
        unrelated splits with these shares of hard samples.
    """
    a, b = float(first.double().mean()), float(second.double().mean())
    return {
        "agreement": float((first == second).double().mean()),
        "by_chance": a * b + (1 - a) * (1 - b),
    }


def hardest(scores: Tensor, count: int) -> Tensor:
    """Return the `count` largest scores, (N,) bool; among equal ones, the later."""
    order = torch.as_tensor(scores).argsort(stable=True)
    chosen = torch.zeros(len(order), dtype=torch.bool)
    chosen[order[len(order) - count :]] = True
    return chosen


def _mean_ranks(values: Tensor) -> Tensor:
    """Return each value's rank from 0, (N,) float64; equal values share their mean rank."""
    _, inverse, counts = values.unique(sorted=True, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double() - 1
    first = last - counts.double() + 1
    ranks: Tensor = ((first + last) / 2)[inverse]
    return ranks
