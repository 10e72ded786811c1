"""What replaces dropout and attention in CPU training: same distribution, same formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rc_core.cpu_steps import FastDropout, attention, dropout, fast_steps, padding_mask
from rc_core.models import load_encoder
from tests.contracts._tiny import ARCHITECTURES
from tests.rc_core._data import LABELS


def encoder(architecture: str = "bert") -> nn.Module:
    return load_encoder(f"tiny:{architecture}", label_names=LABELS, seed=0)


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 60, (4, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_the_share_and_keeps_the_expectation(p: float) -> None:
    torch.manual_seed(0)
    found = dropout(torch.ones(400, 500), p)
    assert float((found == 0).float().mean()) == pytest.approx(p, abs=0.005)
    assert float(found.mean()) == pytest.approx(1.0, abs=0.03)
    assert len(found.unique()) == 2


def test_dropout_is_independent_between_calls_and_repeats_with_the_seed() -> None:
    ones = torch.ones(100_000)
    torch.manual_seed(3)
    first, second = dropout(ones, 0.5) > 0, dropout(ones, 0.5) > 0
    assert float((first == second).float().mean()) == pytest.approx(0.5, abs=0.01)
    # Neighbours come from one 64-bit draw: they must not hang together either.
    assert float((first[1:] == first[:-1]).float().mean()) == pytest.approx(0.5, abs=0.01)
    torch.manual_seed(3)
    assert torch.equal(dropout(ones, 0.5) > 0, first)


def test_the_gradient_passes_where_values_did() -> None:
    hidden = torch.randn(50, 7, requires_grad=True)
    found = dropout(hidden, 0.25)
    found.sum().backward()
    assert hidden.grad is not None
    assert torch.equal(hidden.grad == 0, found == 0)
    assert float(hidden.grad.max()) == pytest.approx(1 / 0.75)


def test_attention_is_scaled_dot_product_attention() -> None:
    """Reference: torch's own, with the boolean mask."""
    torch.manual_seed(1)
    query, key, value = (torch.randn(3, 2, 6, 8) for _ in range(3))
    mask = torch.ones(3, 6, dtype=torch.int64)
    mask[0, 4:] = 0
    expected = F.scaled_dot_product_attention(query, key, value, mask.bool()[:, None, None, :])
    found, _ = attention(nn.Identity(), query, key, value, padding_mask(mask))
    assert torch.allclose(found, expected.transpose(1, 2), atol=1e-6)
    assert padding_mask(torch.ones(3, 6)) is None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_and_gradients_are_the_stock_models_without_dropout(architecture: str) -> None:
    model = encoder(architecture).eval()

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        logits = model(**batch()).logits
        logits.square().sum().backward()
        return logits.detach(), torch.cat(
            [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        )

    expected = run()
    with fast_steps(model):
        found = run()
    assert torch.allclose(found[0], expected[0], atol=1e-6)
    assert torch.allclose(found[1], expected[1], atol=1e-6)


def test_the_model_is_as_it_was_afterwards_also_after_an_error() -> None:
    model = encoder().train()
    before = [type(module) for module in model.modules()]
    with pytest.raises(KeyError), fast_steps(model):
        assert any(isinstance(module, FastDropout) for module in model.modules())
        assert not any(type(module) is nn.Dropout and module.p > 0 for module in model.modules())
        model.eval()
        raise KeyError
    assert [type(module) for module in model.modules()] == before
    assert model.config._attn_implementation == "sdpa"
    assert not any(module.training for module in model.modules())


def test_in_training_dropout_is_at_work() -> None:
    model = encoder().train()
    with fast_steps(model):
        first, second = (model(**batch()).logits for _ in range(2))
    assert not torch.equal(first, second)
