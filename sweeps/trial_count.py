"""How many trials a sweep has: as many as requested, or as many as it has rows."""

from __future__ import annotations

from collections.abc import Iterable

from rc_core.errors import ConfigError, Problem
from sweeps.fixed_design import looks_at_results
from sweeps.settings import SweepSettings
from sweeps.space import SEEDS, Space


def fit_trials(
    settings: SweepSettings, space: Space, first: set[str], grid: Iterable[str], *, given: bool
) -> SweepSettings:
    """Return the settings with `search.trials` set to the number that will run.

    A search always runs its first trials, and a grid no more than it has. A fixed design runs its
    rows.

    Args:
        settings: the sweep's.
        space: what is searched.
        first: fingerprints of the trials that run regardless of what the search proposes,
            including the dense reference.
        grid: fingerprints of a grid's points, read no further than needed; empty for others.
        given: whether the user set `search.trials`, which is checked in a fixed design.

    Raises:
        ConfigError: a fixed design has fewer trials than rows, so that some would silently be left
            out, or more, which results would choose.
    """
    trials, name = settings.search.trials, settings.search.name
    if settings.design == "search" and len(space):
        needed = max(len(first), trials)
        return _with(settings, _count(first, grid, needed) if name == "grid" else needed)
    needed = _count(first, grid)
    if name != "grid" and any(p.key not in SEEDS for p in space.parameters):
        # Random and quasi-random draws are endless, so the number must be checked.
        given = True
    if not given or settings.design == "search":
        return _with(settings, needed)
    if trials < needed:
        raise ConfigError(
            Problem(
                "search.trials",
                f"must be at least {needed}, the rows of this fixed design with the dense "
                f"reference, but is {trials}; raise it, or leave it out",
            )
        )
    # Asked last, as loading a sampler's file imports its library.
    if len(space) and trials > len(first) and looks_at_results(name):
        raise ConfigError(
            Problem(
                "search.trials",
                f"must be at most {len(first)}, the rows of this fixed design, as {name} "
                f"chooses further ones by results, but is {trials}; leave it out",
            )
        )
    return settings


def _with(settings: SweepSettings, trials: int) -> SweepSettings:
    search = settings.search.model_copy(update={"trials": trials})
    return settings.model_copy(update={"search": search})


def _count(first: set[str], grid: Iterable[str], most: int | None = None) -> int:
    """Return the number of distinct trials among the first ones and the grid's, at most `most`."""
    found = set(first)
    for fingerprint in grid:
        if len(found) == most:
            break
        found.add(fingerprint)
    return len(found)
