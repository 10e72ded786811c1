"""Writes the folder a user deploys, and checks that plain transformers loads it.

    config.json  model.safetensors  tokenizer*        what transformers reads
    trial.yaml  record.json                           how it was made, what was measured
    README.md                                         the model card

It is written next to its final place, reloaded, compared with the trial's own model, then renamed.
Everything comes from the trial's folder: neither the data nor the original encoder is needed.
"""

from __future__ import annotations

import json
import math
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rc_core import plugins
from rc_core.config import PLUGIN_PACKAGES, TrialConfig, decode
from rc_core.errors import RobustCompressionError, StorageError
from rc_core.evaluation import read_predictions
from rc_core.metrics.footprint import footprint
from rc_core.model_facts import model_facts
from rc_core.models import load_model, load_tokenizer, save_model
from rc_core.record import TrialFolder, TrialRecord
from sweeps.deploy import model_card
from sweeps.deploy.texts import CheckTexts, check_texts, text_names
from sweeps.selection.confirmed import confirmed
from sweeps.selection.confirmed_text import confirmed_json
from sweeps.selection.stamp import read_test, stamp
from sweeps.stored_sweep import StoredSweep

TOLERANCE = 1e-4
_SAMPLE = 64


class ExportError(RobustCompressionError):
    """The exported model cannot be made, or does not give the trial's logits."""


def export(
    sweep: StoredSweep,
    record: TrialRecord,
    out: Path,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write one trial's model to `out`; return `out`.

    Args:
        sweep: that has the trial.
        record: of the trial.
        out: a new or empty folder.
        say: receives a line on what the model's logits were compared with.

    Raises:
        StorageError: `out` exists, is the current folder, or cannot be written.
        ExportError: the compression's `to_stock` fails, or the reloaded model's logits differ from
            the trial's by more than 1e-4; nothing is left at `out`.
        ModelError: the trial's folder has no complete model with a tokenizer.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(f"--out must be a new or empty folder, but {out} exists")
    place = out.resolve()
    if place == Path.cwd():
        # The folder is replaced, which would leave the user's shell in a deleted one.
        raise StorageError(
            f"--out must not be the current folder, but is {out}; name a new folder in it"
        )
    config = decode(record.config)
    folder = sweep.folder.trial(record.id)
    texts = check_texts(config, record, _SAMPLE)
    # As in rc_core.workspace; the original encoder need not be here.
    length = min(config.training.max_length, model_facts(str(folder.model)).max_positions)
    # A unique name: another export to this place may be running.
    temporary = place.with_name(f".{place.name}.{uuid.uuid4().hex}.partial")
    try:
        temporary.mkdir(parents=True)
        original = load_model(folder.model)
        stock = stock_form(config, load_model(folder.model))
        tokenizer = load_tokenizer(str(folder.model))
        # The encoder's own limit is often higher or missing; longer texts were not trained on.
        tokenizer.model_max_length = length
        _save(stock, tokenizer, temporary)
        compared = _check(original, temporary, folder, texts, length)
        # The exported size: it may hold zeros where the trial's model has nothing.
        size = footprint(stock)
        _write_papers(sweep, record, config, temporary, texts, length, compared, size)
        for path in temporary.iterdir():
            # safetensors makes files readable by their owner only; a server is often another user.
            path.chmod(0o644)
        if place.exists():
            place.rmdir()
        temporary.replace(place)
    except OSError as error:
        raise StorageError(f"{out} must be writable: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    say(compared + (f", because {texts.why}" if texts.why else ""))
    return out


def _save(model: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Write a model with `save_model`; its libraries' file errors are raised as OSError."""
    try:
        save_model(model, tokenizer, folder)
    # safetensors and tokenizers raise errors of their own, say for a full disk.
    except Exception as error:
        if isinstance(error, OSError) or "(os error " not in str(error):
            raise
        raise OSError(str(error)) from error


def stock_form(config: TrialConfig, model: nn.Module) -> nn.Module:
    """Return a trial's model in the form its compression exports; `model` may be changed.

    Raises:
        ExportError: `to_stock` fails, or returns no module.
    """
    plugin = plugins.load(PLUGIN_PACKAGES["compression"], config.compression.name)
    try:
        found = plugin.Compression(config.compression).to_stock(model)
    except RobustCompressionError:
        raise
    # Whatever a user's plugin raises, the message names its file.
    except Exception as error:
        got = f"raised {type(error).__name__}: {error}"
    else:
        if isinstance(found, nn.Module):
            return found
        got = f"returned {found!r}"
    file = f"{plugin.__name__.replace('.', '/')}.py"
    raise ExportError(
        f"{file}: to_stock() must return a model that plain transformers loads, but {got}"
    )


def stock_note(config: TrialConfig) -> str:
    """Return the compression's note on its exported form; may be empty."""
    plugin = plugins.load(PLUGIN_PACKAGES["compression"], config.compression.name)
    note: str = getattr(plugin.Compression(config.compression), "stock_note", str)()
    return note


def floor_note(sweep: StoredSweep, record: TrialRecord) -> str:
    """Return where a trial is no better than a trivial baseline; empty if nowhere."""
    return model_card.floor_note(record, next((r for r in sweep.records if r.reference), None))


def seal_note(sweep: StoredSweep, record: TrialRecord) -> str:
    """Return why a trial's test figures may be biased; empty if they are not, or none exist."""
    return model_card.seal_note(record.id, read_test(sweep) or {})


def _check(
    original: nn.Module, exported: Path, folder: TrialFolder, texts: CheckTexts, length: int
) -> str:
    """Reload the folder as a user would and compare its logits; return a sentence that says so."""
    model = AutoModelForSequenceClassification.from_pretrained(exported)
    tokenizer = AutoTokenizer.from_pretrained(exported)
    inputs = tokenizer(
        *texts.columns, padding=True, truncation=True, max_length=length, return_tensors="pt"
    )
    expected, found = _logits(original, inputs), _logits(model, inputs)
    worst = {"its weights": float((expected - found).abs().max())}
    path = None if texts.suite is None else folder.predictions("id_dev", texts.suite)
    if path is not None and path.is_file():
        # The record's accuracies were computed from the stored predictions.
        stored = torch.from_numpy(read_predictions(path)[: len(found)])
        worst["its recorded predictions"] = float((found.log_softmax(dim=-1) - stored).abs().max())
    if not all(math.isfinite(each) and each <= TOLERANCE for each in worst.values()):
        far = " and ".join(f"{each:.2g} from {what}" for what, each in worst.items())
        raise ExportError(
            f"the exported model must give the trial's logits within {TOLERANCE:g}, but differs by "
            f"{far}; copy the trial's model/ and predictions/ again from where it was trained, or "
            "take another trial"
        )
    names = [model.config.id2label[i] for i in range(model.config.num_labels)]
    if texts.label_names is not None and names != list(texts.label_names):
        raise ExportError(
            f"id2label must be the task's {list(texts.label_names)}, but is {names}; take a trial "
            "of this task"
        )
    return (
        f"reloaded, its logits were compared with those of {' and of '.join(worst)}, on "
        f"{texts.told}"
    )


@torch.no_grad()
def _logits(model: nn.Module, inputs: Any) -> Tensor:
    logits: Tensor = model.eval()(**inputs).logits
    return logits.float()


def _write_papers(
    sweep: StoredSweep,
    record: TrialRecord,
    config: TrialConfig,
    folder: Path,
    texts: CheckTexts,
    length: int,
    compared: str,
    size: Mapping[str, float],
) -> None:
    """Write trial.yaml, record.json and the model card."""
    values = OmegaConf.create(config.as_dict())
    (folder / "trial.yaml").write_text(OmegaConf.to_yaml(values), encoding="utf-8")
    content = json.loads(record.model_dump_json())
    (folder / "record.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    found = confirmed(sweep)
    rows = confirmed_json(found)["rows"] if found is not None else []
    reference = next((r for r in sweep.records if r.reference), None)
    card = model_card.model_card(
        sweep.name,
        record,
        reference,
        read_test(sweep) or {},
        note=stock_note(config),
        texts=text_names(config.task.as_dict(), len(texts.columns) if texts.suite else None),
        length=length,
        compared=compared,
        seeds=next((row for row in rows if row["id"] == record.id), None),
        seal=stamp(sweep, found),
        size=size,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
