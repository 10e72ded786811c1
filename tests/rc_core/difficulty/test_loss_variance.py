"""The degrees of difficulty: against numpy, and what happens where nothing tells samples apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from rc_core.data._task import Split, Task
from rc_core.difficulty._base import DifficultyContext, PrunedLevel, degrees
from rc_core.difficulty.loss_variance import (
    Config,
    outputs,
    per_sample_losses,
    scores,
    variance_shares,
)
from rc_core.errors import ConfigError, DifficultyError
from rc_core.schema import validate_section
from tests.rc_core._data import LABELS, split

LOSSES = np.random.default_rng(0).gamma(0.7, size=(5, 200))


def level_outputs(losses: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probabilities (L, N, 2) whose losses are these, and labels (N,).

    What is said of the other class is NaN: nothing may read it.
    """
    given = torch.as_tensor(losses).float()
    labels = torch.arange(given.shape[1]) % 2
    log_probs = torch.full((*given.shape, 2), torch.nan)
    log_probs[:, torch.arange(len(labels)), labels] = -given
    return log_probs, labels


def degrees_of(losses: np.ndarray | Tensor, alpha: float) -> Tensor:
    """Return the degrees, (N,), as the loss makes them from stored outputs."""
    return degrees(scores(*level_outputs(losses)), alpha)


def test_scores_are_the_population_variance() -> None:
    found = scores(*level_outputs(LOSSES))
    assert found.dtype == torch.float64
    # Outputs are stored in float32; what follows is float64.
    stored = LOSSES.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(found.numpy(), np.var(stored, axis=0, ddof=0), rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9, 1.0])
def test_degrees_are_the_paper_s_formula(alpha: float) -> None:
    degree = degrees_of(LOSSES, alpha)
    variances = []
    for i in range(LOSSES.shape[1]):
        mean = sum(LOSSES[t, i] for t in range(5)) / 5
        variances.append(sum((LOSSES[t, i] - mean) ** 2 for t in range(5)) / 5)
    low, high = min(variances), max(variances)
    expected = [alpha + (1 - alpha) * (v - low) / (high - low) for v in variances]
    assert degree.dtype == torch.float32 and degree.shape == (200,)
    np.testing.assert_allclose(degree.numpy(), expected, rtol=1e-5)
    assert degree.min().item() == pytest.approx(alpha) and degree.max().item() == 1.0


def test_degree_does_not_depend_on_the_order_of_levels_or_on_a_shift() -> None:
    expected = degrees_of(LOSSES, 0.3)
    assert degrees_of(LOSSES[::-1].copy(), 0.3).allclose(expected)
    assert degrees_of(LOSSES + 2.0, 0.3).allclose(expected)
    assert degrees_of(LOSSES * 7.0, 0.3).allclose(expected)


@pytest.mark.parametrize(
    "losses",
    [
        np.zeros((5, 4)),
        np.full((3, 4), 0.1),  # 0.1 + 0.1 + 0.1 is not exactly 0.3
        # Equal but for the rounding of a third; each loss is exact in float32.
        np.array([[0.125, 1.125, 7.125], [0.25, 1.25, 7.25], [0.5, 1.5, 7.5]]),
        np.array([[0.3, 0.3], [0.7, 0.7]]),
        np.array([[0.3], [0.7]]),  # one sample
        np.array([[0.3, 2.0, 5.0]]),  # one level
    ],
)
def test_equal_variances_leave_the_teacher_as_it_is(losses: np.ndarray) -> None:
    assert scores(*level_outputs(losses)).tolist() == [0.0] * losses.shape[1]
    assert degrees_of(losses, 0.2).tolist() == [1.0] * losses.shape[1]


def test_small_but_real_differences_are_used() -> None:
    losses = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1e-4, 2e-4]])
    assert degrees_of(losses, 0.5).tolist() == pytest.approx([0.5, 0.625, 1.0])


def test_losses_that_differ_by_more_than_rounding_are_not_the_same() -> None:
    """Steps of 8e-6 are 67 units in the last place of 1; steps of 2 units are rounding."""
    steps = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0 + 8e-6, 1.0 + 16e-6]])
    rounding = torch.tensor([[1.0, 1.0], [1.0, 1.0 + 2 * torch.finfo(torch.float32).eps]])
    # What is rounding is told by the size of the losses.
    for size in (1.0, 2.0**-10, 2.0**10):
        assert degrees_of(size * steps, 0.5).tolist() == pytest.approx([0.5, 0.625, 1.0], rel=1e-2)
        assert degrees_of(size * rounding, 0.5).tolist() == [1.0, 1.0]
        assert variance_shares(size * steps) == pytest.approx([0.5, 0.5])
        assert variance_shares(size * rounding) == [None, None]
    one_large = torch.tensor([[0.0, 0.0, 1000.0], [0.0, 1e-5, 1000.0]])
    assert degrees_of(one_large, 0.5).tolist() == [1.0] * 3, "rounding of the largest"


@pytest.mark.parametrize("shape", [(5, 0), (0, 5), (5,), (2, 3, 4)])
def test_losses_of_a_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be \\(levels, samples\\)"):
        variance_shares(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(5, 0, 2), (0, 5, 2)])
def test_outputs_of_nothing_have_no_scores(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not empty"):
        scores(torch.zeros(shape), torch.zeros(shape[1], dtype=torch.int64))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_diverged_level_is_named(bad: float) -> None:
    losses = LOSSES.copy()
    losses[1, 7] = bad
    losses[4, [3, 5]] = bad
    with pytest.raises(DifficultyError, match=r"of 200 samples .* level 1 \(1\), level 4 \(2\)"):
        scores(*level_outputs(losses))


def test_per_sample_losses_are_cross_entropies() -> None:
    logits = torch.randn(3, 10, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(10) % 4
    expected = [
        torch.nn.functional.cross_entropy(level, labels, reduction="none") for level in logits
    ]
    found = per_sample_losses(logits.log_softmax(-1), labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize(
    ("shape", "samples"), [((3, 10, 4), 9), ((10, 4), 10), ((3, 4, 10, 1), 10)]
)
def test_per_sample_losses_of_wrong_shapes(shape: tuple[int, ...], samples: int) -> None:
    with pytest.raises(ValueError, match="must be \\(levels, samples, classes\\)"):
        per_sample_losses(torch.zeros(shape), torch.zeros(samples, dtype=torch.int64))


def test_variance_shares_by_hand() -> None:
    # sample 0: mean 2, deviations -1, -1, 2; sample 1: mean 1, deviations 0, 1, -1
    losses = torch.tensor([[1.0, 1.0], [1.0, 2.0], [4.0, 0.0]])
    assert variance_shares(losses) == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    assert sum(each or 0.0 for each in variance_shares(torch.tensor(LOSSES))) == pytest.approx(1.0)
    assert variance_shares(torch.full((3, 4), 0.1)) == [None, None, None]


def pruned(mode: str, calls: list[dict[str, Any]]) -> DifficultyContext:
    """Return a context whose level s has its own answers, by mode, that random numbers give."""
    train = replace(split(12, 0), labels=np.arange(12) % 2)
    conflicting = np.arange(12) % 3 == 0
    task = Task("words", LABELS, (train, split(8, 1, "id_dev")), bias_conflicting=conflicting)

    def levels(given: tuple[float, ...], **asked: Any) -> Iterator[PrunedLevel]:
        calls.append({"levels": given, **asked})
        for level in given:
            seed = int(100 * level) + (1_000 if asked["mode"] == "independent" else 0)

            def predict(asked_of: Split, seed: int = seed) -> Any:
                rng = np.random.default_rng([seed, len(asked_of)])
                return np.log(rng.dirichlet([1.0, 1.0], len(asked_of))).astype(np.float32)

            yield PrunedLevel(level, predict, 1.25 + level)

    return DifficultyContext(task, levels, fit_dense=None, seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["gradual", "independent", "both"])
def test_each_level_s_accuracies_are_reported_and_both_ways_compared(mode: str) -> None:
    calls: list[dict[str, Any]] = []
    context = pruned(mode, calls)
    found = outputs(config_of(levels=[0.25, 0.5, 0.75], mode=mode, epochs=0.5), context)
    assert [call["mode"] for call in calls] == {"both": ["gradual", "independent"]}.get(
        mode, [mode]
    )
    assert all(call["levels"] == (0.25, 0.5, 0.75) and call["epochs"] == 0.5 for call in calls)
    train, id_dev = context.task.train, context.task.id_dev
    assert found.log_probs["train"].shape == (3, 12, 2)
    assert found.log_probs["id_dev"].shape == (3, 8, 2)

    def right(answers: Tensor, of: Split, rows: list[int]) -> float:
        """Of two labels the likelier has more than a half."""
        answered = answers.exp()[torch.arange(len(of)), torch.from_numpy(of.labels)] > 0.5
        return sum(bool(answered[i]) for i in rows) / len(rows)

    for level, row, of_train, of_dev in zip(
        (0.25, 0.5, 0.75), found.report["levels"], *found.log_probs.values(), strict=True
    ):
        assert row == {
            "level": level,
            "train_seconds": 1.25 + level,
            "train_accuracy": right(of_train, train, [*range(12)]),
            "id_dev_accuracy": right(of_dev, id_dev, [*range(8)]),
            "conflicting_accuracy": right(of_train, train, [0, 3, 6, 9]),
            "aligned_accuracy": right(of_train, train, [1, 2, 4, 5, 7, 8, 10, 11]),
        }
    assert found.report["mode"] == ("gradual" if mode == "both" else mode)
    if mode != "both":
        assert found.report.keys() == {"mode", "levels"}
        return
    other = outputs(config_of(levels=[0.25, 0.5, 0.75], mode="independent"), context)
    assert found.report["independent"]["levels"] == other.report["levels"]
    variances = [
        np.var(-each.log_probs["train"].numpy()[:, np.arange(12), train.labels], axis=0)
        for each in (found, other)
    ]
    expected = spearmanr(*variances).statistic
    assert found.report["independent"]["rank_correlation"] == pytest.approx(expected)
    assert found.report["gradual_seconds"] == found.report["independent_seconds"] == 5.25


def config_of(**values: Any) -> Config:
    return validate_section(Config, {"name": "loss_variance", **values})


def test_defaults_are_the_paper_s_five_levels() -> None:
    config = config_of()
    assert config.levels == (0.2, 0.35, 0.5, 0.65, 0.85)
    assert (config.mode, config.epochs, config.learning_rate) == ("gradual", 1.0, None)
    assert config_of(levels=[0, 0.5]).levels == (0.0, 0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"levels": []}, "at least two strictly increasing"),
        ({"levels": [0.5]}, "at least two strictly increasing"),
        ({"levels": [0.5, 0.2]}, "at least two strictly increasing"),
        ({"levels": [0.2, 0.2]}, "at least two strictly increasing"),
        ({"levels": [0.2, 1.0]}, "less than 1"),
        ({"levels": [-0.1, 0.5]}, "greater than or equal to 0"),
        ({"levels": 0.5}, "must be a list"),
        ({"mode": "joint"}, "mode"),
        ({"epochs": 0}, "greater than 0"),
        ({"learning_rate": 0.0}, "greater than 0"),
    ],
)
def test_bad_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(**values)
