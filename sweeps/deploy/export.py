"""The folder a user deploys: plain transformers loads it, and it was checked that it does.

    config.json  model.safetensors  tokenizer*        what transformers reads
    trial.yaml  record.json                           how it was made, what was measured
    README.md                                         the model card

It is written beside its place, reloaded, compared with the trial's own model, then renamed.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rc_core import plugins
from rc_core.assembly import compressed_data
from rc_core.config import PLUGIN_PACKAGES, TrialConfig, decode
from rc_core.data._task import Split
from rc_core.errors import RobustCompressionError, StorageError
from rc_core.evaluation import read_predictions
from rc_core.models import load_model, load_tokenizer, save_model
from rc_core.record import TrialRecord
from rc_core.workspace import TaskData, Workspace
from sweeps.deploy import model_card
from sweeps.selection.confirmed import confirmed
from sweeps.selection.confirmed_text import confirmed_json
from sweeps.selection.stamp import read_test, stamp, stamp_lines
from sweeps.sweep import Sweep

TOLERANCE = 1e-4
_SAMPLE = 64


class ExportError(RobustCompressionError):
    """The exported model does not give the trial's logits."""


def export(sweep: Sweep, record: TrialRecord, out: Path) -> Path:
    """Write one trial's model to `out` and return it.

    Raises:
        StorageError: `out` exists, or is the current folder.
        ExportError: the reloaded model's logits differ from the trial's by more than 1e-4; nothing
            is left at `out`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(f"--out must be a new or empty folder, but {out} exists")
    place = out.resolve()
    if place == Path.cwd():
        # It is renamed into its place, which would leave the user's shell in a folder that is gone.
        raise StorageError(
            f"--out must be another folder than the current one, but is {out}; name a new one in it"
        )
    config = decode(record.config)
    folder = sweep.folder.trial(record.id)
    workspace = Workspace(sweep.folder.artifacts, device="cpu")
    data = compressed_data(config, workspace)
    temporary = place.with_name(f".{place.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        original = load_model(folder.model)
        plugin = plugins.load(PLUGIN_PACKAGES["compression"], config.compression.name)
        stock = plugin.Compression(config.compression).to_stock(load_model(folder.model))
        save_model(stock, load_tokenizer(str(folder.model)), temporary)
        _check(original, temporary, data, folder.predictions("id_dev", data.task.id_dev.suite))
        _write_texts(sweep, record, config, temporary)
        for path in temporary.iterdir():
            # safetensors writes files that only their owner reads; a server often runs as another.
            path.chmod(0o644)
        if place.exists():
            place.rmdir()
        temporary.replace(place)
    except OSError as error:
        raise StorageError(f"{out} must be writable: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def stock_note(config: TrialConfig) -> str:
    """Return what a user of the exported form has to know, nothing where it is as the trial's."""
    plugin = plugins.load(PLUGIN_PACKAGES["compression"], config.compression.name)
    note: str = getattr(plugin.Compression(config.compression), "stock_note", str)()
    return note


def seal_note(sweep: Sweep, record: TrialRecord) -> str:
    """Return why test figures may be no test of a trial, empty where they are or none were seen."""
    return model_card.seal_note(record.id, read_test(sweep) or {})


def _check(original: nn.Module, exported: Path, data: TaskData, predictions: Path) -> None:
    """Reload the folder as a user would and compare its logits with the trial's."""
    model = AutoModelForSequenceClassification.from_pretrained(exported)
    tokenizer = AutoTokenizer.from_pretrained(exported)
    split = data.task.id_dev
    texts = _texts(split, min(_SAMPLE, len(split)))
    inputs = tokenizer(
        *texts, padding=True, truncation=True, max_length=data.max_length, return_tensors="pt"
    )
    expected, found = _logits(original, inputs), _logits(model, inputs)
    difference = float((expected - found).abs().max())
    # The stored predictions are what the record's accuracies were computed from.
    stored = torch.from_numpy(read_predictions(predictions)[: len(found)])
    from_record = float((found.log_softmax(dim=-1) - stored).abs().max())
    worst = max(difference, from_record)
    if not math.isfinite(worst) or worst > TOLERANCE:
        raise ExportError(
            f"the exported model must give the trial's logits within {TOLERANCE:g}, but differs by "
            f"{difference:.2g} from its weights and {from_record:.2g} from its recorded predictions"
        )
    names = [model.config.id2label[i] for i in range(model.config.num_labels)]
    if names != list(data.task.label_names):
        raise ExportError(
            f"id2label must be the task's {list(data.task.label_names)}, but is {names}"
        )


@torch.no_grad()
def _logits(model: nn.Module, inputs: Any) -> Tensor:
    logits: Tensor = model.eval()(**inputs).logits
    return logits.float()


def _texts(split: Split, count: int) -> list[list[str]]:
    columns = [list(split.first[:count])]
    if split.second is not None:
        columns.append(list(split.second[:count]))
    return columns


def _write_texts(sweep: Sweep, record: TrialRecord, config: TrialConfig, folder: Path) -> None:
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
        seeds=next((row for row in rows if row["id"] == record.id), None),
        stamp=stamp_lines(stamp(sweep, found)),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
