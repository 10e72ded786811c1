"""Recorded steps on a GPU: the same training as step by step, and what happens where they fail."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rc_core import cuda_steps, plugins
from rc_core.compression import sensitivity
from rc_core.config import PLUGIN_PACKAGES, TrainingConfig, TrialConfig, decode
from rc_core.losses.vanilla import Config, Loss
from rc_core.models import load_encoder, load_model
from rc_core.record import TrialFolder
from rc_core.schema import validate_section
from rc_core.training import fit, num_steps, predict, rung_steps
from rc_core.trial import run_trial, trial_steps
from rc_core.workspace import Workspace
from tests.contracts._tiny import tiny_context
from tests.rc_core._data import LABELS, encoded

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda")
ENCODERS = ("tiny:bert", "tiny:roberta", "tiny:distilbert", "tiny:electra", "tiny:modernbert")


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Return a list that grows with every replayed step; a failed recording fails the test."""
    found: list[int] = []
    whole = torch.cuda.CUDAGraph.replay

    def counting(self: Any) -> None:
        whole(self)
        found.append(1)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counting)
    monkeypatch.setattr(cuda_steps._logger, "warning", lambda *said: pytest.fail(str(said)))
    yield found


def vanilla() -> Loss:
    return Loss(Config(name="vanilla"))


def settings(**changes: Any) -> TrainingConfig:
    values: dict[str, Any] = {"epochs": 6, "batch_size": 16, "learning_rate": 3e-3, "rungs": 2}
    return TrainingConfig(**(values | changes))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().cpu() for p in model.parameters()])


def without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def trained(
    encoder: str = "tiny:bert", *, precision: str = "fp32", dropout: bool = True, **options: Any
) -> nn.Module:
    model = load_encoder(encoder, label_names=LABELS, seed=0).to(GPU)
    if not dropout:
        without_dropout(model)
    data = encoded(84, 0, encoder)
    list(
        fit(model, data, options.pop("loss", vanilla()), settings(), precision=precision, **options)
    )
    return model


@pytest.mark.parametrize("encoder", ENCODERS)
def test_replayed_steps_train_the_same_model(encoder: str, replays: list[int]) -> None:
    """Dropout included: a replay draws what the step would have drawn."""
    plain = weights(trained(encoder))
    assert not replays
    recorded = weights(trained(encoder, recordable=True))
    assert len(replays) > 20
    start = weights(load_encoder(encoder, label_names=LABELS, seed=0))
    moved = float((plain - start).norm())
    assert float((recorded - plain).norm()) < 0.05 * moved, moved
    assert not torch.equal(plain, start)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_so_they_do_in_bf16(encoder: str, replays: list[int]) -> None:
    """Without dropout: where nothing is padded, a step that is not recorded takes another attention
    kernel in bf16, which draws other random numbers."""
    plain = trained(encoder, precision="bf16", dropout=False)
    recorded = trained(encoder, precision="bf16", dropout=False, recordable=True)
    assert len(replays) > 20
    data = encoded(84, 0, encoder)
    # Rounding differs, and Adam makes much of it: what they answer is compared.
    gap = np.abs(np.exp(predict(plain, data)) - np.exp(predict(recorded, data)))
    assert float(gap.mean()) < 0.1


def test_every_loss_that_says_so_can_be_recorded(replays: list[int]) -> None:
    from tests.contracts._given import context
    from tests.contracts.test_losses import NAMES, build

    says_so = [name for name in NAMES if vars(type(build(name))).get("recordable", False)]
    assert {"vanilla", "distil", "rmc"} <= set(says_so)
    for name in says_so:
        loss = build(name)
        given = dataclasses.replace(
            context(), labels=torch.from_numpy(encoded(84, 0).labels), **_for_84()
        )
        rows = loss.rows(given)
        before = len(replays)
        recorded = trained(loss=loss, rows=rows, recordable=True)
        assert len(replays) > before, name
        plain = trained(loss=loss, rows=rows)
        moved = float((weights(plain) - weights(trained())).norm())
        assert float((weights(recorded) - weights(plain)).norm()) < 0.05 * max(moved, 1.0), name


def _for_84() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    log_probs = [torch.randn(84, 2, generator=generator).log_softmax(-1) for _ in range(3)]
    names = ("teacher_log_probs", "expert_log_probs", "first_stage_log_probs")
    return {
        **dict(zip(names, log_probs, strict=True)),
        "difficulty": torch.rand(84, generator=generator).double(),
    }


@pytest.mark.parametrize(
    "name",
    [
        "dense",
        "magnitude",
        "sensitivity",
        "movement",
        "semistructured",
        "student",
        "heads",
        "ffn",
        "quantized",
    ],
)
def test_every_compression_is_finished_by_recorded_steps(name: str, replays: list[int]) -> None:
    sections: dict[str, Any] = {
        "magnitude": {"sparsity": 0.6},
        "movement": {"sparsity": 0.6},
        "sensitivity": {"sparsity": 0.6},
        "student": {"num_layers": 2},
        "heads": {"remove": 0.25},
        "ffn": {"remove": 0.25},
    }
    module = plugins.load(PLUGIN_PACKAGES["compression"], name)
    config = validate_section(module.Config, {"name": name, **sections.get(name, {})})
    compression = module.Compression(config)
    assert compression.recordable
    model = load_encoder("tiny:bert", label_names=LABELS, seed=0).to(GPU)
    data = encoded(84, 0)
    from rc_core.training import batches

    context = dataclasses.replace(
        tiny_context(),
        device=GPU,
        batches=lambda: batches(data, settings(), GPU),
        teacher=lambda: load_encoder("tiny:bert", label_names=LABELS, seed=0),
    )
    model = compression.prepare(model, context)
    for _ in fit(
        model,
        data,
        vanilla(),
        settings(),
        precision="fp32",
        after_step=lambda progress: compression.after_step(model, progress),
        groups=getattr(compression, "parameter_groups", lambda model: [])(model),
        recordable=True,
    ):
        pass
    assert replays
    finished = compression.finalize(model)
    if name in ("magnitude", "movement", "sensitivity"):
        assert compression.report(finished)["measured"]["sparsity"] == pytest.approx(0.6, abs=1e-3)
    assert np.isfinite(predict(finished, data)).all()


def test_hooks_on_gradients_are_replayed(replays: list[int]) -> None:
    """Half-way, with nothing pruned yet, the means are those of all steps that were trained."""
    found = []
    for record in (False, True):
        model = without_dropout(load_encoder("tiny:bert", label_names=LABELS, seed=0)).to(GPU)
        given = sensitivity.Config(name="sensitivity", ramp=1.0, num_prunings=1)
        compression = sensitivity.Compression(given)
        model = compression.prepare(model, tiny_context())
        points = fit(
            model,
            encoded(84, 0),
            vanilla(),
            settings(learning_rate=1e-4),
            precision="fp32",
            after_step=partial(compression.after_step, model),
            recordable=record,
        )
        assert next(points).progress == 0.5
        kept = [b.flatten() for name, b in model.named_buffers() if "rc_importance" in name]
        found.append(torch.cat(kept).cpu())
    assert replays
    assert float((found[1] - found[0]).norm()) < 0.05 * float(found[0].norm())


class Counting:
    """A loss that reads a value in Python, which nothing can record."""

    needs: frozenset[Any] = frozenset()
    recordable = True

    def rows(self, context: object) -> dict[str, Tensor]:
        return {}

    def __call__(self, logits: Tensor, labels: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        value = nn.functional.cross_entropy(logits, labels)
        return value * (1.0 if float(value.detach()) > 0 else 2.0)


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        found = trained(loss=Counting(), recordable=True)
    assert [r.message for r in caplog.records if "not recorded" in r.message]
    expected = trained()
    assert float((weights(found) - weights(expected)).norm()) < 0.5
    # What the failed recording left behind must not keep later ones from working.
    assert np.isfinite(predict(trained(recordable=True), encoded(84, 0))).all()


def test_a_training_gives_back_memory_that_nothing_uses() -> None:
    gibibyte = 1 << 30
    torch.cuda.empty_cache()
    spare = torch.empty(gibibyte, dtype=torch.uint8, device=GPU)
    del spare
    assert torch.cuda.memory_reserved() >= gibibyte
    trained(recordable=True)
    assert torch.cuda.memory_reserved() < gibibyte


def test_without_dropout_the_gpu_trains_what_the_cpu_trains() -> None:
    def fresh() -> nn.Module:
        return without_dropout(load_encoder("tiny:bert", label_names=LABELS, seed=0))

    data, found = encoded(84, 0), {}
    for device in ("cpu", "cuda"):
        model = fresh().to(device)
        list(fit(model, data, vanilla(), settings(epochs=2), precision="fp32", recordable=True))
        found[device] = weights(model)
    start = weights(fresh())
    moved = float((found["cpu"] - start).norm())
    assert float((found["cuda"] - found["cpu"]).norm()) < 0.05 * moved


CONFIG: dict[str, Any] = {
    "model": "tiny:bert",
    "task": {"name": "shortcut_nli", "train_size": 240, "dev_size": 120, "test_size": 120},
    "training": {"epochs": 2, "batch_size": 16, "precision": "bf16", "rungs": 3},
    "compression": {"name": "magnitude", "sparsity": 0.5},
    "loss": {"name": "rmc"},
}


def config(**changes: Any) -> TrialConfig:
    return decode(CONFIG | changes)


def test_a_trial_stopped_at_a_rung_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    """In fp32, where replays draw what steps draw: the two differ by rounding alone."""
    fast = CONFIG["training"] | {"precision": "fp32", "learning_rate": 3e-3}
    asked = config(training=fast)
    workspace = Workspace(tmp_path / "artifacts")
    assert workspace.device.type == "cuda"
    whole = run_trial(asked, workspace, TrialFolder(tmp_path / "whole"), trial_id="t0001")
    cut = TrialFolder(tmp_path / "cut")
    steps = trial_steps(asked, workspace, cut, trial_id="t0001")
    next(steps)
    steps.close()
    at_rung = load_file(cut.checkpoint / "weights.safetensors")
    forgetful = TrialFolder(shutil.copytree(cut.path, tmp_path / "forgetful"))
    state = torch.load(forgetful.checkpoint / "optimizer.pt", weights_only=True)
    torch.manual_seed(99)
    state["random"] = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state()}
    torch.save(state, forgetful.checkpoint / "optimizer.pt")
    resumed = run_trial(asked, workspace, cut, trial_id="t0001")
    assert len(resumed.rungs) == len(whole.rungs) == 2
    run_trial(asked, workspace, forgetful, trial_id="t0001")

    def found(name: str) -> Tensor:
        return weights(load_model(tmp_path / name / "model"))

    start = torch.cat([at_rung[name].flatten().cpu() for name, _ in load_model(
        tmp_path / "whole" / "model").named_parameters()])  # fmt: skip
    moved = float((found("whole") - start).norm())
    assert float((found("cut") - found("whole")).norm()) < 0.1 * moved
    # With other random numbers it is another training: the bound above tells them apart.
    assert float((found("forgetful") - found("whole")).norm()) > 0.1 * moved


@pytest.mark.parametrize("name", ["hidden", "rdrop"])
def test_what_runs_the_model_trains_there_step_by_step(
    name: str, tmp_path: Path, replays: list[int]
) -> None:
    workspace, found = Workspace(tmp_path / "artifacts"), []
    # The second, of the same seed: what is built for all of them is there, and was replayed.
    for trial in ("a", "b"):
        replays.clear()
        folder = TrialFolder(tmp_path / trial)
        assert run_trial(config(loss={"name": name}), workspace, folder, trial_id="t").metrics
        found.append(weights(load_model(folder.model)))
    assert not replays
    start = weights(load_encoder("tiny:bert", label_names=LABELS, seed=0))
    assert float((found[1] - found[0]).norm()) < 0.1 * float((found[0] - start).norm())


def test_training_begun_on_a_gpu_goes_on_on_a_cpu_and_back(tmp_path: Path) -> None:
    """What a checkpoint holds is of no device."""
    data = encoded(84, 0, "tiny:bert")
    model = load_encoder("tiny:bert", label_names=LABELS, seed=0)
    total = num_steps(84, settings(rungs=3))
    state, ends = None, []
    for device in ("cuda", "cpu", "cuda"):
        model.to(device)
        points = fit(
            model,
            data,
            vanilla(),
            settings(rungs=3),
            precision="bf16",
            resume=state,
            recordable=True,
        )
        point = next(points)
        ends.append(point.step)
        torch.save(point.state(), tmp_path / "state.pt")
        points.close()
        state = torch.load(tmp_path / "state.pt", weights_only=True, map_location="cpu")
    assert ends == rung_steps(total, 3)


def test_another_device_has_a_teacher_of_its_own_so_a_trial_begins_anew(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trial")
    seen = []
    for device in ("cuda", "cpu"):
        workspace = Workspace(tmp_path / "artifacts", device=device)
        steps = trial_steps(config(), workspace, folder, trial_id="t0001")
        seen.append(next(steps).step)
        steps.close()
    assert seen[0] == seen[1]


def test_a_trial_over_its_share_of_memory_fails_alone(tmp_path: Path) -> None:
    """The cap that a sweep sets on each of several trials on one GPU."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.02)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(int(0.03 * total), dtype=torch.uint8, device=GPU)
        workspace = Workspace(tmp_path / "artifacts")
        folder = TrialFolder(tmp_path / "trial")
        assert run_trial(config(), workspace, folder, trial_id="t0001").status == "finished"
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
