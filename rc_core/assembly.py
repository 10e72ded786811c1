"""From a configuration to its training: the loss with its per-sample rows, the model, the steps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rc_core import plugins
from rc_core.compression._base import Compression, CompressionContext
from rc_core.config import PLUGIN_PACKAGES, TrialConfig
from rc_core.errors import TrialError
from rc_core.estimates import difficulty, expert_log_probs, first_stage_log_probs
from rc_core.importance import has_importance, importance
from rc_core.labels import count_of
from rc_core.losses._base import Loss, LossContext
from rc_core.models import load_model
from rc_core.teacher import teacher, teacher_log_probs
from rc_core.training import FitPoint, batches, fit
from rc_core.workspace import TaskData, Workspace


def compressed_data(config: TrialConfig, workspace: Workspace) -> TaskData:
    """Return the task with the tokens of the encoder that is compressed."""
    return workspace.data(config, model=config.compression.encoder(config.model))


def prepare_loss(
    config: TrialConfig, workspace: Workspace
) -> tuple[Loss, dict[str, Tensor], dict[str, Any]]:
    """Return the loss, its per-sample tensors, and what it reports.

    Args:
        config: with every value resolved (no `alpha: auto`).

    Raises:
        TrialError: an estimate that the loss needs diverged or does not fit the task; or the loss
            has parameters, or rows that are not one per training sample.
    """
    needs = config.needs()
    loss: Loss = plugins.load(PLUGIN_PACKAGES["loss"], config.loss.name).Loss(config.loss)
    context = LossContext(
        labels=torch.from_numpy(workspace.data(config).task.train.labels),
        generator=torch.Generator().manual_seed(config.training.seed),
    )
    if "teacher_log_probs" in needs:
        context.teacher_log_probs = teacher_log_probs(config, workspace)
    if "difficulty" in needs:
        estimate = difficulty(config, workspace)
        context.difficulty = estimate.scores
        context.report["difficulty"] = estimate.report
    if "expert_log_probs" in needs:
        context.expert_log_probs = expert_log_probs(config, workspace)
    if "first_stage_log_probs" in needs:
        context.first_stage_log_probs = first_stage_log_probs(config, workspace)
    # What a plugin draws from it would depend on what ran before.
    torch.manual_seed(config.training.seed)
    rows = loss.rows(context)
    _check_no_parameters(config.loss.name, loss)
    _check_rows(config.loss.name, rows, context)
    return loss, rows, context.report


def _check_no_parameters(name: str, loss: Loss) -> None:
    """Refuse parameters of a loss: no optimizer has them, so they would stay as they are."""
    found = [loss, *vars(loss).values()]
    trained = [
        parameter
        for each in found
        for parameter in (each.parameters() if isinstance(each, nn.Module) else (each,))
        if isinstance(parameter, nn.Parameter) and parameter.requires_grad
    ]
    if trained:
        raise TrialError(
            f"rc_core/losses/{name}.py: nothing of a loss itself is trained, but it has "
            f"{count_of(len(trained), 'parameter')}; give what is learned to the model (a "
            "compression's prepare), or set requires_grad to False"
        )


def _check_rows(name: str, rows: object, context: LossContext) -> None:
    """Refuse what the training loop could not pick rows from, or a record could not hold."""
    where, count = f"rc_core/losses/{name}.py", len(context.labels)
    fits = isinstance(rows, Mapping) and all(
        isinstance(each, Tensor) and each.shape[:1] == (count,) for each in rows.values()
    )
    if not fits:
        given = type(rows).__name__
        if isinstance(rows, Mapping):
            shapes = {key: tuple(getattr(each, "shape", ())) for key, each in rows.items()}
            given = f"shapes {shapes}"
        raise TrialError(
            f"{where}: rows() must return a dict of tensors with {count} rows, one for each "
            f"training sample, but returned {given}"
        )
    try:
        json.dumps(context.report)
    except TypeError as error:
        raise TrialError(
            f"{where}: what rows() puts into context.report must be plain JSON values, but {error}"
        ) from error


def recordable(loss: Loss, compression: Compression) -> bool:
    """Tell whether a GPU may replay a trial's steps: both plugins must say so of themselves.

    A class derived from one of ours does not inherit it: what it adds may be of another kind.
    """
    return all(vars(type(each)).get("recordable", False) for each in (loss, compression))


def prepare_model(config: TrialConfig, workspace: Workspace) -> tuple[Compression, nn.Module]:
    """Return the compression and the model it wants trained, on the device."""
    data = compressed_data(config, workspace)
    seed = config.training.seed
    if config.compression.init == "teacher":
        model = workspace.stored_model(teacher(config, workspace).path / "model")
    else:
        encoder = config.compression.encoder(config.model)
        model = workspace.encoder(encoder, label_names=data.task.label_names, seed=seed)
    model.to(workspace.device)
    context = CompressionContext(
        batches=lambda: batches(data.encoded(data.task.train), config.training, workspace.device),
        device=workspace.device,
        teacher=lambda: load_model(teacher(config, workspace).path / "model"),
        importance=(lambda: importance(config, workspace)) if has_importance(config) else None,
    )
    plugin = plugins.load(PLUGIN_PACKAGES["compression"], config.compression.name)
    compression: Compression = plugin.Compression(config.compression)
    # A model that was kept was not made here: what is drawn next would depend on what ran before.
    torch.manual_seed(seed)
    return compression, compression.prepare(model, context)


def fit_compressed(
    config: TrialConfig,
    workspace: Workspace,
    loss: Loss,
    rows: Mapping[str, Tensor],
    compression: Compression,
    model: nn.Module,
    *,
    resume: dict[str, Any] | None = None,
) -> Iterator[FitPoint]:
    """Train what `prepare_loss` and `prepare_model` returned; see `rc_core.training.fit`."""
    data = compressed_data(config, workspace)
    after_backward = getattr(compression, "after_backward", None)
    parameter_groups = getattr(compression, "parameter_groups", None)
    return fit(
        model,
        data.encoded(data.task.train),
        loss,
        config.training,
        precision=workspace.precision(config),
        rows=rows,
        after_step=partial(compression.after_step, model),
        after_backward=None if after_backward is None else partial(after_backward, model),
        groups=() if parameter_groups is None else parameter_groups(model),
        resume=resume,
        recordable=recordable(loss, compression),
    )
