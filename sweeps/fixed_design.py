"""The rows of a fixed design: what somebody listed, times the seeds, or what no result steers.

And what rows must share to be compared, in any design.
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
# The reference is trained once, with the training's own seed, whatever seeds a design lists.
ADD_DENSE = (
    "to give it every seed make dense a row as well: {compression.name: dense} among "
    "search.points, or dense among the values of space.compression.name"
)
# Figures of the easy and the hard samples: which ones these are, `difficulty` says.
_HALVES = "id_dev/difficulty"


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


def looks_at_results(search: str) -> bool:
    """Tell whether what a search proposes next depends on what came of the trials before.

    Its file says so: `LOOKS_AT_RESULTS`, True where it does not say. Raises ConfigError where there
    is no such search.
    """
    return bool(getattr(plugins.load(_SEARCHES, search), "LOOKS_AT_RESULTS", True))


def adaptive_problems(
    settings: SweepSettings, parameters: Sequence[Parameter]
) -> Iterator[Problem]:
    """Yield what would let results choose the rows of a fixed design.

    Its sealed test is opened as that of rows which nobody selected. A confirmation says itself that
    it goes by results.

    Args:
        settings: of the sweep.
        parameters: of its space.
    """
    if settings.design != "fixed" or settings.confirm.sweep is not None:
        return
    if settings.budget.stall is not None:
        yield Problem(
            "budget.stall",
            "must be left out of a fixed design, whose rows run whatever is found, but is set; "
            "take budget.hours, or design: search",
        )
    searched = [p.key for p in parameters if p.key not in SEEDS]
    name = settings.search.name
    if searched and name in plugins.available(_SEARCHES) and looks_at_results(name):
        yield Problem(
            "search.name",
            "must be grid, random or qmc in a fixed design that searches more than seeds (here "
            f"{', '.join(searched)}), as no result may choose its rows, but is {name}; list the "
            "rows in search.points, or take design: search",
        )


def teacher_problems(design: str, parameters: Sequence[Parameter]) -> list[Problem]:
    """Return what is wrong with a searched teacher: a search has one."""
    if design == "fixed" or all(each.key != TEACHER_SEED for each in parameters):
        return []
    reason = "a sweep has one dense reference (only the seeds of a fixed design may have their own)"
    return [Problem(f"space.{TEACHER_SEED}", f"cannot be searched: {reason}")]


def halves_problems(settings: SweepSettings, parameters: Sequence[Parameter]) -> Iterator[Problem]:
    """Yield what would compare trials by easy and hard samples that are others in each.

    A search for a small gap would find the estimate that tells samples apart least.

    Args:
        settings: of the sweep; one that was launched goes on as it is.
        parameters: of its space.
    """
    found = {p.key for p in parameters}.union(*settings.search.points)
    keys = sorted(key for key in found if key.startswith("difficulty."))
    for name in settings.objectives:
        if keys and name.startswith(_HALVES) and not settings.defaults:
            yield Problem(
                f"objectives.{name}",
                "is of the easy and hard samples, which must be the same in all trials, but "
                f"{', '.join(keys)} is searched, which says what is hard; take it out of the "
                "space, or take another objective",
            )


def repeated_problems(
    settings: SweepSettings, parameters: Sequence[Parameter]
) -> Iterator[Problem]:
    """Yield what would train a row of a fixed design twice with one training seed.

    A row's trials are told apart by it: of two with other teachers one would be lost from every
    mean, and from the sealed test.

    Args:
        settings: of the sweep; one that was launched goes on as it is.
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
                f"must give each {TEACHER_SEED} a {TRAINING_SEED} of its own, as seeds of a row "
                f"are told apart by that, but two of a row differ in {TEACHER_SEED} alone",
            )
            return


def luck_problems(settings: SweepSettings, parameters: Sequence[Parameter]) -> Iterator[Problem]:
    """Yield what would let a search choose by training seed.

    Args:
        settings: of the sweep; one that was launched goes on as it is.
        parameters: of its space.
    """
    if settings.design == "fixed" or settings.confirm.sweep is not None or settings.defaults:
        return
    reason = (
        f"must leave {TRAINING_SEED} out in a search, which would choose the luckiest seed, but "
        "has it; run rc-sweep confirm when it has ended, or take design: fixed, where every row "
        "gets every seed"
    )
    if any(parameter.key == TRAINING_SEED for parameter in parameters):
        yield Problem("space", reason)
    if any(TRAINING_SEED in point for point in settings.search.points):
        yield Problem("search.points", reason)


# What else than single keys may be wrong with the rows of a design.
ROW_CHECKS = (adaptive_problems, halves_problems, repeated_problems, luck_problems)
