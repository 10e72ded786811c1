"""Feed-forward neurons: importance against finite differences, cut against zeroed, stock reload."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from rc_core.compression._importance import unit_importance
from rc_core.compression.ffn import FAMILIES, Compression, Config, _layers, neurons_kept
from rc_core.errors import TrialError
from rc_core.metrics.footprint import footprint
from rc_core.schema import validate_section
from tests.contracts._tiny import ARCHITECTURES, logits_of, tiny_batch, tiny_context, tiny_model

over_everything = pytest.mark.parametrize(
    "architecture", [each for each in ARCHITECTURES if each in FAMILIES]
)


def config_of(**values: Any) -> Config:
    return validate_section(Config, {"name": "ffn", "num_batches": 2, **values})


@over_everything
def test_importance_is_the_mean_absolute_derivative_of_each_sample(architecture: str) -> None:
    model = tiny_model(architecture).double()
    seconds = [second for _, second in _layers(model)]
    found = unit_importance(model, seconds, tiny_context(), width=1, num_batches=1)
    batch = tiny_batch(seed=0)

    def losses(layer: int, neuron: int, factor: float) -> torch.Tensor:
        changed = copy.deepcopy(model)
        with torch.no_grad():
            _layers(changed)[layer][1].weight[:, neuron] *= factor
            logits = changed(**batch.inputs).logits.double()
        return nn.functional.cross_entropy(logits, batch.labels, reduction="none")

    step = 1e-3
    for layer, neuron in ((0, 3), (2, 17)):
        up, down = (losses(layer, neuron, 1 + d) for d in (step, -step))
        expected = float(((up - down) / (2 * step)).abs().mean())
        assert found[layer][neuron] == pytest.approx(expected, rel=1e-3)


def test_finalize_checks_how_many_neurons_stayed() -> None:
    compression = Compression(config_of(remove=0.5))
    model = compression.prepare(tiny_model("bert"), tiny_context())
    assert compression.finalize(model) is model
    with pytest.raises(TrialError, match=r"must keep 12 neurons, but they have \[24, 24"):
        compression.finalize(tiny_model("bert"))


@over_everything
def test_cut_model_gives_the_logits_of_one_with_zeroed_neurons(architecture: str) -> None:
    judge = tiny_model(architecture, seed=9)
    seconds = [second for _, second in _layers(judge)]
    importance = unit_importance(judge, seconds, tiny_context(), width=1, num_batches=2)
    zeroed = tiny_model(architecture)
    kept = neurons_kept(24, 0.5)
    with torch.no_grad():
        for (_, second), values in zip(_layers(zeroed), importance, strict=True):
            lowest = sorted(range(24), key=lambda i: values[i])[: 24 - kept]
            second.weight[:, lowest] = 0.0
    cut = Compression(config_of()).prepare(tiny_model(architecture), tiny_context(architecture))
    torch.testing.assert_close(logits_of(cut), logits_of(zeroed), atol=1e-6, rtol=1e-5)


@over_everything
def test_plain_transformers_loads_it_and_it_is_smaller(architecture: str, tmp_path: Path) -> None:
    dense = footprint(tiny_model(architecture))["footprint/parameters"]
    compression = Compression(config_of(remove=0.75))
    model: Any = compression.prepare(tiny_model(architecture), tiny_context(architecture))
    finished: Any = compression.finalize(model)
    finished.save_pretrained(tmp_path)
    reloaded: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(logits_of(reloaded.eval()), logits_of(model))
    # 18 of 24 neurons gone in each of 4 blocks: two weights of 16 and one bias each; with a gate
    # three weights, and ModernBERT has no biases.
    each = 3 * 16 if architecture == "modernbert" else 2 * 16 + 1
    assert dense - footprint(reloaded)["footprint/parameters"] == 4 * 18 * each


@pytest.mark.parametrize(
    ("size", "remove", "kept"), [(24, 0.0, 24), (24, 0.5, 12), (24, 0.99, 1), (1536, 0.25, 1152)]
)
def test_number_of_neurons_kept(size: int, remove: float, kept: int) -> None:
    assert neurons_kept(size, remove) == kept
