"""A trial's checkpoint: what another process needs to resume from the last rung.

    checkpoint/weights.safetensors     of the model under compression
    checkpoint/optimizer.pt            moments, random state, step, seconds spent
    checkpoint/checkpoint.json         configuration, plugins, teacher and step it belongs to

It is written after the record that contains its rung, so a record may be ahead of its checkpoint
(then the rung is run again), but never behind it. A process may be killed at any moment, so the
previous checkpoint stays until the next one is complete. A checkpoint that is damaged, or was
trained with plugins that were edited since, is dropped, and the trial is trained from the start.
"""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rc_core.atomic import flush, write_json
from rc_core.config import TrialConfig, fingerprint, placeless
from rc_core.record import RungRecord, TrialFolder, TrialRecord
from rc_core.training import FitPoint

_logger = logging.getLogger(__name__)

_STATE = {"step", "seconds", "samples", "optimizer", "random", "spent"}
# What readers raise for files that are truncated, empty or missing.
_DAMAGED = (
    SafetensorError,
    RuntimeError,
    OSError,
    KeyError,
    ValueError,
    EOFError,
    pickle.UnpicklingError,
)


def save_checkpoint(
    folder: TrialFolder,
    config: TrialConfig,
    teacher: str,
    model: nn.Module,
    point: FitPoint,
    spent: Mapping[str, float],
) -> None:
    """Replace the folder's checkpoint.

    Args:
        folder: of the trial.
        config: of the trial.
        teacher: key of its dense reference, which identifies the data as well.
        model: whose weights are saved.
        point: where training stands.
        spent: seconds spent outside training, by what took them.
    """
    temporary = folder.checkpoint_next
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, temporary / "weights.safetensors")
    torch.save({**point.state(), "spent": dict(spent)}, temporary / "optimizer.pt")
    # Flushed before the manifest, whose presence means that they are complete.
    for name in ("weights.safetensors", "optimizer.pt"):
        flush(temporary / name)
    manifest = {
        "fingerprint": _identity(config),
        "plugins": config.sources(),
        "teacher": teacher,
        "step": point.step,
    }
    write_json(temporary / "checkpoint.json", manifest)
    before = folder.checkpoint_before
    if folder.checkpoint.is_dir():
        shutil.rmtree(before, ignore_errors=True)
        folder.checkpoint.replace(before)
    temporary.replace(folder.checkpoint)
    shutil.rmtree(before, ignore_errors=True)


def rungs_before(
    folder: TrialFolder, config: TrialConfig, record: TrialRecord
) -> tuple[RungRecord, ...] | None:
    """Return a record's rungs up to the checkpoint, or None if there is none to resume from."""
    found = _found(folder, config)
    if found is None or _edited(found[1], config):
        return None
    _, manifest = found
    return tuple(rung for rung in record.rungs if rung.step <= manifest["step"])


def load_checkpoint(
    folder: TrialFolder, config: TrialConfig, teacher: str, model: nn.Module
) -> dict[str, Any] | None:
    """Load the weights into `model` and return the training state.

    Returns:
        None if there is no checkpoint, or one of another configuration or of other data. A
        checkpoint that cannot be read, or whose plugins were edited since, is removed as well.
    """
    found = _found(folder, config)
    if found is None or found[1]["teacher"] != teacher:
        return None
    path, manifest = found
    edited = _edited(manifest, config)
    if edited:
        _drop(folder, f"was trained before {' and '.join(edited)} changed")
        return None
    try:
        weights, state = _read(path, model)
    except _DAMAGED as error:
        _drop(folder, f"is damaged ({type(error).__name__}: {error})")
        return None
    model.load_state_dict(weights)
    return state


def _read(path: Path, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return weights and state, both checked, without touching the model."""
    weights = load_file(path / "weights.safetensors")
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in weights.items()}:
        raise ValueError("its weights are not those of the model")
    state = torch.load(path / "optimizer.pt", weights_only=True, map_location="cpu")
    missing = _STATE - set(state)
    if missing:
        raise KeyError(", ".join(sorted(missing)))
    return weights, state


def _drop(folder: TrialFolder, why: str) -> None:
    _logger.warning("the checkpoint of %s %s: training from the start", folder.path.name, why)
    folder.forget_checkpoint()


def _edited(manifest: Mapping[str, Any], config: TrialConfig) -> list[str]:
    """Return the plugins whose files changed since a checkpoint was trained."""
    return [
        f"{section} '{getattr(config, section).name}'"
        for section, digest in config.sources().items()
        if manifest["plugins"].get(section) != digest
    ]


def _identity(config: TrialConfig) -> str:
    """Return a fingerprint of all but where the data lies: the teacher's key tells the samples."""
    return fingerprint(placeless(config.as_dict()))


def _found(folder: TrialFolder, config: TrialConfig) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest complete checkpoint of this configuration, and its manifest."""
    wanted = {"step", "teacher", "plugins"}
    for path in (folder.checkpoint, folder.checkpoint_before):
        try:
            found = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        # Checkpoints of earlier versions lack the step or the plugins, and are ignored.
        # Until 2026-11-28 the location of the data counted too.
        if wanted <= set(found) and found.get("fingerprint") in (
            _identity(config),
            config.fingerprint(),
        ):
            return path, found
    return None
