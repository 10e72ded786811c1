"""What a process keeps between trials: models handed out as copies, digests hashed once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rc_core import workspace as module
from rc_core.config import decode
from rc_core.data._task import Split, Task
from rc_core.models import load_encoder, load_tokenizer, save_model
from rc_core.teacher import teacher_key
from rc_core.workspace import RUNG_SAMPLES, TaskData, Workspace, model_digest
from tests.rc_core._data import LABELS, split


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_each_encoder_is_a_copy_of_its_own_and_of_its_own_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[int] = []

    def counted(spec: str, **rest: Any) -> nn.Module:
        loads.append(rest["seed"])
        return load_encoder(spec, **rest)

    monkeypatch.setattr(module, "load_encoder", counted)
    space = Workspace(tmp_path)

    def encoder(seed: int) -> nn.Module:
        return space.encoder("tiny:bert", label_names=LABELS, seed=seed)

    first = encoder(0)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    expected = weights(load_encoder("tiny:bert", label_names=LABELS, seed=0))
    assert torch.equal(weights(encoder(0)), expected) and loads == [0]
    assert not torch.equal(weights(encoder(1)), expected)
    assert torch.equal(weights(encoder(0)), expected)
    assert loads == [0, 1, 0], "only the last one is kept"


def test_a_stored_model_is_read_once_and_copied(tmp_path: Path) -> None:
    model = load_encoder("tiny:bert", label_names=LABELS, seed=3)
    save_model(model, load_tokenizer("tiny:bert"), tmp_path / "model")
    space = Workspace(tmp_path)
    first: Any = space.stored_model(tmp_path / "model")
    first.classifier.weight.data.zero_()
    again = space.stored_model(tmp_path / "model")
    assert torch.equal(weights(again), weights(model))
    assert not again.training


@pytest.mark.parametrize(("asked", "kept"), [(64, 64), (512, 128)])
def test_a_record_says_how_many_tokens_were_kept(asked: int, kept: int, tmp_path: Path) -> None:
    values = {"model": "tiny:bert", "training": {"max_length": asked}}
    data = Workspace(tmp_path).data(decode(values))
    facts = data.facts([data.task.id_dev])
    assert (facts["max_length"], facts["positions"]) == (kept, 128)


def test_digests_are_the_tasks_and_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"train_size": 100, "dev_size": 60, "test_size": 60}
    config = decode({"model": "tiny:bert", "task": {"name": "shortcut_nli", **sizes}})
    data = Workspace(tmp_path).data(config)
    whole, train = data.task.digest(), data.task.train.digest()
    hashed: list[str] = []
    digest = Split.digest

    def counted(self: Split) -> str:
        hashed.append(self.name)
        return digest(self)

    monkeypatch.setattr(Split, "digest", counted)
    for _ in range(2):
        assert data.digest() == whole
        assert data.digest(data.task.train) == train
    assert len(hashed) == len(set(hashed)) + 1, "train: once for the task, once by itself"


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("config.json", "hidden_dropout_prob", 0.3),
        ("tokenizer.json", "truncation", None),
        ("tokenizer_config.json", "model_max_length", 64),
    ],
)
def test_equal_weights_with_another_config_or_tokenizer_are_another_model(
    tmp_path: Path, file: str, key: str, value: object
) -> None:
    folder = tmp_path / "model"
    tokenizer = load_tokenizer("tiny:bert")
    save_model(load_encoder("tiny:bert", label_names=LABELS, seed=0), tokenizer, folder)
    sizes = {"train_size": 100, "dev_size": 60, "test_size": 60}
    config = decode(
        {
            "model": str(folder),
            "task": {"name": "shortcut_nli", **sizes},
            "training": {"precision": "fp32"},
        }
    )
    space = Workspace(tmp_path / "artifacts")
    digest, teacher = model_digest(str(folder)), teacher_key(config, space).key
    space.encoder(str(folder), label_names=LABELS, seed=0)
    (folder / "README.md").write_text("says nothing of the model")
    assert model_digest(str(folder)) == digest
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | {key: value}))
    assert model_digest(str(folder)) != digest
    assert teacher_key(config, space).key != teacher
    if file == "config.json":
        again = space.encoder(str(folder), label_names=LABELS, seed=0)
        assert again.config.hidden_dropout_prob == value, "not the one kept from before"


def test_a_sample_is_of_the_headline(tmp_path: Path) -> None:
    whole = split(600, 0, role="ood_dev")
    assert len(data_of(whole).sample(whole)) == RUNG_SAMPLES
    part = replace(whole, slices={"seen": ["no", *["yes"] * 9] * 60}, headline=("seen", "no"))
    assert data_of(part).sample(part).slices["seen"] == ["no"] * 60


def data_of(suite: Split) -> TaskData:
    return TaskData(Task("words", LABELS, (suite,)), load_tokenizer("tiny:bert"), 64)
