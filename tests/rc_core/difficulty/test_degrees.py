"""From scores to degrees: normalisations, ranks, halves, agreement; against scipy and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr

from rc_core.difficulty._base import (
    above_median,
    agreement,
    degrees,
    error_probability,
    hardest,
    normalised,
    rank_correlation,
)

SCORES = np.random.default_rng(0).gamma(0.5, size=101)
TIED = np.array([2.0, 1.0, 2.0, 5.0, 1.0, 1.0])


@pytest.mark.parametrize("scores", [SCORES, TIED])
def test_rank_is_the_mean_rank_of_ties(scores: np.ndarray) -> None:
    ranks = rankdata(scores, method="average")
    expected = (ranks - ranks.min()) / (ranks.max() - ranks.min())
    np.testing.assert_allclose(normalised(torch.tensor(scores), "rank").numpy(), expected)


def test_winsorized_clips_to_the_5_and_95_percent_samples() -> None:
    ordered = np.sort(SCORES)
    clipped = np.clip(SCORES, ordered[5], ordered[95])
    expected = (clipped - clipped.min()) / (clipped.max() - clipped.min())
    found = normalised(torch.tensor(SCORES), "winsorized").numpy()
    np.testing.assert_allclose(found, expected)
    assert (found == 1.0).sum() == 6


def test_minmax_by_hand() -> None:
    found = normalised(torch.tensor([1.0, 3.0, 2.0]))
    assert found.tolist() == [0.0, 1.0, 0.5]


@pytest.mark.parametrize("how", ["minmax", "rank", "winsorized"])
@pytest.mark.parametrize("scores", [[4.0], [4.0, 4.0, 4.0], [0.0, 0.0], [0.1 + 0.2, 0.3]])
def test_scores_that_do_not_differ_are_all_hardest(how: Any, scores: list[float]) -> None:
    if how == "rank" and len(set(scores)) > 1:
        pytest.skip("ranks tell any two numbers apart")
    assert degrees(torch.tensor(scores, dtype=torch.float64), 0.3, how).tolist() == [1.0] * len(
        scores
    )


@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [1.0, math.inf], [[1.0, 2.0]]])
def test_bad_scores_are_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="scores must be"):
        normalised(torch.tensor(scores))


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
def test_alpha_has_a_range(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be"):
        degrees(torch.tensor([1.0, 2.0]), alpha)


def test_alpha_may_be_either_end_of_its_range() -> None:
    assert degrees(torch.tensor([1.0, 2.0, 1.5]), 0.0).tolist() == [0.0, 1.0, 0.5]
    assert degrees(torch.tensor([1.0, 2.0, 1.5]), 1.0).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([3.0, 1.0, 2.0, 4.0], [True, False, False, True]),
        ([3.0, 1.0, 2.0], [True, False, False]),
        ([5.0, 5.0, 5.0, 5.0], [False, False, True, True]),
        ([1.0], [False]),
    ],
)
def test_above_median_takes_the_larger_half(scores: list[float], expected: list[bool]) -> None:
    assert above_median(torch.tensor(scores)).tolist() == expected
    assert hardest(torch.tensor(scores), 0).any().item() is False


def test_error_probability_by_hand() -> None:
    log_probs = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log()
    found = error_probability(log_probs, torch.tensor([0, 0]))
    assert found.tolist() == pytest.approx([0.1, 0.8]) and found.dtype == torch.float64


@pytest.mark.parametrize("seed", range(3))
def test_rank_correlation_is_spearman_s(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 9, 50).astype(float), rng.normal(size=50)
    expected = spearmanr(a, b).statistic
    assert rank_correlation(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected)


def test_rank_correlation_with_a_flat_row_is_undefined() -> None:
    assert math.isnan(rank_correlation(torch.ones(4), torch.arange(4.0)))


def test_agreement_and_what_chance_gives() -> None:
    first = torch.tensor([True, True, False, False])
    second = torch.tensor([True, False, False, False])
    assert agreement(first, second) == {"agreement": 0.75, "by_chance": 0.5 * 0.25 + 0.5 * 0.75}
    # By counting pairs of a sample's side in one split and any sample's in the other.
    rng = np.random.default_rng(0)
    a, b = rng.random(400) < 0.2, rng.random(400) < 0.7
    found = agreement(torch.from_numpy(a), torch.from_numpy(b))
    assert found["agreement"] == pytest.approx(sum(x == y for x, y in zip(a, b, strict=True)) / 400)
    assert found["by_chance"] == pytest.approx((a[:, None] == b[None, :]).mean())
