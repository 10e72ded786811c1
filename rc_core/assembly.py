"""From a configuration to its training: the loss with its per-sample rows, the model, the steps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from rc_core import plugins
from rc_core.compression._base import Compression, CompressionContext
from rc_core.config import PLUGIN_PACKAGES, TrialConfig
from rc_core.errors import TrialError
from rc_core.estimates import difficulty, expert_log_probs, first_stage_log_probs
from rc_core.forward import FrozenTeacher, shape_of
from rc_core.importance import has_importance, importance
from rc_core.losses._base import AnyLoss, LossContext, ModelLoss
from rc_core.models import load_model
from rc_core.teacher import teacher, teacher_log_probs
from rc_core.training import FitPoint, batches, fit
from rc_core.workspace import TaskData, Workspace


@dataclass(frozen=True)
class PreparedLoss:
    """A loss, ready to be called.

    Attributes:
        rows: per-sample tensors, one row per training sample (see `Loss.rows`).
        report: what the loss wrote into `LossContext.report`; plain JSON values.
    """

    loss: AnyLoss
    rows: Mapping[str, Tensor]
    report: dict[str, Any]


@dataclass(frozen=True)
class Assembly:
    """What one configuration trains, ready for `fit_compressed`.

    Attributes:
        config: with every value resolved (no `alpha: auto`).
        workspace: holds the tokenised data and the artifacts.
        compression: its hooks run in every step.
        model: prepared by `compression`, on the device.
        teacher: the dense reference as a model, if the loss runs it in every step.
    """

    config: TrialConfig
    workspace: Workspace
    compression: Compression
    model: nn.Module
    teacher: FrozenTeacher | None
    prepared: PreparedLoss


def assemble(config: TrialConfig, workspace: Workspace) -> Assembly:
    """Build the model, the teacher if the loss runs it, and the loss.

    Args:
        config: with every value resolved (no `alpha: auto`).
        workspace: holds the artifacts; missing ones are built.

    Raises:
        TrialError: see `prepare_loss`.
    """
    compression, model = prepare_model(config, workspace)
    dense = prepare_teacher(config, workspace)
    prepared = prepare_loss(config, workspace, model=model, dense=dense)
    return Assembly(config, workspace, compression, model, dense, prepared)


def compressed_data(config: TrialConfig, workspace: Workspace) -> TaskData:
    """Return the task, tokenised for the encoder that is compressed."""
    return workspace.data(config, model=config.compression.encoder(config.model))


def prepare_teacher(config: TrialConfig, workspace: Workspace) -> FrozenTeacher | None:
    """Return the dense reference, on the device, for a loss that runs it in every step; else None.

    It is read from the store for each trial: a model that is trained from it is another copy.
    """
    if "teacher_model" not in config.needs():
        return None
    model = load_model(teacher(config, workspace).path / "model").to(workspace.device)
    data = workspace.data(config.reference())
    # A student that is another encoder, or a teacher with another `max_length`, reads other tokens.
    same_tokens = data is compressed_data(config, workspace)
    return FrozenTeacher(model, None if same_tokens else data.encoded(data.task.train))


def prepare_loss(
    config: TrialConfig,
    workspace: Workspace,
    *,
    model: nn.Module | None = None,
    dense: FrozenTeacher | None = None,
) -> PreparedLoss:
    """Return the loss with its per-sample tensors and its report.

    Args:
        config: with every value resolved (no `alpha: auto`).
        workspace: holds the artifacts that the loss reads; missing ones are built.
        model: what `prepare_model` returned, for a loss that needs "hidden_states".
        dense: what `prepare_teacher` returned.

    Raises:
        TrialError: an estimate that the loss needs diverged or does not fit the task; or the loss
            has parameters that could not be trained, or rows that are not one per training sample.
    """
    needs = config.needs()
    # Seeded, so that what a plugin draws does not depend on what ran before.
    torch.manual_seed(config.training.seed)
    loss: AnyLoss = plugins.load(PLUGIN_PACKAGES["loss"], config.loss.name).Loss(config.loss)
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
    if "hidden_states" in needs:
        assert model is not None, "a loss that needs hidden states must know the model's shape"
        context.student = shape_of(model)
    if dense is not None:
        context.teacher = dense.shape
    torch.manual_seed(config.training.seed)
    rows = loss.rows(context)
    _check_parameters(config.loss.name, loss)
    _check_rows(config.loss.name, rows, context)
    return PreparedLoss(loss, rows, context.report)


def _check_parameters(name: str, loss: AnyLoss) -> None:
    """Reject parameters that no optimizer would receive: they would never be trained."""
    where = f"rc_core/losses/{name}.py"
    registered = {id(each) for each in trained_parameters(loss)}
    unregistered = [each for each in _parameters_in(vars(loss)) if id(each) not in registered]
    if unregistered:
        raise TrialError(
            f"{where}: parameters of a loss must be those of a torch.nn.Module, but "
            f"{len(unregistered)} "
            "are not; derive Loss from torch.nn.Module, call super().__init__() first, and hold "
            "several modules in a ModuleList (parameters in a ParameterList), or set "
            "requires_grad to False"
        )
    if any(is_lazy(each) for each in trained_parameters(loss)):
        raise TrialError(
            f"{where}: parameters of a loss must have their shape when rows() returns, but some "
            "are lazy; take it from context.student and context.teacher"
        )


def trained_parameters(loss: AnyLoss) -> list[nn.Parameter]:
    """Return the parameters of a loss that are trained together with the model's."""
    return [p for p in loss.parameters() if p.requires_grad] if isinstance(loss, nn.Module) else []


def _parameters_in(values: object) -> Iterator[nn.Parameter]:
    """Yield the trainable parameters in plain containers, and in modules inside them."""
    if isinstance(values, nn.Parameter):
        yield from [values] if values.requires_grad else []
    elif isinstance(values, nn.Module):
        yield from (each for each in values.parameters() if each.requires_grad)
    elif isinstance(values, Mapping):
        for each in values.values():
            yield from _parameters_in(each)
    elif isinstance(values, list | tuple | set):
        for each in values:
            yield from _parameters_in(each)


def _check_rows(name: str, rows: object, context: LossContext) -> None:
    """Reject rows that the training loop could not index, and reports that are not plain JSON."""
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


def recordable(loss: AnyLoss, compression: Compression) -> bool:
    """Tell whether a GPU may replay a trial's steps: both plugins must declare it themselves.

    A class derived from one of ours does not inherit the flag, because what it adds may not be
    recordable. Steps in which a loss runs the model itself, or has parameters, have never been
    tested in a recording, so they are not recorded.
    """
    if isinstance(loss, ModelLoss) or trained_parameters(loss):
        return False
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
    # A cached model draws no random numbers here, a new one does: seed again, so that what
    # `prepare` draws does not depend on which it was.
    torch.manual_seed(seed)
    return compression, compression.prepare(model, context)


def fit_compressed(parts: Assembly, *, resume: dict[str, Any] | None = None) -> Iterator[FitPoint]:
    """Train what `assemble` returned; see `rc_core.training.fit`.

    Args:
        parts: what `assemble` returned; its model is trained in place.
        resume: state from a checkpoint.
    """
    config, compression, model = parts.config, parts.compression, parts.model
    data = compressed_data(config, parts.workspace)
    after_backward = getattr(compression, "after_backward", None)
    parameter_groups = getattr(compression, "parameter_groups", None)
    return fit(
        model,
        data.encoded(data.task.train),
        parts.prepared.loss,
        config.training,
        precision=parts.workspace.precision(config),
        rows=parts.prepared.rows,
        after_step=partial(compression.after_step, model),
        after_backward=None if after_backward is None else partial(after_backward, model),
        groups=() if parameter_groups is None else parameter_groups(model),
        teacher=parts.teacher,
        resume=resume,
        recordable=recordable(parts.prepared.loss, compression),
    )
