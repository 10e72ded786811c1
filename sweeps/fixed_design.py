"""The rows of a fixed design: what somebody listed, times the seeds."""

from __future__ import annotations

from collections.abc import Sequence

from rc_core.errors import ConfigError, Problem
from sweeps.space import SEEDS, Parameter, Point

TRAINING_SEED, TEACHER_SEED = SEEDS


def fixed_rows(points: Sequence[Point], parameters: Sequence[Parameter]) -> list[Point]:
    """Return every point with every searched seed, all points of one seed before the next.

    So a sweep that is cut short still compares equals. Where `teacher.seed` is searched too, the
    two go together, value by value: each seed has a teacher (and what is built on it) of its own.
    Without it all seeds share one teacher. Points that name a seed themselves come first, once.

    Raises:
        ConfigError: as many teacher seeds as training seeds are needed, but were not given.
    """
    searched = {p.key: list(p.values) for p in parameters if p.kind == "choice"}
    seeds, teachers = searched.get(TRAINING_SEED, []), searched.get(TEACHER_SEED, [])
    if teachers and len(teachers) != len(seeds):
        raise ConfigError(
            [
                Problem(
                    f"space.{TEACHER_SEED}",
                    f"must have as many values as space.{TRAINING_SEED} in a fixed design (they go "
                    f"together), but has {len(teachers)} for {len(seeds)}",
                )
            ]
        )
    if not seeds:
        return [dict(point) for point in points]
    each = [{TRAINING_SEED: seed} for seed in seeds]
    for values, teacher in zip(each, teachers, strict=bool(teachers)):
        values[TEACHER_SEED] = teacher
    own = [dict(point) for point in points if TRAINING_SEED in point]
    rest = [point for point in points if TRAINING_SEED not in point]
    return own + [{**point, **values} for values in each for point in rest]


def teacher_problems(design: str, parameters: Sequence[Parameter]) -> list[Problem]:
    """Return what is wrong with a searched teacher: a search has one."""
    if design == "fixed" or all(each.key != TEACHER_SEED for each in parameters):
        return []
    reason = "a sweep has one dense reference (only the seeds of a fixed design may have their own)"
    return [Problem(f"space.{TEACHER_SEED}", f"cannot be searched: {reason}")]
