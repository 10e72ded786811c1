"""A trial's checkpoint: what another process needs to go on from the last rung.

    checkpoint/weights.safetensors     of the model under compression
    checkpoint/optimizer.pt            moments, random state, step, seconds spent
    checkpoint/checkpoint.json         whose it is, and its step

It is written after the record that has its rung: a record may be ahead of its checkpoint (then the
rung is run again), never behind it.
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
    temporary = folder.path / ".checkpoint.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, temporary / "weights.safetensors")
    torch.save({**point.state(), "spent": dict(spent)}, temporary / "optimizer.pt")
    manifest = {"fingerprint": config.fingerprint(), "teacher": teacher, "step": point.step}
    (temporary / "checkpoint.json").write_text(json.dumps(manifest))
    shutil.rmtree(folder.checkpoint, ignore_errors=True)
    temporary.replace(folder.checkpoint)


def rungs_before(
    folder: TrialFolder, config: TrialConfig, record: TrialRecord
) -> tuple[RungRecord, ...] | None:
    """Return a record's rungs up to the checkpoint, or None without one of this configuration."""
    manifest = _manifest(folder, config)
    if manifest is None:
        return None
    return tuple(rung for rung in record.rungs if rung.step <= manifest["step"])


def load_checkpoint(
    folder: TrialFolder, config: TrialConfig, teacher: str, model: nn.Module
) -> dict[str, Any] | None:
    """Load the weights into `model` and return the training state.

    Returns:
        None where there is no checkpoint, or one of another configuration or of other data.
    """
    manifest = _manifest(folder, config)
    if manifest is None or manifest["teacher"] != teacher:
        return None
    model.load_state_dict(load_file(folder.checkpoint / "weights.safetensors"))
    state: dict[str, Any] = torch.load(
        folder.checkpoint / "optimizer.pt", weights_only=True, map_location="cpu"
    )
    return state


def _manifest(folder: TrialFolder, config: TrialConfig) -> dict[str, Any] | None:
    """Return what the checkpoint says of itself; None: none, or not of this configuration."""
    path: Path = folder.checkpoint / "checkpoint.json"
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    # One of an earlier version does not say its step.
    fits = found.get("fingerprint") == config.fingerprint() and {"step", "teacher"} <= set(found)
    return found if fits else None
