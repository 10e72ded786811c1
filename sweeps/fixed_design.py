"""The rows of a fixed design: listed points times seeds, or a search that ignores results.

Also checks what the rows of any design must share to be comparable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rc_core import plugins
from rc_core.errors import ConfigError, Problem
from sweeps.settings import SweepSettings
from sweeps.space import SEEDS, Parameter, Point

_SEARCHES = "sweeps.search"

TRAINING_SEED, TEACHER_SEED = SEEDS
# The reference is trained once, with the seed of `training`, whatever seeds a design lists.
ADD_DENSE = (
    "to train it with every seed, make dense a row as well: {compression.name: dense} in "
    "search.points, or dense among the values of space.compression.name"
)
# Metrics of the easy and the hard samples, which the section `difficulty` tells apart.
_HALVES = "id_dev/difficulty"


def fixed_rows(points: Sequence[Point], parameters: Sequence[Parameter]) -> list[Point]:
    """Return every point with every searched seed, all points of one seed before the next.

    So a sweep that is cut short still has comparable rows. If `teacher.seed` is searched too, the
    two are paired, value by value: each seed has its own teacher (and all that is built on it).
    Otherwise all seeds share one teacher. Points that name a seed themselves come first, once.

    Raises:
        ConfigError: teacher seeds are given, but not as many as training seeds.
    """
    searched = {p.key: list(p.values) for p in parameters if p.kind == "choice"}
    seeds, teachers = searched.get(TRAINING_SEED, []), searched.get(TEACHER_SEED, [])
    if teachers and len(teachers) != len(seeds):
        raise ConfigError(
            [
                Problem(
                    f"space.{TEACHER_SEED}",
                    f"must have as many values as space.{TRAINING_SEED} in a fixed design, as they "
                    f"are paired, but has {len(teachers)} for {len(seeds)}",
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


def looks_at_results(search: str) -> bool:
    """Tell whether what a search proposes depends on the results of earlier trials.

    Its file says so in `LOOKS_AT_RESULTS`, by default True. Raises ConfigError if there is no such
    search.
    """
    return bool(getattr(plugins.load(_SEARCHES, search), "LOOKS_AT_RESULTS", True))


def adaptive_problems(
    settings: SweepSettings, parameters: Sequence[Parameter]
) -> Iterator[Problem]:
    """Yield settings that would let results choose the rows of a fixed design.

    Its sealed test is opened on the premise that no row was selected. A confirmation is exempt, as
    it states itself that it follows results.

    Args:
        settings: the sweep's.
        parameters: its space's.
    """
    if settings.design != "fixed" or settings.confirm.sweep is not None:
        return
    if settings.budget.stall is not None:
        yield Problem(
            "budget.stall",
            "must be left out in a fixed design, which runs every row regardless of results, but "
            "is set; use budget.hours, or design: search",
        )
    searched = [p.key for p in parameters if p.key not in SEEDS]
    name = settings.search.name
    if searched and name in plugins.available(_SEARCHES) and looks_at_results(name):
        yield Problem(
            "search.name",
            "must be grid, random or qmc in a fixed design that searches more than seeds (here "
            f"{', '.join(searched)}), as results may not choose its rows, but is {name}; list the "
            "rows in search.points, or use design: search",
        )


def teacher_problems(design: str, parameters: Sequence[Parameter]) -> list[Problem]:
    """Return a problem if a search, which has one teacher, searches the teacher's seed."""
    if design == "fixed" or all(each.key != TEACHER_SEED for each in parameters):
        return []
    reason = "a sweep has one dense reference (only the seeds of a fixed design may have their own)"
    return [Problem(f"space.{TEACHER_SEED}", f"cannot be searched: {reason}")]


def halves_problems(settings: SweepSettings, parameters: Sequence[Parameter]) -> Iterator[Problem]:
    """Yield objectives on easy and hard samples if these differ between trials.

    A search for a small gap would find the difficulty estimate that separates samples least.

    Args:
        settings: the sweep's; one that was launched already is not checked.
        parameters: of its space.
    """
    found = {p.key for p in parameters}.union(*settings.search.points)
    keys = sorted(key for key in found if key.startswith("difficulty."))
    for name in settings.objectives:
        if keys and name.startswith(_HALVES) and not settings.defaults:
            yield Problem(
                f"objectives.{name}",
                "compares easy and hard samples, which must be the same in all trials, but "
                f"{', '.join(keys)}, which decides what is hard, is searched; remove it from the "
                "space, or use another objective",
            )


def repeated_problems(
    settings: SweepSettings, parameters: Sequence[Parameter]
) -> Iterator[Problem]:
    """Yield a problem if a row of a fixed design has two trials with one training seed.

    Trials of a row are told apart by that seed: of two that differ only in their teachers, one
    would be missing from every mean and from the sealed test.

    Args:
        settings: the sweep's; one that was launched already is not checked.
        parameters: of its space.
    """
    if settings.design != "fixed" or settings.defaults:
        return
    teachers: dict[Any, Any] = {}
    for point in settings.search.points:
        apart = repr(sorted((k, repr(v)) for k, v in point.items() if k != TEACHER_SEED))
        if teachers.setdefault(apart, point.get(TEACHER_SEED)) != point.get(TEACHER_SEED):
            yield Problem(
                "search.points",
                f"must give each {TEACHER_SEED} its own {TRAINING_SEED}, which tells the trials of "
                f"a row apart, but two trials of a row differ only in {TEACHER_SEED}",
            )
            return


def luck_problems(settings: SweepSettings, parameters: Sequence[Parameter]) -> Iterator[Problem]:
    """Yield settings that would let a search choose by training seed.

    Args:
        settings: the sweep's; one that was launched already is not checked.
        parameters: of its space.
    """
    if settings.design == "fixed" or settings.confirm.sweep is not None or settings.defaults:
        return
    reason = (
        f"must not contain {TRAINING_SEED} in a search, which would choose the luckiest seed, but "
        "does; run rc-sweep confirm after the search, or use design: fixed, where every row "
        "gets every seed"
    )
    if any(parameter.key == TRAINING_SEED for parameter in parameters):
        yield Problem("space", reason)
    if any(TRAINING_SEED in point for point in settings.search.points):
        yield Problem("search.points", reason)


# Checks of the rows of a design as a whole.
ROW_CHECKS = (adaptive_problems, halves_problems, repeated_problems, luck_problems)
