"""Which shared artifacts a configuration needs, and which of them depend on each other.

They are listed in an order in which they can be built one after another. Those that do not depend
on each other may be built at the same time, in other processes or on other machines.

teacher, its outputs on train       rc_core.teacher
importance of heads or neurons      rc_core.importance
pruned levels                       rc_core.stages
difficulty, experts, first stage    rc_core.estimates
alpha                               rc_core.alpha
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rc_core import alpha, estimates, importance, stages, teacher
from rc_core.artifacts import Artifact, ArtifactKey
from rc_core.config import TrialConfig
from rc_core.errors import DifficultyError
from rc_core.workspace import Workspace


@dataclass(frozen=True)
class Step:
    """One artifact to build.

    Attributes:
        key: of the artifact.
        title: a progress line.
        build: builds the artifact, or returns it if it is stored. Whatever it needs and does not
            find it builds first, so another build order is slow, not wrong.
        needs: keys of the artifacts that it reads.
        light: takes seconds on one core.
        optional: used for a comparison only; a trial can do without it.
    """

    key: ArtifactKey
    title: str
    build: Callable[[], Artifact]
    needs: tuple[str, ...] = ()
    light: bool = False
    optional: bool = False

    def attempt(self) -> Artifact | str:
        """Build the artifact; for an optional one that the data do not allow, return the reason."""
        try:
            return self.build()
        except DifficultyError as error:
            if not self.optional:
                raise
            return str(error)


def steps(config: TrialConfig, workspace: Workspace) -> list[Step]:
    """Return the artifacts that a configuration needs, in build order.

    The teacher is always among them: every model is compared with it.
    """
    needs = config.needs()
    dense = teacher.teacher_key(config, workspace)
    after_dense = (dense.key,)
    found = [Step(dense, "teacher", lambda: teacher.teacher(config, workspace))]
    if importance.has_importance(config):
        found.append(
            Step(
                importance.importance_key(config, workspace),
                f"importance of what {config.compression.name} removes",
                lambda: importance.importance_artifact(config, workspace),
                after_dense,
            )
        )
    if "teacher_log_probs" in needs:
        found.append(
            Step(
                teacher.log_probs_key(config, workspace),
                "teacher's outputs on train",
                lambda: teacher.log_probs_artifact(config, workspace),
                after_dense,
            )
        )
    if "difficulty" in needs:
        found += _difficulty_steps(config, workspace)
    if "expert_log_probs" in needs:
        found.append(_expert_step(config, workspace))
    if "first_stage_log_probs" in needs:
        found.append(
            Step(
                estimates.first_stage_key(config, workspace),
                f"first stage of {config.loss.name}",
                lambda: estimates.first_stage_artifact(config, workspace),
                after_dense if estimates.first_stage_is_teacher(config, workspace) else (),
            )
        )
    if alpha.wants_alpha(config):
        found.append(
            Step(
                alpha.alpha_key(config, workspace),
                alpha.alpha_title(config),
                lambda: alpha.alpha_artifact(config, workspace),
                # It trains with this loss, so it reads everything that the loss reads.
                tuple(step.key.key for step in found),
            )
        )
    return found


def _difficulty_steps(config: TrialConfig, workspace: Workspace) -> list[Step]:
    """Return the steps of a difficulty estimate, and of the one it is compared with."""
    found = [
        Step(
            stages.level_key(config, workspace, level),
            f"teacher pruned to {level:g}",
            lambda level=level: stages.level_artifact(config, workspace, level),  # type: ignore[misc]
            (teacher.teacher_key(config, workspace).key,),
        )
        for level in estimates.independent_levels(config)
    ]
    if config.difficulty.name != "hypothesis_only" and _can_compare(config, workspace):
        other = estimates.hypothesis_only(config)
        title = "classifier of the second text alone, to compare with"
        found.append(replace(_estimate_step(other, workspace, title), optional=True))
    found.append(_estimate_step(config, workspace, estimates.difficulty_title(config)))
    return found


def _estimate_step(config: TrialConfig, workspace: Workspace, title: str) -> Step:
    """Return the step of one difficulty estimate. Raises DifficultyError if it cannot work."""
    stages.check_gradual(config, workspace)
    uses_teacher, light = estimates.difficulty_cost(config)
    levels = estimates.independent_levels(config)
    before = [stages.level_key(config, workspace, level) for level in levels]
    if uses_teacher:
        before.insert(0, teacher.teacher_key(config, workspace))
    return Step(
        estimates.difficulty_key(config, workspace),
        title,
        lambda: estimates.difficulty_artifact(config, workspace),
        tuple(key.key for key in before),
        light,
    )


def _expert_step(config: TrialConfig, workspace: Workspace) -> Step:
    """Return the step of the bias expert, which may be a difficulty estimate."""
    expert = estimates.expert_of(config, workspace)
    if expert.estimate is not None:
        return _estimate_step(expert.estimate, workspace, expert.title)
    dense = teacher.teacher_key(config, workspace)
    return Step(expert.key, expert.title, expert.build, (dense.key,))


def _can_compare(config: TrialConfig, workspace: Workspace) -> bool:
    """Tell whether the task has the second texts that the classifier to compare with needs."""
    return workspace.data(config).task.train.second is not None
