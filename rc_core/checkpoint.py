"""A trial's checkpoint: what another process needs to go on from the last rung.

    checkpoint/weights.safetensors     of the model under compression
    checkpoint/optimizer.pt            moments, random state, step, seconds spent
    checkpoint/checkpoint.json         whose it is, and its step

It is written after the record that has its rung: a record may be ahead of its checkpoint (then the
rung is run again), never behind it. A process may be ended at any moment: the one before stays
until the next is whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rc_core.atomic import write_json
from rc_core.config import TrialConfig
from rc_core.record import RungRecord, TrialFolder, TrialRecord
from rc_core.training import FitPoint


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
        config: the trial's.
        teacher: key of its dense reference, which names the data as well.
        model: whose weights are kept.
        point: where training stands.
        spent: seconds, by what besides training took them.
    """
    temporary = folder.checkpoint_next
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, temporary / "weights.safetensors")
    torch.save({**point.state(), "spent": dict(spent)}, temporary / "optimizer.pt")
    manifest = {"fingerprint": config.fingerprint(), "teacher": teacher, "step": point.step}
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
    """Return a record's rungs up to the checkpoint, or None without one of this configuration."""
    found = _found(folder, config)
    if found is None:
        return None
    _, manifest = found
    return tuple(rung for rung in record.rungs if rung.step <= manifest["step"])


def load_checkpoint(
    folder: TrialFolder, config: TrialConfig, teacher: str, model: nn.Module
) -> dict[str, Any] | None:
    """Load the weights into `model` and return the training state.

    Returns:
        None where there is no checkpoint, or one of another configuration or of other data.
    """
    found = _found(folder, config)
    if found is None or found[1]["teacher"] != teacher:
        return None
    path, _ = found
    model.load_state_dict(load_file(path / "weights.safetensors"))
    state: dict[str, Any] = torch.load(path / "optimizer.pt", weights_only=True, map_location="cpu")
    return state


def _found(folder: TrialFolder, config: TrialConfig) -> tuple[Path, dict[str, Any]] | None:
    """Return the last whole checkpoint of this configuration and what it says of itself."""
    for path in (folder.checkpoint, folder.checkpoint_before):
        try:
            found = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        # One of an earlier version does not say its step.
        if {"step", "teacher"} <= set(found) and found.get("fingerprint") == config.fingerprint():
            return path, found
    return None
