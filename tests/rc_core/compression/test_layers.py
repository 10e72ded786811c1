"""Finding blocks and embeddings in the supported encoders."""

from __future__ import annotations

import pytest
from torch import nn

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
    chosen = [blocks(model)[i] for i in (1, 3)]
    before = logits_of(model)
    keep_blocks(model, (1, 3))
    assert list(blocks(model)) == chosen
    assert model.config.num_hidden_layers == 2
    assert not logits_of(model).allclose(before)


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
    places = (("no.such", "output.dense"), ("intermediate", "output.dense"))
    places = (*places, ("intermediate.dense", "output.dense"))
    found = linears(tiny_model("bert"), places, "its layers")
    assert [(first.out_features, second.in_features) for first, second in found] == [(24, 24)] * 4
    # What is there but is no linear layer does not fit either.
    with pytest.raises(ModelError, match=r"must keep its layers where .* BertForSequence"):
        linears(tiny_model("bert"), places[:2], "its layers")
