"""Exporting from a trial's folder alone. Random tiny encoders stand for trained ones."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

from rc_core.compression._heads import keep_heads
from rc_core.compression.magnitude import Compression
from rc_core.config import decode
from rc_core.errors import ModelError, StorageError
from rc_core.evaluation import predict_splits, write_predictions
from rc_core.model_facts import TINY_HEADS, TINY_LAYERS
from rc_core.models import load_encoder, load_model, load_tokenizer, save_model
from rc_core.record import TrialRecord
from rc_core.workspace import Workspace
from sweeps.cli import app
from sweeps.config import SweepConfig
from sweeps.deploy import export as exporting
from sweeps.deploy.export import ExportError, export
from sweeps.folder import SweepFolder
from sweeps.shown_values import millions
from sweeps.stored_sweep import StoredSweep

LENGTH = 24


def made(root: Path, text: list[str]) -> StoredSweep:
    """Write a sweep of one trial in `root/storage`, its data and its encoder beside it.

    Args:
        root: an empty folder.
        text: columns of the task: one, or two for pairs.
    """
    save_model(
        load_encoder("tiny:bert", label_names=("bad", "good"), seed=0),
        load_tokenizer("tiny:bert"),
        root / "encoder",
    )
    (root / "data").mkdir()
    for name in ("train", "ood"):
        rows = [
            {"evidence": f"{name} {'yes' * (i % 2)} {i}", "claim": f"{name} is {i} " * (i % 9 + 1)}
            | {"label": i % 2}
            for i in range(240 if name == "train" else 20)
        ]
        lines = [json.dumps(row) for row in rows]
        (root / "data" / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    config = SweepConfig(
        {
            "model": str(root / "encoder"),
            "task": {
                "name": "files",
                "data_dir": str(root / "data"),
                "text": text,
                "labels": {0: "bad", 1: "good"},
                "roles": {"train": "train.jsonl", "ood_dev": {"x": "ood.jsonl"}},
            },
            "training": {"max_length": LENGTH},
            "compression": {"name": "magnitude"},
            "space": {"compression.sparsity": {"uniform": [0.1, 0.9]}},
        }
    )
    folder = SweepFolder.create(root / "storage", "made", "x")
    folder.write_config(config.as_dict())
    trial = config.trial({"compression.sparsity": 0.5})
    data = Workspace(root / "storage" / "artifacts", device="cpu").data(trial)
    model = load_encoder(trial.model, label_names=("bad", "good"), seed=1)
    place, split = folder.trial("t0001"), data.task.id_dev
    save_model(model, data.tokenizer, place.model)
    predictions = predict_splits(model.eval(), data, [split])
    path = place.predictions(split.role, split.suite)
    write_predictions(path, split, predictions[split.name], data.task.label_names)
    place.commit(
        TrialRecord(
            id="t0001",
            status="finished",
            name=trial.label(),
            config=trial.as_dict(),
            fingerprint=trial.fingerprint(),
            started=0.0,
            metrics={"id_dev/accuracy": 0.9, "ood_dev/accuracy": 0.8},
            data=data.facts([data.task.train, split]),
        )
    )
    return StoredSweep(folder)


@pytest.fixture
def sweep(tmp_path: Path) -> StoredSweep:
    return made(tmp_path, ["evidence", "claim"])


def exported(sweep: StoredSweep, out: Path) -> str:
    """Export the trial and return what was said."""
    said: list[str] = []
    export(sweep, sweep.records[0], out, say=said.append)
    (line,) = said
    return line


def leave_nothing_but_the_sweep(root: Path) -> None:
    for name in ("data", "encoder"):
        shutil.rmtree(root / name)


def test_the_trials_own_texts_and_predictions_are_compared(
    sweep: StoredSweep, tmp_path: Path
) -> None:
    line = exported(sweep, tmp_path / "out")
    assert "its weights and of its recorded predictions, on the first " in line
    assert re.search(r"\d+ pairs of texts of id_dev\.files$", line)
    card = (tmp_path / "out" / "README.md").read_text()
    assert line in card and "pairs of texts, `evidence` first, then `claim`" in card


def test_a_machine_that_has_only_the_sweep_exports_it(sweep: StoredSweep, tmp_path: Path) -> None:
    leave_nothing_but_the_sweep(tmp_path)
    out = tmp_path / "out"
    arguments = ["export", str(sweep.path), "--pick", "t0001", "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    card = (out / "README.md").read_text()
    assert "with those of its weights, on 6 fixed pairs of sentences." in card
    assert "recorded predictions" not in card.split("At export")[1]
    assert "`evidence` first, then `claim`" in card
    own, tokenizer = sweep.folder.trial("t0001").model, AutoTokenizer.from_pretrained(out)
    inputs = tokenizer("evidence", "a claim", return_tensors="pt")
    with torch.no_grad():
        one, other = (
            AutoModelForSequenceClassification.from_pretrained(each)(**inputs).logits
            for each in (own, out)
        )
    assert torch.equal(one, other)


def test_single_texts_are_checked_as_single_ones(tmp_path: Path) -> None:
    sweep = made(tmp_path, ["claim"])
    leave_nothing_but_the_sweep(tmp_path)
    assert "6 fixed sentences, because" in exported(sweep, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "single texts (`claim`" in card and "evidence" not in card.split("## How it")[0]


def test_other_data_at_the_same_place_is_not_held_against_the_model(
    sweep: StoredSweep, tmp_path: Path
) -> None:
    path = tmp_path / "data" / "train.jsonl"
    path.write_text(path.read_text().replace("yes", "no"))
    line = exported(sweep, tmp_path / "out")
    assert line.endswith("id_dev.files differs here from what the trial was evaluated on")
    assert "fixed pairs" in line and "recorded" not in line


def test_a_model_that_did_not_predict_what_was_recorded_is_refused(
    sweep: StoredSweep, tmp_path: Path
) -> None:
    folder = sweep.folder.trial("t0001")
    other = load_encoder("tiny:bert", label_names=("bad", "good"), seed=2)
    save_model(other, load_tokenizer("tiny:bert"), folder.model)
    with pytest.raises(ExportError, match=r"from its recorded predictions; copy .* or take"):
        exported(sweep, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_a_stock_form_with_other_logits_is_told_without_data(
    sweep: StoredSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to_stock(self: Compression, model: Any) -> Any:
        with torch.no_grad():
            model.classifier.bias[0] += 0.001
        return model

    monkeypatch.setattr(Compression, "to_stock", to_stock)
    leave_nothing_but_the_sweep(tmp_path)
    with pytest.raises(ExportError, match=r"differs by 0\.001 from its weights"):
        exported(sweep, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_predictions_that_are_not_here_are_not_compared(sweep: StoredSweep, tmp_path: Path) -> None:
    shutil.rmtree(sweep.folder.trial("t0001").path / "predictions")
    line = exported(sweep, tmp_path / "out")
    assert "pairs of texts of id_dev" in line and "predictions" not in line


def test_a_trial_without_its_tokenizer_is_told(sweep: StoredSweep, tmp_path: Path) -> None:
    for path in sweep.folder.trial("t0001").model.glob("tokenizer*"):
        path.write_text("{")
    with pytest.raises(ModelError, match="tokenizer"):
        exported(sweep, tmp_path / "out")


@pytest.mark.parametrize("text", [["evidence", "claim"], ["claim"]])
def test_the_cards_own_lines_ask_the_model_as_it_was_trained(
    text: list[str], tmp_path: Path
) -> None:
    sweep, out = made(tmp_path, text), tmp_path / "out"
    exported(sweep, out)
    card = (out / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert f"truncation=True, max_length={LENGTH}" in code
    found: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code.replace("path/to/this/folder", str(out)), found)
    assert printed.getvalue().strip() in ("['bad']", "['good']")
    assert tuple(found["logits"].shape) == (1, 2) and not found["model"].training
    # Who leaves max_length out gets that of the training all the same.
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.model_max_length == LENGTH
    assert len(tokenizer("long " * 99, truncation=True)["input_ids"]) == LENGTH


def test_the_configuration_that_is_read_back_is_the_trials(
    sweep: StoredSweep, tmp_path: Path
) -> None:
    leave_nothing_but_the_sweep(tmp_path)
    exported(sweep, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert decode(record["config"]).fingerprint() == sweep.records[0].fingerprint


def test_it_is_said_why_fixed_sentences_had_to_do(sweep: StoredSweep, tmp_path: Path) -> None:
    leave_nothing_but_the_sweep(tmp_path)
    line = exported(sweep, tmp_path / "out")
    assert "on 6 fixed pairs of sentences, because the data of the sweep cannot be read" in line
    assert str(tmp_path / "data" / "train.jsonl") in line
    card = (tmp_path / "out" / "README.md").read_text()
    assert "train.jsonl" not in card, "a card is published: it names no folder of this machine"


@pytest.mark.parametrize("kind", [SafetensorError, Exception])
def test_a_disk_that_is_full_half_way_is_told_and_nothing_is_left(
    sweep: StoredSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """As safetensors and tokenizers say it: neither raises an OSError."""
    full = kind("Error while serializing: I/O error: No space left on device (os error 28)")

    def save(model: Any, tokenizer: Any, folder: Path, **rest: Any) -> None:
        (folder / "model.safetensors").write_bytes(b"cut")
        raise full

    monkeypatch.setattr(exporting, "save_model", save)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StorageError, match=r"out must be writable: .*No space left on device"):
        exported(sweep, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before
    full = kind("a mistake of ours")
    with pytest.raises(kind, match="a mistake of ours"):
        exported(sweep, tmp_path / "out")


def test_the_card_tells_the_size_of_the_exported_form(tmp_path: Path) -> None:
    """Removed heads are zeros there: reference, what plain transformers loads."""
    sweep = made(tmp_path, ["evidence", "claim"])
    trial = decode({**sweep.records[0].config, "compression": {"name": "heads", "remove": 0.3}})
    place = sweep.folder.trial("t0001")
    pruned = load_model(place.model)
    keep_heads(pruned, [[0, 1], *[range(TINY_HEADS)] * (TINY_LAYERS - 1)])
    tokenizer = load_tokenizer(str(place.model))
    save_model(pruned, tokenizer, place.model, compression="heads")
    shutil.rmtree(place.path / "predictions")
    small = {"footprint/parameters": 1.0, "footprint/nonzero_parameters": 1.0}
    changes = {"config": trial.as_dict(), "metrics": small, "fingerprint": trial.fingerprint()}
    place.commit(sweep.records[0].model_copy(update=changes))
    out = export(sweep, StoredSweep(sweep.folder).records[0], tmp_path / "out")
    weights = list(AutoModelForSequenceClassification.from_pretrained(out).parameters())
    total = sum(weight.numel() for weight in weights)
    nonzero = sum(int(weight.count_nonzero()) for weight in weights)
    assert nonzero < total
    line = f"- parameters: {millions(total)}, of which non-zero: {millions(nonzero)}\n"
    assert line in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("stock", "told"),
    [
        (Mock(side_effect=RuntimeError("boom")), "raised RuntimeError: boom"),
        (Mock(return_value=None), "returned None"),
    ],
)
def test_a_compression_that_cannot_export_is_told_with_its_file(
    sweep: StoredSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stock: Mock, told: str
) -> None:
    monkeypatch.setattr(Compression, "to_stock", stock)
    with pytest.raises(
        ExportError, match=rf"compression/magnitude.py: to_stock\(\) .*, but {told}"
    ):
        exported(sweep, tmp_path / "out")
    assert not (tmp_path / "out").exists()
