"""Heads: importance against finite differences, the ranking by hand, cut against masked."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rc_core.compression._heads import (
    attentions,
    head_size,
    heads_per_layer,
    keep_heads,
    lowest,
    normalised_by_layer,
    restore_heads,
)
from rc_core.compression.heads import FAMILIES, Compression, Config, importance, problems
from rc_core.errors import ModelError, TrialError
from rc_core.metrics.footprint import footprint
from rc_core.model_facts import ModelFacts
from rc_core.models import load_model, load_tokenizer, save_model
from rc_core.schema import validate_section
from tests.contracts._tiny import ARCHITECTURES, logits_of, tiny_batch, tiny_context, tiny_model

over_everything = pytest.mark.parametrize(
    "architecture", [each for each in ARCHITECTURES if each in FAMILIES]
)


def config_of(**values: Any) -> Config:
    return validate_section(Config, {"name": "heads", **values})


def scaled(model: nn.Module, layer: int, head: int, factor: float) -> nn.Module:
    """Return a copy whose head is multiplied by `factor`: its columns of the output projection."""
    changed = copy.deepcopy(model)
    size = head_size(changed)
    with torch.no_grad():
        attentions(changed)[layer].output.weight[:, head * size : (head + 1) * size] *= factor
    return changed


@over_everything
def test_importance_is_the_mean_absolute_derivative_of_each_sample(architecture: str) -> None:
    model = tiny_model(architecture).double()
    batches = [tiny_batch(seed=seed) for seed in range(2)]
    found = importance(model, tiny_context(architecture), num_batches=2)

    def losses(changed: Any) -> Tensor:
        parts = [
            nn.functional.cross_entropy(
                changed(**batch.inputs).logits.double(), batch.labels, reduction="none"
            )
            for batch in batches
        ]
        return torch.cat(parts)

    step = 1e-3
    for layer, head in ((0, 1), (3, 0)):
        with torch.no_grad():
            up, down = (losses(scaled(model, layer, head, 1 + d)) for d in (step, -step))
        expected = float(((up - down) / (2 * step)).abs().mean())
        assert found[layer][head] == pytest.approx(expected, rel=1e-3)


def test_importance_leaves_the_model_as_it_was() -> None:
    model = tiny_model("bert").train()
    model.classifier.weight.requires_grad_(False)
    flags = [p.requires_grad for p in model.parameters()]
    importance(model, tiny_context(), num_batches=1)
    assert model.training and [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_a_diverged_reference_is_an_error() -> None:
    model = tiny_model("bert")
    with torch.no_grad():
        model.classifier.weight.fill_(torch.nan)
    with pytest.raises(TrialError, match="importance of heads and neurons must be finite"):
        importance(model, tiny_context(), num_batches=1)


@pytest.mark.parametrize(
    ("importance", "count", "least", "expected"),
    [
        ([[0.1, 0.9], [0.2, 0.8]], 0, 1, [[0, 1], [0, 1]]),
        ([[0.1, 0.9], [0.2, 0.8]], 1, 1, [[1], [0, 1]]),
        ([[0.1, 0.9], [0.2, 0.8]], 2, 1, [[1], [1]]),
        # The two least important are in one layer, which keeps one.
        ([[0.1, 0.2], [0.8, 0.9]], 2, 1, [[1], [1]]),
        ([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], 2, 2, [[1, 2], [1, 2]]),
        # Ties: the earlier goes first.
        ([[0.5, 0.5], [0.5, 0.5]], 1, 1, [[1], [0, 1]]),
    ],
)
def test_the_lowest_go_over_all_layers_together(
    importance: Sequence[Sequence[float]], count: int, least: int, expected: list[list[int]]
) -> None:
    assert lowest(importance, count, min_per_layer=least) == expected


def test_importance_is_divided_by_the_norm_of_its_layer_s() -> None:
    found = normalised_by_layer([[3.0, 4.0], [0.06, 0.08], [0.0, 0.0]])
    assert [pytest.approx(layer) for layer in found] == [[0.6, 0.8], [0.6, 0.8], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("normalisation", "kept"),
    [("none", [[0, 1], [1]]), ("layer", [[1], [0, 1]])],
)
def test_a_layer_with_small_gradients_does_not_give_first(
    normalisation: str, kept: list[list[int]]
) -> None:
    importance = [[0.1, 0.9], [0.02, 0.03], [0.8, 0.9], [0.8, 0.9]]
    context = replace(tiny_context(), importance=lambda: importance)
    compression = Compression(config_of(remove=1 / 8, normalisation=normalisation))
    compression.prepare(tiny_model("bert"), context)
    assert compression.report(tiny_model("bert"))["kept_heads"] == [*kept, [0, 1], [0, 1]]
    # What is reported is what was measured.
    assert compression.report(tiny_model("bert"))["importance"] == importance


def test_more_than_may_go_is_refused() -> None:
    with pytest.raises(ModelError, match="at most 2 can go"):
        lowest([[0.1, 0.2], [0.3, 0.4]], 3, min_per_layer=1)
    facts = ModelFacts("bert", num_layers=4, num_heads=2, max_positions=40, num_parameters=1)
    (problem,) = problems(config_of(remove=0.6), facts)
    assert "at most 4 of 8" in problem.message and problem.where == "compression.remove"
    assert problems(config_of(remove=0.5), facts) == []


@over_everything
def test_cut_heads_are_masked_heads(architecture: str) -> None:
    model = tiny_model(architecture)
    kept = [[1], [0, 1], [0], [0, 1]]
    masked = scaled(scaled(model, 0, 0, 0.0), 2, 1, 0.0)
    cut = copy.deepcopy(model)
    keep_heads(cut, kept)
    assert heads_per_layer(cut) == [1, 2, 1, 2]
    torch.testing.assert_close(logits_of(cut), logits_of(masked), atol=1e-6, rtol=1e-5)
    # Gradients of what stays are the same too.
    batch = tiny_batch(seed=3)
    for each in (cut, masked):
        nn.functional.cross_entropy(each(**batch.inputs).logits, batch.labels).backward()
    size = head_size(cut)
    found = attentions(cut)[0].inputs[2].weight.grad
    whole = attentions(masked)[0].inputs[2].weight.grad
    assert whole is not None
    expected = whole[size:]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
    restore_heads(cut, kept)
    assert heads_per_layer(cut) == [2, 2, 2, 2]
    torch.testing.assert_close(logits_of(cut), logits_of(masked), atol=1e-6, rtol=1e-5)


def test_the_model_is_smaller_by_what_was_cut() -> None:
    model = tiny_model("bert")
    before = footprint(model)
    compression = Compression(config_of(remove=0.5))
    compression.prepare(model, tiny_context())
    after = footprint(compression.finalize(model))
    # A head of width 8 in a hidden size of 16: 3 x 8 rows with biases, 8 columns.
    removed = 4 * (3 * 8 * (16 + 1) + 16 * 8)
    assert before["footprint/parameters"] - after["footprint/parameters"] == removed
    assert after["footprint/bytes"] == before["footprint/bytes"] - 4 * removed
    report = compression.report(model)
    assert report["measured"]["heads"] == 4 and len(report["importance"]) == 4
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize(("remove", "gone"), [(0.0, 0), (0.3, 2), (0.32, 3), (0.5, 4)])
def test_the_number_of_heads_that_go_is_rounded(remove: float, gone: int) -> None:
    """Of eight: 2.4 are two and 2.56 three."""
    model = Compression(config_of(remove=remove)).prepare(tiny_model("bert"), tiny_context())
    assert sum(heads_per_layer(model)) == 8 - gone


def test_the_importance_is_the_teacher_s_whatever_is_cut() -> None:
    first, second = Compression(config_of(remove=0.25)), Compression(config_of(remove=0.25))
    first.prepare(tiny_model("bert", seed=0), tiny_context())
    second.prepare(tiny_model("bert", seed=5), tiny_context())
    assert first.report(tiny_model("bert"))["kept_heads"] == second._kept


def test_finalize_checks_what_stayed() -> None:
    compression = Compression(config_of(remove=0.25))
    compression.prepare(tiny_model("bert"), tiny_context())
    with pytest.raises(TrialError, match="layers must keep"):
        compression.finalize(tiny_model("bert"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"schema_version": 9, "kept_heads": []}', "schema_version 1"),
        ('{"schema_version": 1, "kept_heads": [[0]]}', "cannot be loaded"),
        ('{"schema_version": 1, "kept_heads": [[0, 1], [0], [0], [0]]}', "cannot be loaded"),
    ],
)
def test_a_damaged_manifest_is_a_clear_error(tmp_path: Path, content: str, message: str) -> None:
    model = tiny_model("bert")
    keep_heads(model, [[0], [0], [0], [0]])
    save_model(model, load_tokenizer("tiny:bert"), tmp_path, compression="heads")
    (tmp_path / "structure.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)


def test_label() -> None:
    assert config_of().label() == "heads-20"
    assert config_of(remove=0.1944, min_per_layer=2).label() == "heads-19.44 min_per_layer=2"
    assert config_of(remove=0.19443219).label() == "heads-19.4"


def test_a_folder_of_the_first_version_still_loads(tmp_path: Path) -> None:
    """Its structure.json knew of heads alone."""
    kept = [[1], [0, 1], [0], [0, 1]]
    model = tiny_model("bert")
    keep_heads(model, kept)
    save_model(model, load_tokenizer("tiny:bert"), tmp_path)
    assert not (tmp_path / "structure.json").exists()
    manifest = {"schema_version": 1, "kept_heads": kept}
    (tmp_path / "structure.json").write_text(json.dumps(manifest))
    found = load_model(tmp_path)
    assert torch.equal(logits_of(found), logits_of(model))
    stock = Compression(config_of()).to_stock(found)
    assert heads_per_layer(stock) == [2, 2, 2, 2]
    torch.testing.assert_close(logits_of(stock), logits_of(model), atol=1e-6, rtol=1e-5)
