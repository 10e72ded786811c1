"""Finding blocks and embeddings in the supported encoders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from rc_core.compression._layers import blocks, embeddings, keep_blocks, linears
from rc_core.errors import ModelError
from tests.contracts._tiny import ARCHITECTURES, NUM_LAYERS, logits_of, tiny_model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_blocks_and_embeddings_are_disjoint_parts_of_the_model(architecture: str) -> None:
    model = tiny_model(architecture)
    inside = {id(p) for p in blocks(model).parameters()}
    tables = {id(p) for module in embeddings(model) for p in module.parameters()}
    everything = {id(p) for p in model.parameters()}
    assert len(blocks(model)) == NUM_LAYERS
    assert inside and tables and not inside & tables
    assert inside | tables < everything  # the head is left
    assert id(model.get_input_embeddings().weight) in tables


def test_electra_projection_counts_as_embedding() -> None:
    model = tiny_model("electra")
    assert model.base_model.embeddings_project in embeddings(model)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_keep_blocks_runs_the_named_blocks_in_order(architecture: str) -> None:
    model = tiny_model(architecture)
    kept = (0, 3) if architecture == "modernbert" else (1, 3)
    chosen = [blocks(model)[i] for i in kept]
    before = logits_of(model)
    keep_blocks(model, kept)
    assert list(blocks(model)) == chosen
    assert model.config.num_hidden_layers == 2
    assert not logits_of(model).allclose(before)


def test_a_block_of_another_shape_takes_no_other_ones_place() -> None:
    """A stock model makes ModernBERT's first block without a norm: the other's would be lost."""
    with pytest.raises(ModelError, match="block 1 would take its place"):
        keep_blocks(tiny_model("modernbert"), (1, 2))


def test_what_a_kept_block_attends_to_goes_with_it(tmp_path: Path) -> None:
    """ModernBERT attends to all tokens in every third block, to near ones in the others."""
    model = tiny_model("modernbert")
    model.config.local_attention = 4  # else a tiny text has near tokens only
    model = type(model)(model.config).eval()
    keep_blocks(model, (0, 2, 3))
    types = ["full_attention", "sliding_attention", "full_attention"]
    assert [block.attention_type for block in blocks(model)] == types == model.config.layer_types
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert [block.attention_type for block in blocks(again)] == types
    assert torch.equal(logits_of(again), logits_of(model))


def test_a_decoder_is_refused() -> None:
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model("llama", intermediate_size=24, vocab_size=60, **shape)
    with pytest.raises(ModelError, match="must be an encoder"):
        blocks(AutoModelForSequenceClassification.from_config(config))


@pytest.mark.parametrize(
    "model",
    [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)), nn.ModuleDict({"encoder": nn.ReLU()})],
)
def test_anything_else_is_refused(model: nn.Module) -> None:
    with pytest.raises(ModelError, match="must be an encoder"):
        blocks(model)
    with pytest.raises(ModelError, match="must be an encoder"):
        embeddings(model)


def test_albert_shares_its_layers_and_is_refused() -> None:
    with pytest.raises(ModelError, match=r"BERT, RoBERTa, ELECTRA"):
        blocks(tiny_model("albert"))


def test_linear_layers_are_found_by_the_places_that_fit() -> None:
    wrong = (("no.such", "output.dense"), ("intermediate", "output.dense"))
    places = (*wrong, ("intermediate.dense", "output.dense"))
    found = linears(tiny_model("bert"), places, "its layers")
    assert [(first.out_features, second.in_features) for first, second in found] == [(24, 24)] * 4
    # What is there but is no linear layer does not fit either.
    with pytest.raises(ModelError, match=r"must keep its layers where .* BertForSequence"):
        linears(tiny_model("bert"), wrong, "its layers")
