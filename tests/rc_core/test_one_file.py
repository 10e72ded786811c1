"""Compressions of other kinds than ours, each one file: trained, resumed, reloaded, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from rc_core import plugins
from rc_core.compression._layers import blocks
from rc_core.compression._masks import sparsity
from rc_core.config import PLUGIN_PACKAGES, TrialConfig, decode
from rc_core.errors import ModelError
from rc_core.evaluation import read_predictions
from rc_core.models import load_encoder, load_model, load_tokenizer, save_model
from rc_core.record import TrialFolder
from rc_core.trial import run_trial, trial_steps
from rc_core.workspace import Workspace
from tests.contracts import test_compressions as contract
from tests.rc_core._plugins import WrittenPlugins, written
from tests.rc_core._trials import tiny_trial

__all__ = ["written"]

PACKAGE = PLUGIN_PACKAGES["compression"]
SECTION: dict[str, Any] = tiny_trial(
    train_size=100,
    held_out=60,
    epochs=2,
    rungs=2,
    compression={"name": "mine"},
)

# Weights go that training moves towards zero (Sanh et al. 2020): it needs gradients.
MOVEMENT = '''"""Movement pruning."""

import torch
from torch import nn

from rc_core.compression._layers import blocks
from rc_core.compression._masks import measure
from rc_core.config import CompressionConfig


class Config(CompressionConfig):
    """How much goes, and when."""

    sparsity: float = 0.5
    ramp: float = 0.75


def problems(config, facts):
    return []


def layers(model):
    return [each for each in blocks(model).modules() if isinstance(each, nn.Linear)]


class Compression:
    """Removes the weights of every layer with the least -sum(gradient * weight)."""

    recordable = True

    def __init__(self, config):
        self.config = config

    def prepare(self, model, context):
        for layer in layers(model):
            layer.register_buffer("movement", torch.zeros_like(layer.weight))
        return model

    @torch.no_grad()
    def after_backward(self, model):
        for layer in layers(model):
            layer.movement -= layer.weight.grad * layer.weight

    @torch.no_grad()
    def after_step(self, model, progress):
        if progress >= self.config.ramp:
            for layer in layers(model):
                count = round(self.config.sparsity * layer.weight.numel())
                gone = layer.movement.flatten().topk(count, largest=False).indices
                layer.movement.view(-1)[gone] = -torch.inf
                layer.weight.view(-1)[gone] = 0.0

    def finalize(self, model):
        self.moved = max(float(layer.movement.max()) for layer in layers(model))
        for layer in layers(model):
            del layer.movement
        return model

    def to_stock(self, model):
        return model

    def report(self, model):
        asked = {"sparsity": self.config.sparsity}
        return {"asked": asked, "measured": measure(model), "moved": self.moved}
'''

# Feed-forward layers as products of two thin ones: no config of transformers describes that.
LOW_RANK = '''"""Low-rank feed-forward layers."""

import torch
from torch import nn

from rc_core.compression._base import ParameterGroup
from rc_core.compression._layers import blocks
from rc_core.compression._masks import measure
from rc_core.config import CompressionConfig


class Config(CompressionConfig):
    """How thin."""

    rank: int = 4


def problems(config, facts):
    return []


class LowRank(nn.Module):
    """Two thin layers instead of one."""

    def __init__(self, num_inputs, num_outputs, rank):
        super().__init__()
        self.first = nn.Linear(num_inputs, rank, bias=False)
        self.second = nn.Linear(rank, num_outputs)

    def forward(self, hidden):
        return self.second(self.first(hidden))


def factors(model):
    return [each for each in model.modules() if isinstance(each, LowRank)]


def structure(model):
    return {"rank": factors(model)[0].first.out_features}


def restore(model, structure):
    for block in blocks(model):
        dense = block.intermediate.dense
        block.intermediate.dense = LowRank(dense.in_features, dense.out_features, structure["rank"])
    return model


class Compression:
    """Factorises by the largest singular values."""

    recordable = True

    def __init__(self, config):
        self.config = config

    @torch.no_grad()
    def prepare(self, model, context):
        dense = [block.intermediate.dense for block in blocks(model)]
        restore(model, {"rank": self.config.rank})
        for layer, low in zip(dense, factors(model), strict=True):
            left, values, right = torch.linalg.svd(layer.weight, full_matrices=False)
            rank = self.config.rank
            low.second.weight.copy_(left[:, :rank] * values[:rank])
            low.second.bias.copy_(layer.bias)
            low.first.weight.copy_(right[:rank])
        return model

    def parameter_groups(self, model):
        own = [each for low in factors(model) for each in low.parameters()]
        return [ParameterGroup(own, learning_rate=0.0)]

    def after_step(self, model, progress):
        pass

    def finalize(self, model):
        return model

    @torch.no_grad()
    def to_stock(self, model):
        for block in blocks(model):
            low = block.intermediate.dense
            dense = nn.Linear(low.first.in_features, low.second.out_features)
            dense.weight.copy_(low.second.weight @ low.first.weight)
            dense.bias.copy_(low.second.bias)
            block.intermediate.dense = dense
        return model

    def report(self, model):
        rank = float(structure(model)["rank"])
        measured = {**measure(model), "rank": rank}
        return {"asked": {"rank": float(self.config.rank)}, "measured": measured}
'''


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("artifacts"))


def config(**changes: Any) -> TrialConfig:
    return decode({**SECTION, **changes})


def log_probs(model: nn.Module, workspace: Workspace) -> Tensor:
    """Return what a model says of id_dev, asked without any of this project's loops."""
    data = workspace.data(config())
    tokens = data.encoded(data.task.id_dev)
    with torch.no_grad():
        rows = torch.arange(len(data.task.id_dev)).numpy()
        return model.eval()(**tokens.collate(rows)).logits.log_softmax(-1)


def check_folder(folder: TrialFolder, workspace: Workspace, tmp_path: Path) -> None:
    """Compare the stored predictions with the reloaded model's, and with its stock form's."""
    suite = workspace.data(config()).task.id_dev.suite
    expected = torch.from_numpy(read_predictions(folder.predictions("id_dev", suite)))
    own = log_probs(load_model(folder.model), workspace)
    torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5)
    compression = plugins.load(PACKAGE, "mine").Compression(config().compression)
    stock = compression.to_stock(load_model(folder.model))
    save_model(stock, load_tokenizer("tiny:bert"), tmp_path / "stock")
    assert not (tmp_path / "stock" / "structure.json").exists()
    found = AutoModelForSequenceClassification.from_pretrained(tmp_path / "stock")
    torch.testing.assert_close(log_probs(found, workspace), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("text", [MOVEMENT, LOW_RANK], ids=["movement", "low_rank"])
def test_they_hold_the_contract_of_every_compression(
    written: WrittenPlugins, tmp_path: Path, text: str
) -> None:
    written.write(PACKAGE, text)
    contract.test_finished_model_is_stock_and_as_asked("mine", "bert", tmp_path)
    for cut in (3, 6):
        contract.test_resumed_run_ends_as_an_uninterrupted_one("mine", "bert", cut)
    contract.test_the_structure_stays_once_it_is_settled("mine", "bert")
    contract.test_unsupported_encoder_is_refused_before_training("mine")
    contract.test_what_it_may_have_besides_is_called_as_the_contract_says("mine")


def test_a_mask_that_is_forgotten_once_it_is_settled_is_told(written: WrittenPlugins) -> None:
    """Where a stop comes before the mask is made there is nothing to forget."""
    text = MOVEMENT.replace(
        "        if progress >= self.config.ramp:\n",
        "        if progress >= self.config.ramp and not hasattr(self, 'settled'):\n"
        "            self.settled = True\n"
        "            for layer in layers(model):\n"
        "                layer.movement.copy_(layer.weight)\n"
        "        if progress >= self.config.ramp:\n",
    )
    assert text != MOVEMENT
    written.write(PACKAGE, text)
    contract.test_resumed_run_ends_as_an_uninterrupted_one("mine", "bert", 3)
    with pytest.raises(AssertionError, match="a resumed run must end as an uninterrupted one"):
        contract.test_resumed_run_ends_as_an_uninterrupted_one("mine", "bert", 6)


def test_movement_pruning_reads_gradients_and_survives_a_stop(
    written: WrittenPlugins, workspace: Workspace, tmp_path: Path
) -> None:
    written.write(PACKAGE, MOVEMENT)
    whole = TrialFolder(tmp_path / "whole")
    record = run_trial(config(), workspace, whole, trial_id="t")
    assert record.compression["measured"]["sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert record.compression["moved"] > 0
    check_folder(whole, workspace, tmp_path)
    cut = TrialFolder(tmp_path / "cut")
    steps = trial_steps(config(), workspace, cut, trial_id="t")
    next(steps)
    steps.close()
    resumed = run_trial(config(), workspace, cut, trial_id="t")
    assert resumed.compression["moved"] == pytest.approx(record.compression["moved"], rel=1e-3)
    models = [load_model(folder.model) for folder in (whole, cut)]
    zeros = [[weight == 0 for weight in blocks(model).parameters()] for model in models]
    same = [float((a == b).float().mean()) for a, b in zip(*zeros, strict=True)]
    assert min(same) > 0.99 and sparsity(models[1]) == pytest.approx(0.5, abs=1e-3)


def test_a_low_rank_model_is_trained_reloaded_and_exported(
    written: WrittenPlugins, workspace: Workspace, tmp_path: Path
) -> None:
    written.write(PACKAGE, LOW_RANK)
    folder = TrialFolder(tmp_path / "t")
    steps = trial_steps(config(), workspace, folder, trial_id="t")
    next(steps)
    steps.close()
    record = run_trial(config(), workspace, folder, trial_id="t")
    assert record.status == "finished" and record.compression["measured"]["rank"] == 4
    # A layer from 32 to 64 and its bias, four times.
    dense, thin = 32 * 64, 4 * (32 + 64)
    reference = run_trial(
        config(compression={"name": "dense"}), workspace, TrialFolder(tmp_path / "d"), trial_id="d"
    )
    parameters = [each.metrics["footprint/parameters"] for each in (reference, record)]
    assert parameters[0] - parameters[1] == 4 * (dense - thin)
    check_folder(folder, workspace, tmp_path)
    # Its rate of its own is zero: the factors are those that it began with.
    module, model = plugins.load(PACKAGE, "mine"), load_model(folder.model)
    trained = torch.stack([low.first.weight for low in module.factors(model)])
    torch.testing.assert_close(trained @ trained.mT, torch.eye(4).expand(4, 4, 4))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"structure": {"depth": 4}}, "mine.py gave it: 'rank'"),
        ({"structure": {"rank": 5}}, "size mismatch"),
        ({"compression": "nobodys"}, "unknown compression 'nobodys'"),
    ],
)
def test_a_structure_that_cannot_be_restored_is_told_with_its_folder(
    written: WrittenPlugins, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    written.write(PACKAGE, LOW_RANK)
    model = plugins.load(PACKAGE, "mine").restore(tiny(), {"rank": 4})
    save_model(model, load_tokenizer("tiny:bert"), tmp_path / "m", compression="mine")
    manifest = tmp_path / "m" / "structure.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
    with pytest.raises(ModelError, match=told) as caught:
        load_model(tmp_path / "m")
    assert str(tmp_path / "m") in str(caught.value)


def test_a_structure_must_be_json(written: WrittenPlugins, tmp_path: Path) -> None:
    text = LOW_RANK.replace("factors(model)[0].first.out_features", "model")
    assert text != LOW_RANK
    written.write(PACKAGE, text)
    with pytest.raises(ModelError, match=r"mine.py: structure\(\) must return plain JSON"):
        save_model(tiny(), load_tokenizer("tiny:bert"), tmp_path / "m", compression="mine")


def tiny() -> nn.Module:
    return load_encoder("tiny:bert", label_names=("a", "b"), seed=0)
