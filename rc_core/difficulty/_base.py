"""The contract of a difficulty estimate, and how scores become degrees.

A difficulty file defines `Config` (its YAML section) and functions around log-probabilities of K
models, (K, N, C) for train and (K, M, C) for id_dev:

    outputs(config, context) -> Outputs       makes them: expensive, stored as a shared artifact
    scores(log_probs, labels) -> (N,)         how hard each sample is: pure, higher is harder
    hard(log_probs, labels) -> (N,) bool      which samples count as hard
    title(config) -> str                      what is built, for the progress lines
    summary(log_probs, labels, config)        figures for the record

and may state three flags:

    USES_TEACHER = False    `outputs` needs no teacher (neither `teacher` nor `prune_levels` of the
                            context), so it does not wait for it. Default True
    LIGHT = True            `outputs` takes seconds on one core, so it is built beside others.
                            Default False
    OUTPUTS_OF = "name"     the outputs are that plugin's with the same settings: its `outputs` is
                            called and its result stored once for both; this file's own hands on

Stored outputs are found by the settings, the teacher and the text of the file whose `outputs` makes
them: an edited file makes them anew. What that file imports from elsewhere is not watched. `scores`
and `hard` are computed at each reading. What is missing is told as soon as a configuration names
the plugin (rc_core.plugins).

What cannot be done: `scores` and `hard` see log-probabilities and labels, nothing else, neither
texts, columns of the data, hidden states, gradients nor the `Config`. So a difficulty that is no
function of what models answer (the length of a text, how far annotators disagreed, the norm of a
gradient, a column of the file) does not fit this contract. What can be said as answers does:
a classifier on such a feature (`hypothesis_only` has one on words), one model at K points of its
training (`fit_points`: forgetting events, mean confidence), K seeds (`seed` of `fit_dense`), K
lengths of training (its `epochs`; each is a training of its own, whose rate falls to zero).

What holds, and tests/contracts/test_difficulties.py asks of every difficulty: probabilities of a
sample sum to 1; the same seed gives the same outputs to the bit, also where the task has no splits
but train and id_dev; scores are finite float64 and not all equal; some but not all samples are
hard, and their mean score is the higher one; `title` begins with `difficulty: `.
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

# Winsorizing clips scores to these quantiles before min-max, so that a few outliers do not decide.
_WINSOR = (0.05, 0.95)
# Below this, relative to the largest score, scores differ by rounding only.
_SAME = 1e-12


@dataclass(frozen=True)
class PrunedLevel:
    """One sub-network of the teacher.

    Attributes:
        level: its sparsity.
        predict: split -> log-probabilities (N, C). Asked before the next level is: afterwards it
            raises ValueError, as that level's model is trained on.
        seconds: its training took.
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
    """Trains the dense model, as the teacher was, on some rows of train.

    `epochs` None takes the teacher's; so does `seed`, of the head, the data order and dropout.
    """

    def __call__(
        self, rows: NDArray[np.int64], *, epochs: float | None = None, seed: int | None = None
    ) -> Predict: ...


class FitPoints(Protocol):
    """Trains it likewise, once, and yields the model at the ends of `points` equal parts.

    What it says has to be asked before the next point is: afterwards it raises ValueError.
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
        seed: of folds and the like.
        teacher: split -> the dense reference's own log-probabilities (N, C). On train they are of
            samples that it was trained on; `fit_dense` on other rows judges them unseen.
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
    """What the K models of an estimate say.

    Attributes:
        log_probs: `train` (K, N, C) and `id_dev` (K, M, C), float32.
        report: what a record should say of how they were made.
    """

    log_probs: dict[str, Tensor]
    report: dict[str, Any]


class DifficultyModule(Protocol):
    """What a file in rc_core/difficulty has to define besides its `Config`; see above for flags."""

    def outputs(self, config: object, context: DifficultyContext) -> Outputs:
        """Train what has to be trained and return what it says of train and id_dev."""
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
        """Return figures about the train outputs for the record."""
        ...


def normalised(scores: Tensor, how: Normalisation = "minmax") -> Tensor:
    """Return scores mapped to [0, 1], keeping their order; all 1 where they do not differ.

    minmax: (v - min v) / (max v - min v), as Du et al. 2023. rank: mean rank of ties, from 0 for
    the smallest to 1 for the largest. winsorized: min-max after clipping to the 5 % and 95 %
    quantiles.

    Args:
        scores: (N,), finite, N at least 1.

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

    Du et al. 2023, section 5.1. Where scores do not differ, all degrees are 1: the teacher's
    probabilities stay as they are.

    Args:
        scores: (N,), finite, higher is harder.
        alpha: in [0, 1]: the degree of the easiest sample.

    Returns:
        (N,) float32.

    Raises:
        ValueError: alpha outside [0, 1], or scores as in `normalised`.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must be in [0, 1], but got {alpha}")
    return (alpha + (1.0 - alpha) * normalised(scores, how)).float()


def above_median(scores: Tensor) -> Tensor:
    """Return the harder half, (N,) bool: the floor(N / 2) largest scores; of equal ones the later.

    Halves even where many scores are equal.
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
    """Return Spearman's rank correlation of two rows of scores, in [-1, 1]; NaN where one is flat.

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
    """Return the `count` largest scores, (N,) bool; of equal ones the later."""
    order = torch.as_tensor(scores).argsort(stable=True)
    chosen = torch.zeros(len(order), dtype=torch.bool)
    chosen[order[len(order) - count :]] = True
    return chosen


def _mean_ranks(values: Tensor) -> Tensor:
    _, inverse, counts = values.unique(sorted=True, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double() - 1
    first = last - counts.double() + 1
    ranks: Tensor = ((first + last) / 2)[inverse]
    return ranks
