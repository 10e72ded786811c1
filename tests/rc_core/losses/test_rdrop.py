"""R-Drop against scipy and loops, and what two passes of a model have to do with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from torch import Tensor

from rc_core.errors import ConfigError
from rc_core.forward import BatchForward
from rc_core.losses import rdrop, vanilla
from rc_core.schema import validate_section
from tests.contracts._tiny import tiny_batch, tiny_model


def random(*shape: int, seed: int) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 4.0])
def test_it_is_the_paper_s_formula_sample_by_sample(alpha: float) -> None:
    first, second, labels = random(7, 3, seed=0), random(7, 3, seed=1), torch.arange(7) % 3
    expected = []
    for a, b, y in zip(first.double().numpy(), second.double().numpy(), labels, strict=True):
        hard = -log_softmax(a)[y] - log_softmax(b)[y]
        apart = entropy(softmax(a), softmax(b)) + entropy(softmax(b), softmax(a))
        expected.append(hard / 2 + alpha * apart / 2)
    found = rdrop.rdrop_loss(first, second, labels, alpha=alpha)
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_gradients_reach_both_passes_alike() -> None:
    first, second = (random(5, 3, seed=seed).requires_grad_() for seed in (0, 1))
    labels, given = torch.arange(5) % 3, (first, second)
    straight = torch.autograd.grad(rdrop.rdrop_loss(first, second, labels, alpha=2.0), given)
    turned = torch.autograd.grad(rdrop.rdrop_loss(second, first, labels, alpha=2.0), given)
    for ours, theirs in zip(straight, turned, strict=True):
        torch.testing.assert_close(ours, theirs)
        assert ours.any(dim=1).all()


def test_it_does_not_overflow_where_passes_are_certain_of_different_answers() -> None:
    first = torch.tensor([[200.0, -200.0]]).requires_grad_()
    found = rdrop.rdrop_loss(first, torch.tensor([[-200.0, 200.0]]), torch.tensor([0]), alpha=1.0)
    (gradient,) = torch.autograd.grad(found, first)
    assert found.item() == pytest.approx(200 + 400, rel=1e-6) and torch.isfinite(gradient).all()


def test_passes_differ_by_dropout_alone() -> None:
    """Without it the loss is vanilla's, to the bit; with it their disagreement counts."""
    model, batch = tiny_model("bert"), tiny_batch()
    loss = rdrop.Loss(rdrop.Config(name="rdrop", alpha=3.0))

    def value() -> Tensor:
        forward = BatchForward(model, batch, "fp32", hidden=False, teacher=None)
        found: Tensor = loss.on_model(forward, batch.labels, {})
        return found

    with torch.no_grad():
        plain = vanilla.vanilla_loss(model(**batch.inputs).logits, batch.labels)
        assert value() == plain
        model.train()
        torch.manual_seed(0)
        first, second = (model(**batch.inputs).logits for _ in range(2))
        torch.manual_seed(0)
        assert value() == rdrop.rdrop_loss(first, second, batch.labels, alpha=3.0) != plain


def test_alpha_must_not_be_negative() -> None:
    assert rdrop.Config(name="rdrop").label() == "rdrop"
    assert rdrop.Config(name="rdrop", alpha=0.5).label() == "rdrop alpha=0.5"
    with pytest.raises(ConfigError, match="alpha"):
        validate_section(rdrop.Config, {"name": "rdrop", "alpha": -0.1})
