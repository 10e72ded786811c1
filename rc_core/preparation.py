"""Which shared artifacts a configuration needs, in building order; each is built once.

teacher, its outputs on train       rc_core.teacher
pruned levels                       rc_core.stages
difficulty, experts, first stage    rc_core.estimates
alpha                               rc_core.alpha
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from rc_core import alpha, estimates, stages, teacher
from rc_core.artifacts import Artifact, ArtifactKey
from rc_core.assembly import needs_of
from rc_core.config import TrialConfig
from rc_core.workspace import Workspace


@dataclass(frozen=True)
class Step:
    """One artifact to build.

    Attributes:
        key: what it is.
        title: a line for people.
        build: builds it, or returns it where it is stored.
        group: steps next to each other with the same group may be built side by side.
    """

    key: ArtifactKey
    title: str
    build: Callable[[], Artifact]
    group: str | None = None


def steps(config: TrialConfig, workspace: Workspace) -> list[Step]:
    """Return the artifacts a configuration needs, in building order.

    The teacher is always among them: every model is compared with it.
    """
    needs = needs_of(config)
    found = [
        Step(
            teacher.teacher_key(config, workspace),
            "teacher",
            lambda: teacher.teacher(config, workspace),
        )
    ]
    if "teacher_log_probs" in needs:
        found.append(
            Step(
                teacher.log_probs_key(config, workspace),
                "teacher's outputs on train",
                lambda: teacher.log_probs_artifact(config, workspace),
            )
        )
    if "difficulty" in needs:
        found += _difficulty_steps(config, workspace)
    if "expert_log_probs" in needs:
        key, title = estimates.expert_of(config, workspace)
        found.append(Step(key, title, lambda: estimates.build_expert(config, workspace)))
    if "first_stage_log_probs" in needs:
        found.append(
            Step(
                estimates.first_stage_key(config, workspace),
                "first stage of jtt",
                lambda: estimates.first_stage_artifact(config, workspace),
            )
        )
    if alpha.wants_alpha(config):
        found.append(
            Step(
                alpha.alpha_key(config, workspace),
                alpha.alpha_title(config),
                lambda: alpha.alpha_artifact(config, workspace),
            )
        )
    return found


def _difficulty_steps(config: TrialConfig, workspace: Workspace) -> list[Step]:
    found = []
    for level in estimates.independent_levels(config):
        found.append(
            Step(
                stages.level_key(config, workspace, level),
                f"teacher pruned to {level:g}",
                lambda level=level: stages.level_artifact(config, workspace, level),  # type: ignore[misc]
                group="levels",
            )
        )
    if config.difficulty.name != "hypothesis_only" and _can_compare(config, workspace):
        other = estimates.hypothesis_only(config)
        found.append(
            Step(
                estimates.difficulty_key(other, workspace),
                "classifier of the second text alone, to compare with",
                lambda: estimates.difficulty_artifact(other, workspace),
            )
        )
    found.append(
        Step(
            estimates.difficulty_key(config, workspace),
            estimates.difficulty_title(config),
            lambda: estimates.difficulty_artifact(config, workspace),
        )
    )
    return found


def _can_compare(config: TrialConfig, workspace: Workspace) -> bool:
    """Tell whether a classifier of the second text can be had; it is no more than a comparison."""
    pairs = workspace.data(config).task.train.second is not None
    return pairs and importlib.util.find_spec("sklearn") is not None
