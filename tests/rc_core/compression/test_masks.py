"""Exact counts, smallest first, deterministic ties: against sorting everything with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rc_core.compression._masks import (
    Scope,
    magnitude_masks,
    magnitude_threshold,
    measure,
    num_zeros,
    prunable_weights,
    schedule_share,
    sparsity,
    target_zeros,
)
from rc_core.errors import TrialError
from tests.contracts._tiny import ARCHITECTURES, NUM_LAYERS, tiny_model


def random_weights(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in ((7, 11), (5, 3), (13, 4))]


def reference_masks(weights: list[Tensor], count: int) -> list[np.ndarray]:
    """Sort all magnitudes, stably, and prune the first `count`."""
    flat = np.concatenate([w.numpy().ravel() for w in weights])
    keep = np.ones(flat.size)
    keep[np.argsort(np.abs(flat), kind="stable")[:count]] = 0
    parts = np.split(keep, np.cumsum([w.numel() for w in weights])[:-1])
    return [part.reshape(w.shape) for part, w in zip(parts, weights, strict=True)]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.7, 0.999, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_global_masks_equal_sorting(share: float, seed: int) -> None:
    weights = random_weights(seed)
    masks = magnitude_masks(weights, share, scope="global")
    expected = reference_masks(weights, round(share * 144))
    for mask, reference in zip(masks, expected, strict=True):
        np.testing.assert_array_equal(mask.numpy(), reference)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.85])
def test_layer_masks_equal_sorting_each_matrix(share: float) -> None:
    weights = random_weights()
    for weight, mask in zip(weights, magnitude_masks(weights, share, scope="layer"), strict=True):
        expected = reference_masks([weight], round(share * weight.numel()))[0]
        np.testing.assert_array_equal(mask.numpy(), expected)


TIES = {
    "all equal": torch.full((4, 5), 0.25),
    "two values": torch.tensor([[1.0, -1.0, 2.0, 1.0], [2.0, 1.0, -1.0, 1.0]]),
    "signs": torch.tensor([[-0.5, 0.5], [0.5, -0.5]]),
    "zeros of both signs": torch.tensor([[0.0, -0.0, 3.0], [0.0, 1.0, -1.0]]),
    "denormal": torch.tensor([[1e-40, -1e-42, 1e-45], [1e-38, 1.0, 1e-40]]),
    "one entry": torch.tensor([[2.0]]),
    "huge": torch.tensor([[3e38, -3e38], [1.0, 3e38]]),
}


@pytest.mark.parametrize("name", TIES)
def test_ties_go_first_come_first_pruned_and_the_count_is_exact(name: str) -> None:
    weight = TIES[name]
    zeros = num_zeros([weight])
    for count in range(weight.numel() + 1):
        (mask,) = magnitude_masks([weight], count / weight.numel(), scope="global")
        assert num_zeros([mask]) == max(count, zeros)
        if count >= zeros:
            np.testing.assert_array_equal(mask.numpy(), reference_masks([weight], count)[0])


def test_ties_across_matrices_are_broken_in_model_order() -> None:
    weights = [torch.ones(2, 2), torch.ones(2, 2)]
    masks = magnitude_masks(weights, 5 / 8, scope="global")
    assert masks[0].flatten().tolist() == [0, 0, 0, 0]
    assert masks[1].flatten().tolist() == [0, 1, 1, 1]


def test_what_is_zero_stays_pruned() -> None:
    weight = torch.tensor([[0.0, 0.0, 0.0, 5.0]])
    for scope in ("global", "layer"):
        (mask,) = magnitude_masks([weight], 0.25, scope=scope)
        assert mask.tolist() == [[0, 0, 0, 1]]


def test_transposed_weight_is_masked_in_its_own_order() -> None:
    weight = random_weights()[0].T
    (mask,) = magnitude_masks([weight], 0.5, scope="global")
    np.testing.assert_array_equal(mask.numpy(), reference_masks([weight], 38)[0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_an_error(bad: float) -> None:
    weights = random_weights()
    weights[1][2, 1] = bad
    with pytest.raises(TrialError, match="must be finite"):
        magnitude_masks(weights, 0.5, scope="global")


def test_threshold_is_the_counted_magnitude() -> None:
    weights = random_weights(3)
    ordered = np.sort(np.abs(np.concatenate([w.numpy().ravel() for w in weights])))
    assert magnitude_threshold(weights, 0) == 0.0
    for count in (1, 2, 71, 72, 143, 144):
        assert magnitude_threshold(weights, count) == ordered[count - 1]
    with pytest.raises(ValueError, match=r"in \[0, 144\]"):
        magnitude_threshold(weights, 145)


@pytest.mark.parametrize(
    ("share", "scope", "expected"),
    [
        (0.0, "global", [0]),
        (0.5, "global", [72]),
        (0.501, "global", [72]),
        (0.5, "layer", [38, 8, 26]),  # 38.5 and 7.5 round to even
        (0.2, "layer", [15, 3, 10]),
    ],
)
def test_target_zeros(share: float, scope: Scope, expected: list[int]) -> None:
    assert target_zeros(random_weights(), share, scope=scope) == expected


@pytest.mark.parametrize(
    ("done", "cubic", "linear"),
    [
        (-1.0, 0.0, 0.0),
        (0.0, 0.0, 0.0),
        (0.25, 1 - 0.421875, 0.25),
        (0.5, 0.875, 0.5),
        (1.0, 1.0, 1.0),
        (1.5, 1.0, 1.0),
    ],
)
def test_schedule_share(done: float, cubic: float, linear: float) -> None:
    assert schedule_share(done, schedule="cubic") == pytest.approx(cubic)
    assert schedule_share(done, schedule="linear") == pytest.approx(linear)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_prunable_weights_are_the_matrices_of_the_blocks(architecture: str) -> None:
    model = tiny_model(architecture)
    weights = prunable_weights(model)
    places = {"distilbert": ".transformer.layer.", "modernbert": "model.layers."}
    place = places.get(architecture, ".encoder.layer.")
    expected = {n for n, p in model.named_parameters() if place in n and p.ndim == 2}
    assert set(weights) == expected
    # query, key, value, output: 16 x 16; two (with a gate: three) of the feed-forward: 16 x 24
    forward = 3 if architecture == "modernbert" else 2
    assert sum(w.numel() for w in weights.values()) == NUM_LAYERS * (4 * 256 + forward * 384)


def test_sparsity_counts_matrices_of_blocks_only() -> None:
    model = tiny_model("bert")
    assert sparsity(model) == 0.0
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.zero_()
        model.classifier.weight.zero_()
    assert sparsity(model) == 0.0
    with torch.no_grad():
        for weight in prunable_weights(model).values():
            weight[0].zero_()
    # one of 16 rows, or of 24 where the block widens
    assert sparsity(model) == (5 * 16 + 24) / (4 * 256 + 2 * 384)


def test_measure_counts_parameters_like_a_loop() -> None:
    model = tiny_model("roberta")
    with torch.no_grad():
        next(iter(prunable_weights(model).values())).zero_()
    values = torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()
    zeros = sum(1 for value in values if value == 0.0)
    assert measure(model) == {
        "sparsity": 256 / (NUM_LAYERS * 1792),
        "total_sparsity": zeros / len(values),
        "parameters": len(values),
        "nonzero_parameters": len(values) - zeros,
        "layers": NUM_LAYERS,
    }
