"""Where encoders come from; that a saved model is the same model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from rc_core.data._encoding import encode
from rc_core.data._task import Split
from rc_core.errors import ModelError
from rc_core.layout import KNOWN
from rc_core.model_facts import (
    _POSITIONS_AFTER_PADDING,
    TINY_ARCHITECTURES,
    TINY_LAYERS,
    _hub_folder,
    locate,
    model_facts,
    model_kind,
    weights_digest,
)
from rc_core.models import load_encoder, load_model, load_tokenizer, save_model
from rc_core.workspace import model_digest

PAIR = ("the dog ran", "a dog slept")


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_a_tiny_encoder_reloads_with_the_same_logits(architecture: str, tmp_path: Path) -> None:
    spec = f"tiny:{architecture}"
    model = load_encoder(spec, label_names=["yes_", "no_"], seed=1).eval()
    tokenizer = load_tokenizer(spec)
    inputs = tokenizer(*PAIR, return_tensors="pt")
    save_model(model, tokenizer, tmp_path / "m")
    again = load_model(tmp_path / "m").eval()
    inputs_again = load_tokenizer(str(tmp_path / "m"))(*PAIR, return_tensors="pt")
    assert torch.equal(inputs["input_ids"], inputs_again["input_ids"])
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, again(**inputs_again).logits)
    assert again.config.id2label == {0: "yes_", 1: "no_"}
    assert list((tmp_path / "m").glob("*.safetensors")) and not list((tmp_path / "m").glob("*.bin"))
    assert model_facts(spec).num_layers == model_facts(str(tmp_path / "m")).num_layers


def test_a_folder_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    """Transformers makes one of special tokens alone: every text would be unknown tokens."""
    model = load_encoder("tiny:bert", label_names=["a", "b"], seed=0)
    save_model(model, load_tokenizer("tiny:bert"), tmp_path / "m")
    for file in (tmp_path / "m").iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            file.unlink()
    with pytest.raises(ModelError, match="must hold its tokenizer"):
        load_tokenizer(str(tmp_path / "m"))


@pytest.mark.parametrize(
    ("architecture", "segments"), [("roberta", 1), ("distilbert", None), ("bert", 1), ("bert", 2)]
)
def test_a_tokenizer_makes_segment_ids_only_where_the_encoder_reads_them(
    architecture: str, segments: int | None, tmp_path: Path
) -> None:
    """A BERT-like tokenizer beside each; what is saved with a trial is of use with transformers."""
    tokenizer = load_tokenizer("tiny:bert")
    shape: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    if segments is None:
        shape = {"dim": 8, "hidden_dim": 8, "n_heads": 2}
    else:
        shape["type_vocab_size"] = segments
    shape |= {"vocab_size": len(tokenizer), "num_hidden_layers": 1}
    config = AutoConfig.for_model(architecture, **shape)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    save_model(model, tokenizer, tmp_path / "own")
    loaded = load_tokenizer(str(tmp_path / "own"))
    split = Split("train", "s", ["the dog ran"], ["a dog slept"], np.array([0]), ("a", "b"))
    batch = encode(split, loaded, 64).collate(np.array([0]))
    assert ("token_type_ids" in batch) == (segments == 2)
    save_model(model, loaded, tmp_path / "trial")
    inputs = AutoTokenizer.from_pretrained(tmp_path / "trial")(*PAIR, return_tensors="pt")
    assert inputs.keys() == batch.keys()
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, model(**inputs).logits)


def test_the_seed_fixes_the_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        model = load_encoder("tiny:bert", label_names=["a", "b"], seed=seed)
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_a_folder_with_another_head_gets_a_new_one(tmp_path: Path) -> None:
    model = load_encoder("tiny:bert", label_names=["a", "b", "c"], seed=0)
    save_model(model, load_tokenizer("tiny:bert"), tmp_path / "three")
    two = load_encoder(str(tmp_path / "three"), label_names=["x", "y"], seed=0)
    assert two.config.num_labels == 2
    kept = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(two.state_dict()[kept], model.state_dict()[kept])


def without(folder: Path, *lost: str) -> None:
    """Rewrite a folder's weights without those whose names contain one of some words."""
    weights = load_file(folder / "model.safetensors")
    kept = {name: each for name, each in weights.items() if not any(word in name for word in lost)}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def test_an_encoder_is_never_random_in_part(tmp_path: Path) -> None:
    """transformers only warns, and the trial would train from random weights."""
    tokenizer = load_tokenizer("tiny:bert")
    for name in ("layer", "size", "prefix", "pooler", "heads"):
        model = load_encoder("tiny:bert", label_names=["a", "b"], seed=0)
        save_model(model, tokenizer, tmp_path / name)
    without(tmp_path / "layer", "layer.1.")
    with pytest.raises(ModelError, match=r"16 are missing.*layer\.1\..* and 13 more"):
        load_encoder(str(tmp_path / "layer"), label_names=["a", "b"], seed=0)
    described = json.loads((tmp_path / "size" / "config.json").read_text())
    described["intermediate_size"] *= 2
    (tmp_path / "size" / "config.json").write_text(json.dumps(described))
    with pytest.raises(ModelError, match="of another size"):
        load_encoder(str(tmp_path / "size"), label_names=["a", "b"], seed=0)
    path = tmp_path / "prefix" / "model.safetensors"
    renamed = {f"module.{name}": each for name, each in load_file(path).items()}
    save_file(renamed, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="missing"):
        load_encoder(str(tmp_path / "prefix"), label_names=["a", "b"], seed=0)
    # A masked language model's checkpoint: neither pooler nor head.
    without(tmp_path / "pooler", "pooler", "classifier")
    load_encoder(str(tmp_path / "pooler"), label_names=["a", "b"], seed=0)
    with pytest.raises(ModelError, match=r"lacks bert\.pooler"):
        without(tmp_path / "heads", "pooler")
        load_model(tmp_path / "heads")
    (tmp_path / "heads" / "structure.json").write_text("{}")
    with pytest.raises(ModelError, match="rc-sweep export"):
        load_encoder(str(tmp_path / "heads"), label_names=["a", "b"], seed=0)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_a_fine_tuned_folder_s_head_is_never_kept(
    architecture: str, size: int, tmp_path: Path
) -> None:
    """Its labels may stand in another order. The new head is that of a folder without any."""
    spec, labels = f"tiny:{architecture}", ["a", "b", "c"][:size]
    tuned = load_encoder(spec, label_names=["x", "y"], seed=0)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(1.0)
    inside = f"{tuned.base_model_prefix}."
    for name in ("tuned", "headless"):
        save_model(tuned, load_tokenizer(spec), tmp_path / name)
    weights = tmp_path / "headless" / "model.safetensors"
    encoder = {name: tensor for name, tensor in load_file(weights).items() if inside in name}
    save_file(encoder, weights, metadata={"format": "pt"})

    def load(folder: str, seed: int) -> dict[str, torch.Tensor]:
        return dict(
            load_encoder(str(tmp_path / folder), label_names=labels, seed=seed).state_dict()
        )

    found, headless, other = load("tuned", 1), load("headless", 1), load("tuned", 2)
    kept = tuned.state_dict()
    for name, tensor in found.items():
        assert torch.equal(tensor, headless[name]), name
        if name.startswith(inside):
            assert torch.equal(tensor, kept[name]) and torch.equal(other[name], kept[name]), name
        elif name.endswith("weight") and tensor.ndim == 2:
            assert not torch.equal(tensor, other[name]), name


def test_what_was_pretrained_outside_the_encoder_stays(tmp_path: Path) -> None:
    """ModernBERT's `head` comes with its masked language model; the classifier is nobody's."""
    spec = "tiny:modernbert"
    model = load_encoder(spec, label_names=["x", "y"], seed=0)
    save_model(model, load_tokenizer(spec), tmp_path)
    weights = tmp_path / "model.safetensors"
    kept = {n: t for n, t in load_file(weights).items() if not n.startswith("classifier.")}
    save_file(kept, weights, metadata={"format": "pt"})
    first, second = (
        load_encoder(str(tmp_path), label_names=["a", "b"], seed=seed).state_dict()
        for seed in (1, 2)
    )
    assert not torch.equal(first["classifier.weight"], second["classifier.weight"])
    for name, tensor in kept.items():
        assert torch.equal(first[name], tensor) and torch.equal(second[name], tensor), name


# Of every family that compressions know, and of those whose positions start after padding.
@pytest.mark.parametrize("pad", [1, 3])
@pytest.mark.parametrize(
    "model_type", sorted({*KNOWN, *_POSITIONS_AFTER_PADDING} - {"modernbert", "distilbert"})
)
def test_an_encoder_runs_at_its_longest_input_and_no_further(
    model_type: str, pad: int, tmp_path: Path
) -> None:
    shape: dict[str, Any] = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 2, "intermediate_size": 24, "pad_token_id": pad}
    shape |= {"longformer": {"attention_window": 4}, "esm": {"mask_token_id": 2}}.get(
        model_type, {}
    )
    shape |= {"xmod": {"default_language": "en_XX"}}.get(model_type, {})
    config = AutoConfig.for_model(model_type, max_position_embeddings=40, **shape)
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"is not read")
    longest = model_facts(str(tmp_path)).max_positions
    model = AutoModelForSequenceClassification.from_config(config).eval()
    ids = torch.randint(5, 60, (1, 41), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert model(input_ids=ids[:, :longest]).logits.isfinite().all()
        if (model_type, pad) != ("mpnet", 3):
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=ids[:, : longest + 1])


def test_a_digest_follows_the_weights(tmp_path: Path) -> None:
    for seed in (0, 1):
        model = load_encoder("tiny:bert", label_names=["a", "b"], seed=seed)
        save_model(model, load_tokenizer("tiny:bert"), tmp_path / str(seed))
    shutil.copytree(tmp_path / "0", tmp_path / "copy")
    digests = [weights_digest(str(tmp_path / name)) for name in ("0", "1", "copy")]
    assert digests[0] == digests[2] != digests[1]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("packaged:all-MiniLM-L12", "did you mean 'all-MiniLM-L6-v2'"),
        ("tiny:bart", "did you mean 'bert'"),
        ("./no/such/folder", "no such folder"),
        ("~/nowhere", "no such folder"),
        ("two words", "a folder or a hub id"),
    ],
)
def test_a_name_that_is_no_model(spec: str, expected: str) -> None:
    with pytest.raises(ModelError, match=expected):
        model_kind(spec)


def test_a_folder_must_hold_config_and_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        model_facts(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 2, "hidden_size": 8}))
    with pytest.raises(ModelError, match="weights"):
        model_facts(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match=r"cannot be loaded|must hold complete weights"):
        load_encoder(str(tmp_path), label_names=["a", "b"], seed=0)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="transformer encoder"):
        model_facts(str(tmp_path))
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"must be a JSON object, but is \[\]"):
        model_facts(str(tmp_path))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """Yield a cache of the hub's own shape that holds `owner/name`, and its commit."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--owner--name"
    model = load_encoder("tiny:roberta", label_names=["a", "b"], seed=0)
    save_model(model, load_tokenizer("tiny:roberta"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    _hub_folder.cache_clear()
    yield repository / "snapshots", commit
    _hub_folder.cache_clear()


def test_a_hub_id_that_cannot_be_had_says_what_to_check() -> None:
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        model_facts("owner/no-such-model@main")


def test_a_hub_id_loads_from_its_snapshot(hub: tuple[Path, str]) -> None:
    """The real download call, answered by a local cache of the hub's own shape."""
    snapshots, commit = hub
    model = load_model(snapshots / commit)
    assert model_facts("owner/name").model_type == "roberta"
    loaded = load_encoder(f"owner/name@{commit}", label_names=["a", "b"], seed=0)
    for name, tensor in loaded.state_dict().items():
        if "embeddings" in name:
            assert torch.equal(tensor, model.state_dict()[name])


def test_a_tokenizer_of_a_hub_id_needs_no_weights(hub: tuple[Path, str]) -> None:
    snapshots, commit = hub
    (snapshots / commit / "model.safetensors").unlink()
    assert load_tokenizer("owner/name")("a text")["input_ids"]
    with pytest.raises(ModelError, match="weights"):
        locate("owner/name")


def test_a_hub_id_is_asked_for_once_and_stays_what_it_was(
    hub: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots, commit = hub
    asked: list[object] = []
    download = huggingface_hub.snapshot_download

    def counted(name: str, **rest: Any) -> str:
        asked.append(rest["allow_patterns"])
        return str(download(name, **rest))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", counted)
    digest = model_digest("owner/name")
    # As if the id were pushed to while a sweep runs.
    moved = commit[::-1]
    shutil.copytree(snapshots / commit, snapshots / moved)
    (snapshots / moved / "config.json").write_text("{}")
    (snapshots.parent / "refs" / "main").write_text(moved)
    for _ in range(3):
        assert model_digest("owner/name") == digest
        assert model_facts("owner/name").num_layers == TINY_LAYERS
    assert locate("owner/name") == snapshots / commit
    assert len(asked) <= 2, "once for the config alone, once for all"
