"""What stage 1 learns about the training samples, as shared artifacts beside the teacher.

    difficulty      outputs of the models behind `difficulty.name`, (K, N, C) and (K, M, C)
    first_stage     outputs of a dense model trained for a few epochs only (JTT)

Degrees of difficulty, easy and hard halves and bias experts all follow from these and from
`rc_core.stages`, without another training run (Du et al. 2023, section 5.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rc_core import plugins
from rc_core.artifacts import Artifact, ArtifactKey
from rc_core.config import PLUGIN_PACKAGES, TrialConfig, decode
from rc_core.data._task import Split
from rc_core.difficulty._base import (
    DifficultyContext,
    DifficultyModule,
    Outputs,
    Predict,
    agreement,
    hardest,
)
from rc_core.difficulty._levels import LevelsConfig
from rc_core.errors import ConfigError, Problem
from rc_core.models import load_model
from rc_core.stages import (
    fit_dense,
    fit_points,
    level_artifact,
    level_key,
    load_outputs,
    predictor,
    prune_levels,
    save_outputs,
)
from rc_core.teacher import teacher, teacher_key, training_inputs
from rc_core.workspace import Workspace

# Raise these for changes outside the plugins' files, whose text is part of the key.
# 2: cross-fitting keeps samples with the same text together.
DIFFICULTY_VERSION = 2
FIRST_STAGE_VERSION = 1


@dataclass(frozen=True)
class Difficulty:
    """A difficulty estimate, read from the store.

    Attributes:
        scores: (N,) float64 of train, higher is harder.
        hard_id_dev: (M,) bool, which samples of id_dev count as hard.
        report: how it was made, what it cost, and how far other estimates agree with it.
    """

    scores: Tensor
    hard_id_dev: NDArray[np.bool_]
    report: dict[str, Any]


@dataclass(frozen=True)
class Expert:
    """Whose outputs on train are a loss's bias expert.

    Attributes:
        key: of the artifact that holds them.
        title: a progress line.
        build: builds the artifact, or returns it if it is stored.
        position: which of the models in the artifact is the expert.
        estimate: the configuration whose difficulty estimate the artifact is; None for a separately
            pruned level.
    """

    key: ArtifactKey
    title: str
    build: Callable[[], Artifact]
    position: int = 0
    estimate: TrialConfig | None = None


def difficulty_key(config: TrialConfig, workspace: Workspace) -> ArtifactKey:
    """Return the key of the outputs behind a configuration's difficulty estimate.

    The text of the file whose `outputs` is called is part of the key, so editing it makes them
    anew. Code that the file imports from outside its package is not; raise the version when such
    code changes.
    """
    inputs = {
        "teacher": teacher_key(config, workspace).key,
        "difficulty": config.difficulty.as_dict() | {"name": outputs_of(config)},
        "source": plugins.digest(PLUGIN_PACKAGES["difficulty"], outputs_of(config)),
        "training": training_inputs(config.reference().training),
    }
    return ArtifactKey("difficulty", DIFFICULTY_VERSION, inputs)


def outputs_of(config: TrialConfig) -> str:
    """Return the difficulty plugin that makes the outputs; a plugin may score another's."""
    return str(getattr(_module(config), "OUTPUTS_OF", config.difficulty.name))


def difficulty_title(config: TrialConfig) -> str:
    """Return a progress line: what is built."""
    return _module(config).title(config.difficulty)


def difficulty_cost(config: TrialConfig) -> tuple[bool, bool]:
    """Return whether a difficulty estimate starts from the teacher, and whether it is light.

    A plugin declares this in `USES_TEACHER` (default True) and `LIGHT` (seconds on one core;
    default False).
    """
    module = _module(config)
    return getattr(module, "USES_TEACHER", True), getattr(module, "LIGHT", False)


def difficulty_artifact(config: TrialConfig, workspace: Workspace) -> Artifact:
    """Return the outputs behind a difficulty estimate, making them if they are not stored."""

    def build(folder: Path) -> None:
        task = workspace.data(config.reference()).task
        context = DifficultyContext(
            task=task,
            prune_levels=partial(prune_levels, config, workspace),
            fit_dense=partial(fit_dense, config, workspace),
            seed=config.reference().training.seed,
            teacher=partial(_teacher_predict, config, workspace),
            fit_points=partial(fit_points, config, workspace),
        )
        # The plugin named by OUTPUTS_OF, if any, because the key contains the text of its file.
        module = _plugin(outputs_of(config))
        save_outputs(module.outputs(config.difficulty, context), folder)

    return workspace.store.build(difficulty_key(config, workspace), build)


def difficulty(config: TrialConfig, workspace: Workspace) -> Difficulty:
    """Return a configuration's difficulty estimate, with figures on its quality."""
    found = load_outputs(difficulty_artifact(config, workspace))
    module, task = _module(config), workspace.data(config.reference()).task
    labels = torch.from_numpy(task.train.labels)
    dev_labels = torch.from_numpy(task.id_dev.labels)
    report = {"name": config.difficulty.name, **found.report}
    report |= module.summary(found.log_probs["train"], labels, config.difficulty)
    hard = module.hard(found.log_probs["id_dev"], dev_labels)
    scores = module.scores(found.log_probs["train"], labels)
    if task.bias_conflicting is not None:
        conflicting = torch.from_numpy(task.bias_conflicting)
        report["mean_score"] = {
            name: float(scores[chosen].mean()) if bool(chosen.any()) else None
            for name, chosen in (("conflicting", conflicting), ("aligned", ~conflicting))
        }
    other = hypothesis_only(config)
    if config.difficulty.name != "hypothesis_only" and workspace.store.has(
        difficulty_key(other, workspace)
    ):
        against = load_outputs(difficulty_artifact(other, workspace)).log_probs["id_dev"]
        reference = _module(other).hard(against, dev_labels)
        # Compared at the same share of hard samples: halves cannot agree with a 30 to 70 split.
        dev_scores = module.scores(found.log_probs["id_dev"], dev_labels)
        same_share = hardest(dev_scores, int(reference.sum()))
        report["hypothesis_only"] = agreement(same_share, reference)
    return Difficulty(scores, hard.numpy(), report)


def knows_difficulty(config: TrialConfig, workspace: Workspace) -> bool:
    """Tell whether the estimate is stored, so that reading it costs nothing."""
    return workspace.store.has(difficulty_key(config, workspace))


def expert_level(config: TrialConfig) -> float | None:
    """Return the sparsity of the bias expert that `loss.expert` names; None for another kind.

    Raises:
        ConfigError: it is neither a level nor `hypothesis_only`.
    """
    settings: Any = config.loss
    level = getattr(settings.expert, "level", None)
    if level is None and settings.expert != "hypothesis_only":
        raise ConfigError(
            Problem(
                "loss.expert",
                f"must be {{level: 0.75}} or hypothesis_only, but is {settings.expert!r}; let "
                f"Config of rc_core/losses/{config.loss.name}.py allow no other (see poe.Expert)",
            )
        )
    return None if level is None else float(level)


def expert_of(config: TrialConfig, workspace: Workspace) -> Expert:
    """Return the bias expert that `loss.expert` names.

    A level that is among `difficulty.levels` is the milestone of that run. Any other level is
    pruned separately, from the teacher, in `difficulty.epochs`.

    Raises:
        ConfigError: as `expert_level`.
    """
    level = expert_level(config)
    position = None if level is None else _milestone(config, level)
    if level is not None and position is None:
        return Expert(
            level_key(config, workspace, level),
            f"bias expert: teacher pruned to {level:g}",
            partial(level_artifact, config, workspace, level),
        )
    estimate = hypothesis_only(config) if level is None else config
    return Expert(
        difficulty_key(estimate, workspace),
        difficulty_title(estimate),
        partial(difficulty_artifact, estimate, workspace),
        position or 0,
        estimate,
    )


def expert_log_probs(config: TrialConfig, workspace: Workspace) -> Tensor:
    """Return the bias expert's log-probabilities on train, (N, C) float32."""
    expert = expert_of(config, workspace)
    return load_outputs(expert.build()).log_probs["train"][expert.position]


def first_stage_key(config: TrialConfig, workspace: Workspace) -> ArtifactKey:
    """Return the key of the outputs of the dense model trained for `loss.first_epochs` only."""
    inputs = {"teacher": teacher_key(_first_stage(config), workspace).key}
    return ArtifactKey("first_stage", FIRST_STAGE_VERSION, inputs)


def first_stage_is_teacher(config: TrialConfig, workspace: Workspace) -> bool:
    """Tell whether the first stage is trained exactly as the teacher is."""
    return teacher_key(_first_stage(config), workspace) == teacher_key(config, workspace)


def first_stage_artifact(config: TrialConfig, workspace: Workspace) -> Artifact:
    """Return the first stage's outputs on train, training it if they are not stored yet."""
    stage = _first_stage(config)

    def build(folder: Path) -> None:
        task = workspace.data(stage.reference()).task
        if first_stage_is_teacher(config, workspace):
            judge: Predict = partial(_teacher_predict, config, workspace)
        else:
            rows = np.arange(len(task.train))
            judge = fit_dense(stage, workspace, rows, epochs=stage.training.epochs)
        save_outputs(Outputs({"train": torch.from_numpy(judge(task.train))}, {}), folder)

    return workspace.store.build(first_stage_key(config, workspace), build)


def first_stage_log_probs(config: TrialConfig, workspace: Workspace) -> Tensor:
    """Return the first stage's log-probabilities on train, (N, C) float32."""
    return load_outputs(first_stage_artifact(config, workspace)).log_probs["train"]


def independent_levels(config: TrialConfig) -> tuple[float, ...]:
    """Return the levels that a configuration's difficulty prunes separately."""
    settings = config.difficulty
    if not isinstance(settings, LevelsConfig) or settings.mode == "gradual":
        return ()
    return settings.levels


def _milestone(config: TrialConfig, level: float) -> int | None:
    """Return a level's position in the outputs of the difficulty run, or None if it has none."""
    settings = config.difficulty
    # Another plugin may share these settings and yet make outputs of another kind.
    if outputs_of(config) != "loss_variance" or not isinstance(settings, LevelsConfig):
        return None
    if level not in settings.levels:
        return None
    return settings.levels.index(level)


def hypothesis_only(config: TrialConfig) -> TrialConfig:
    """Return the configuration with difficulty `hypothesis_only`, its own or with defaults."""
    if config.difficulty.name == "hypothesis_only":
        return config
    return decode(config.as_dict() | {"difficulty": {"name": "hypothesis_only"}})


def _first_stage(config: TrialConfig) -> TrialConfig:
    """Return the configuration whose dense reference is JTT's first stage."""
    reference = config.reference().as_dict()
    settings: Any = config.loss
    reference["training"] |= {"epochs": float(settings.first_epochs)}
    return decode(reference | {"teacher": {}})


def _module(config: TrialConfig) -> DifficultyModule:
    return _plugin(config.difficulty.name)


def _plugin(name: str) -> DifficultyModule:
    module: Any = plugins.load(PLUGIN_PACKAGES["difficulty"], name)
    found: DifficultyModule = module
    return found


def _teacher_predict(
    config: TrialConfig, workspace: Workspace, split: Split
) -> NDArray[np.float32]:
    """Return the dense reference's log-probabilities on a split, (N, C)."""
    model = load_model(teacher(config, workspace).path / "model").to(workspace.device)
    return predictor(model, config, workspace)(split)
