"""Which encoders are refused before their weights are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from rc_core.compression._layers import blocks, embeddings
from rc_core.errors import ModelError
from rc_core.layout import KNOWN, check_layout
from rc_core.models import load_encoder, load_tokenizer, save_model


def folder(path: Path, family: str) -> str:
    """Write a folder of a family's config, and weights that nobody reads."""
    path.mkdir()
    config = AutoConfig.for_model(family, num_hidden_layers=2).to_dict()
    (path / "config.json").write_text(json.dumps(config))
    save_file({"x": torch.zeros(1)}, path / "model.safetensors")
    return str(path)


@pytest.mark.parametrize("family", KNOWN)
def test_known_families_are_built_as_compressions_know_them(family: str) -> None:
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family))
    assert len(blocks(model)) == model.config.num_hidden_layers and embeddings(model)


@pytest.mark.parametrize("family", ["nomic_bert", "convbert", "roformer"])
def test_an_unknown_family_that_is_built_alike_is_taken(family: str, tmp_path: Path) -> None:
    check_layout(folder(tmp_path / "m", family), family)


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("albert", "AlbertForSequenceClassification keeps its blocks in none"),
        ("squeezebert", "keeps its blocks in none"),
        ("llama", "keeps its blocks in none"),
        ("vit", "sequence classifier, but it is of 'vit'"),
    ],
)
def test_another_one_is_refused(family: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=why):
        check_layout(folder(tmp_path / "m", family), family)


def test_weights_that_are_cut_short_are_told(tmp_path: Path) -> None:
    model = load_encoder("tiny:bert", label_names=["a", "b"], seed=0)
    save_model(model, load_tokenizer("tiny:bert"), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="must hold complete weights") as caught:
        load_encoder(str(tmp_path), label_names=["a", "b"], seed=0)
    assert "fetch it again" in str(caught.value)
