"""Rounded weights: the grid against torch's own, its steps against integrals, and training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rc_core.compression import quantized
from rc_core.compression._layers import embeddings
from rc_core.compression._masks import num_entries, prunable_weights
from rc_core.compression.quantized import Compression, Config, num_levels, rounded
from rc_core.errors import TrialError
from rc_core.metrics.footprint import footprint
from rc_core.schema import validate_section
from tests.contracts._tiny import adamw, logits_of, tiny_context, tiny_model, train_steps

BITS = range(2, 9)


def config(**values: Any) -> Config:
    found = validate_section(Config, {"name": "quantized", **values})
    assert isinstance(found, Config)
    return found


def made(**values: Any) -> Compression:
    return Compression(config(**values))


def bert(model: Any) -> Any:
    """Return a tiny BERT's encoder, untyped: its modules are found by name."""
    return model.bert


def weights(model: nn.Module) -> list[Tensor]:
    return list(prunable_weights(model).values())


@pytest.mark.parametrize("bits", [5, 6, 7, 8])
def test_from_5_bits_on_it_is_what_torch_rounds_to(bits: int) -> None:
    weight = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    most = 2 ** (bits - 1) - 1
    steps, zeros = weight.abs().amax(dim=1) / most, torch.zeros(6, dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(weight, steps, zeros, 0, -most, most)
    torch.testing.assert_close(rounded(weight, bits), expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(rounded(weight, bits).abs().amax(dim=1), weight.abs().amax(dim=1))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_below_it_is_the_grid_that_is_best_for_normal_weights(bits: int) -> None:
    """The step that minimises E (x - q(x))^2 of a standard normal x, from its density."""
    most = 2 ** (bits - 1) - 1

    def error(step: float) -> float:
        total = 0.0
        for k in range(-most, most + 1):
            low = -np.inf if k == -most else (k - 0.5) * step
            high = np.inf if k == most else (k + 0.5) * step
            x = np.linspace(max(low, -8.0), min(high, 8.0), 2_001)
            total += np.trapezoid((x - k * step) ** 2 * norm.pdf(x), x)
        return float(total)

    best = minimize_scalar(error, bounds=(0.1, 2.0), method="bounded").x
    assert quantized._NORMAL_STEPS[bits] == pytest.approx(best, abs=2e-3)
    weight = torch.randn(20, 4_000, generator=torch.Generator().manual_seed(0))
    found = rounded(weight, bits)
    deviation = weight.square().mean(dim=1, keepdim=True).sqrt()
    in_steps = found / (quantized._NORMAL_STEPS[bits] * deviation)
    torch.testing.assert_close(in_steps, in_steps.round(), atol=1e-4, rtol=0)
    assert (num_levels(found) == 2 * most + 1).all()
    assert float((weight - found).square().mean()) == pytest.approx(error(best), rel=0.05)


@pytest.mark.parametrize("bits", BITS)
def test_a_row_has_its_own_step_and_zeros_stay_zero(bits: int) -> None:
    weight = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    weight[1] = 0.0
    weight[2, 0] = 1e-42
    weight[2, 1:] = 0.0
    found = rounded(weight, bits)
    assert found.isfinite().all() and (found[1] == 0).all() and (found[2, 1:] == 0).all()
    # Scaled by a power of two, so that nothing but the exponent changes.
    scaled = torch.stack([weight[0], 8 * weight[0]])
    assert torch.equal(rounded(scaled, bits)[1], 8 * rounded(scaled, bits)[0])
    assert torch.equal(rounded(-weight, bits), -found)


@pytest.mark.parametrize("bits", BITS)
def test_a_runtime_that_takes_the_largest_weight_for_its_step_changes_nothing(bits: int) -> None:
    """As the model card says; whatever the weights are like."""
    generator = torch.Generator().manual_seed(2)
    normal = torch.randn(5, 64, generator=generator)
    heavy, even = normal**5, torch.rand(5, 64, generator=generator) - 0.5
    found = rounded(torch.cat([normal, heavy, even]), bits)
    most = 2 ** (bits - 1) - 1
    steps, zeros = found.abs().amax(dim=1) / most, torch.zeros(len(found), dtype=torch.int32)
    again = torch.fake_quantize_per_channel_affine(found, steps, zeros, 0, -most, most)
    torch.testing.assert_close(again, found, atol=0, rtol=1e-5)


def test_values_of_a_row_are_counted() -> None:
    rows = torch.tensor([[0.0, -0.0, 1.0, 1.0], [3.0, 2.0, 1.0, 0.0], [5.0, 5.0, 5.0, 5.0]])
    assert num_levels(rows).tolist() == [2, 4, 1]


@pytest.mark.parametrize("bits", BITS)
def test_the_forward_sees_rounded_weights_and_the_gradient_passes(bits: int) -> None:
    model = tiny_model("bert").eval()
    before = {name: weight.detach().clone() for name, weight in prunable_weights(model).items()}
    own = tiny_model("bert").eval()
    with torch.no_grad():
        for weight in weights(own):
            weight.copy_(rounded(weight, bits))
    model = made(bits=bits).prepare(model, tiny_context("bert"))
    assert torch.equal(logits_of(model), logits_of(own))
    hidden = torch.zeros(1, 1, 16).normal_(generator=torch.Generator().manual_seed(0))
    layers = [bert(each).encoder.layer[0].attention.self.query for each in (model, own)]
    for layer in layers:
        layer(hidden).square().sum().backward()
    latent = layers[0].parametrizations.weight.original
    assert latent.grad.abs().sum() > 0 and torch.equal(latent.grad, layers[1].weight.grad)
    assert torch.equal(latent, before["bert.encoder.layer.0.attention.self.query.weight"])


def test_steps_smaller_than_the_grid_add_up() -> None:
    model, compression = tiny_model("bert"), made(bits=2)
    model = compression.prepare(model, tiny_context("bert"))
    layer = bert(model).encoder.layer[0].output.dense
    before, latent = layer.weight.detach().clone(), layer.parametrizations.weight.original
    optimizer = torch.optim.SGD([latent], lr=1.0)
    moved = []
    for _ in range(60):
        latent.grad = torch.full_like(latent, 0.01 * float(latent.detach().std()))
        optimizer.step()
        moved.append(not torch.equal(layer.weight.detach().sign(), before.sign()))
    assert moved[-1], (
        "60 steps of a hundredth of the deviation must move some weight to another level"
    )


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("tables", [False, True])
def test_what_is_left_is_on_the_grid(bits: int, tables: bool) -> None:
    model, compression = tiny_model("bert"), made(bits=bits, embeddings=tables)
    words = bert(model).embeddings.word_embeddings.weight.detach().clone()
    model = compression.prepare(model, tiny_context("bert"))
    train_steps(model, compression, adamw(model), last=3, total=3)
    seen = logits_of(model.eval())
    model = compression.finalize(model)
    assert torch.equal(logits_of(model.eval()), seen), "training's last forward is the finished one"
    assert not any(parametrize.is_parametrized(module) for module in model.modules())
    assert all((num_levels(weight) <= 2**bits - 1).all() for weight in weights(model))
    frozen = bert(model).embeddings.word_embeddings.weight
    assert torch.equal(frozen, rounded(words, bits) if tables else words)
    report = compression.report(model)
    assert report["measured"]["quantized"] == 1.0
    assert report["measured"]["values_per_row"] <= 2**bits - 1

    sizes = footprint(model, packed_bits=compression.packed_bits(model))
    packed = weights(model)
    if tables:
        packed += [p for m in embeddings(model) for p in m.parameters() if p.ndim == 2]
    entries, rows = num_entries(packed), sum(len(weight) for weight in packed)
    others = [p for p in model.parameters() if all(p is not weight for weight in packed)]
    full = sum(int(torch.count_nonzero(p)) for p in others)
    assert sizes["footprint/packed_bytes"] == pytest.approx(entries * bits / 8 + 4 * (rows + full))
    assert sizes["footprint/bytes"] == 4 * sizes["footprint/parameters"]


def test_weights_that_are_not_rounded_are_refused_at_the_end() -> None:
    model, compression = tiny_model("bert"), made(bits=3)
    model = compression.prepare(model, tiny_context("bert"))
    layer = bert(model).encoder.layer[0].output.dense
    with torch.no_grad():
        layer.parametrizations.weight.original[0, 0] = torch.nan
    with pytest.raises(TrialError, match=r"at most 7 values .*lower training.learning_rate"):
        compression.finalize(model)


def test_its_label_says_the_bits() -> None:
    assert config().label() == "quantized-8bit"
    assert config(bits=4, embeddings=True).label() == "quantized-4bit embeddings=True"
