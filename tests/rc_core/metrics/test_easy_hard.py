"""Easy and hard samples by hand, and what is undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rc_core.metrics.easy_hard import easy_hard_metrics, relative_robustness

CORRECT = np.array([True, True, False, True])
CONFIDENCE = np.array([0.9, 0.7, 0.6, 0.8])


def test_both_halves_by_hand() -> None:
    hard = np.array([False, False, True, True])
    metrics, undefined = easy_hard_metrics(CORRECT, CONFIDENCE, hard)
    assert metrics == {
        "difficulty.easy/accuracy": 1.0,
        "difficulty.easy/confidence": pytest.approx(0.8),
        "difficulty.hard/accuracy": 0.5,
        "difficulty.hard/confidence": pytest.approx(0.7),
        "difficulty_gap": 50.0,
    }
    assert not undefined


@pytest.mark.parametrize("flag", [True, False])
def test_an_empty_half_is_undefined_with_its_reason(flag: bool) -> None:
    metrics, undefined = easy_hard_metrics(CORRECT, CONFIDENCE, np.full(4, flag))
    empty = "easy" if flag else "hard"
    assert math.isnan(metrics[f"difficulty.{empty}/accuracy"])
    assert math.isnan(metrics["difficulty_gap"])
    assert set(undefined) == {
        f"difficulty.{empty}/accuracy", f"difficulty.{empty}/confidence", "difficulty_gap"
    }  # fmt: skip


def test_lengths_must_fit() -> None:
    with pytest.raises(ValueError, match="same length"):
        easy_hard_metrics(CORRECT, CONFIDENCE, np.zeros(3, dtype=bool))


@pytest.mark.parametrize(
    ("easy", "hard", "expected"), [(0.8, 0.6, 0.25), (0.5, 0.5, 0.0), (0.5, 0.6, -0.2)]
)
def test_relative_robustness(easy: float, hard: float, expected: float) -> None:
    assert relative_robustness(easy, hard) == pytest.approx(expected)


def test_relative_robustness_of_nothing_is_undefined() -> None:
    assert math.isnan(relative_robustness(0.0, 0.3))
