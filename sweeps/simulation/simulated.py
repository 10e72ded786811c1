"""Results of simulated sweeps: the front found over time, what early stopping saved and lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table as RichTable

from rc_core import plugins
from rc_core.errors import ConfigError, Problem, did_you_mean
from rc_core.labels import count_of
from sweeps.pareto import hypervolume, pareto_front
from sweeps.selection.statistics import Estimate, mean_interval
from sweeps.settings import SchedulerConfig, decode_settings
from sweeps.simulation.replay import ReplayTrial, Table
from sweeps.simulation.simulate import Run, order, reachable, replay
from sweeps.tables import render

# The hypervolume is measured at these shares of the table's total compute.
SHARES = (0.125, 0.25, 0.375, 0.5)
_OOD = "ood_dev/accuracy"

TITLES = {
    "compute": "cost",
    "finished": "survivors",
    "ood_half": "survivors, OOD half",
    "front_found": "front found",
    "ood_front_found": "front found, OOD half",
    "span": "span of the front",
    **{f"volume_at_{share:g}": f"volume at {100 * share:g} % cost" for share in SHARES},
    "volume": "volume at the end",
}


@dataclass(frozen=True)
class Simulated:
    """One scheduler over many orders of arrival.

    Attributes:
        label: of the scheduler.
        measures: name (see TITLES) -> one value per seed; relative to the rows in reach.
        savings: compression -> one value per seed: the share of its compute that was saved.
    """

    label: str
    measures: Mapping[str, Sequence[float]]
    savings: Mapping[str, Sequence[float]]

    def estimate(self, name: str) -> Estimate:
        """Return a measure's mean with its 95 % interval over orders of arrival."""
        return mean_interval(self.measures[name])


def simulate(
    table: Table, scheduler: Mapping[str, Any], *, search: str, seeds: int, workers: int
) -> Simulated:
    """Replay a table under many seeds; the same seeds give every scheduler the same orders.

    Everything is relative to the rows that the search can reach (`reachable`): others are neither
    saved nor missed.

    Args:
        table: recorded trials.
        scheduler: section of a YAML file.
        search: `random` or a sampler, which gives the order of trials.
        seeds: number of orders.
        workers: number of trials that run at once.

    Raises:
        ConfigError: the scheduler's section is invalid, no such search, or no row in its reach.
    """
    config = _scheduler(scheduler, table)
    names = [each for each in plugins.available("sweeps.search") if each not in ("grid", "race")]
    if search not in names:
        hint = did_you_mean(search, names)
        raise ConfigError(Problem("--search", f"must be a sampler, but got '{search}': {hint}"))
    table = reachable(table, search)
    if not table.trials:
        raise ConfigError(
            Problem(
                "--search",
                f"'{search}' needs trials inside the sweep's space, but all of them lie outside; "
                "leave out --search (random takes all trials)",
            )
        )
    module = plugins.load("sweeps.schedulers", config.name)
    rows: list[dict[str, float]] = []
    savings: list[dict[str, float]] = []
    for seed in range(seeds):
        rule = module.build(config, table.objectives)
        run = replay(order(table, search, seed), rule, workers=workers)
        rows.append(measure(run, table, workers=workers))
        savings.append(saved(run, table))
    return Simulated(
        label=_label(scheduler),
        measures={name: [row[name] for row in rows] for name in TITLES},
        savings={name: [row[name] for row in savings] for name in savings[0]},
    )


def measure(run: Run, table: Table, *, workers: int) -> dict[str, float]:
    """Return the measures of one run (see TITLES): shares, except that `finished` is a count."""
    directions = list(table.objectives.values())
    points = np.asarray(table.points())
    # The table's worst values: measured from zero, all volumes would be nearly the same.
    worst = [
        min(column) if way == "max" else max(column)
        for column, way in zip(points.T, directions, strict=True)
    ]
    whole = hypervolume(points, worst, directions)
    total = sum(trial.seconds for trial in table.trials)
    front = {
        t.id for t, on in zip(table.trials, pareto_front(points, directions), strict=True) if on
    }
    done = [trial for _, trial in run.finished]
    best = [trial for trial in done if trial.id in front]

    def volume(trials: Sequence[ReplayTrial]) -> float:
        found = [[trial.values[name] for name in table.objectives] for trial in trials]
        return hypervolume(found, worst, directions) / whole if found and whole else 0.0

    found = {
        "compute": sum(run.spent.values()) / total,
        "finished": float(len(done)),
        "ood_half": _share([_ood(t, table) for t in done], _median_ood(table.trials, table)),
        "front_found": len(best) / len(front),
        "ood_front_found": _ood_front(best, [t for t in table.trials if t.id in front], table),
        "span": _span(done, table, points[[t.id in front for t in table.trials]]),
        "volume": volume(done),
    }
    for share in SHARES:
        until = share * total / workers
        found[f"volume_at_{share:g}"] = volume([t for at, t in run.finished if at <= until + 1e-9])
    return found


def saved(run: Run, table: Table) -> dict[str, float]:
    """Return compression -> share of its compute that was saved."""
    found = {}
    for name in sorted({trial.compression for trial in table.trials}):
        mine = [trial for trial in table.trials if trial.compression == name]
        spent = sum(run.spent.get(trial.id, 0.0) for trial in mine)
        found[name] = 1 - spent / sum(trial.seconds for trial in mine)
    return found


def as_text(found: Sequence[Simulated], table: Table, *, search: str, workers: int) -> str:
    """Return a table of the schedulers side by side, as text."""
    seeds = len(found[0].measures["finished"])
    inside = len(reachable(table, search).trials)
    # Not as the table's title, which Rich would wrap at the table's width.
    title = (
        f"{count_of(inside, 'recorded trial')}, {search} order, {count_of(workers, 'worker')}, "
        f"{count_of(seeds, 'order')}: mean \u00b1 half of its 95 % interval, shares of the table"
    )
    rich = RichTable()
    rich.add_column("", no_wrap=True)
    for each in found:
        rich.add_column(each.label, justify="right")
    for name, label in TITLES.items():
        scale = 1.0 if name == "finished" else 100.0
        unit = "" if name == "finished" else " %"
        cells = [_cell(each.estimate(name), scale) for each in found]
        rich.add_row(f"{label}{unit}", *cells)
    rich.add_section()
    for compression in found[0].savings:
        cells = [_cell(mean_interval(each.savings[compression]), 100.0) for each in found]
        rich.add_row(f"saved on {compression} %", *cells)
    notes = [note for note in (outside_note(table, search), stopped_note(table)) if note]
    return "\n".join([title, render(rich), *notes])


def outside_note(table: Table, search: str) -> str | None:
    """Say how many rows the search cannot reach; None if it reaches all."""
    outside = len(table.trials) - len(reachable(table, search).trials)
    if not outside:
        return None
    return (
        f"note: {outside} of {len(table.trials)} trials lie outside the sweep's space, where "
        f"{search} proposes nothing, and are left out; shares are of the other "
        f"{len(table.trials) - outside}. Without --search all trials take part"
    )


def stopped_note(table: Table) -> str | None:
    """Say what the table lacks and how that affects a replay; None if it lacks nothing."""
    if not table.stopped:
        return None
    everything = len(table.trials) + table.stopped
    return (
        f"note: {table.stopped} of {everything} trials were stopped early and are left out, as "
        "their final values are unknown. The rest are what the sweep's own scheduler kept, so "
        "savings come out too small and losses by stopping are not seen; replay a sweep with "
        "scheduler.name: none instead"
    )


def as_json(found: Sequence[Simulated], table: Table, *, search: str, workers: int) -> Any:
    """Return what `as_text` shows as plain JSON values."""
    inside = len(reachable(table, search).trials)
    return {
        "trials": inside,
        "outside_and_left_out": len(table.trials) - inside,
        "stopped_and_left_out": table.stopped,
        "search": search,
        "workers": workers,
        "seeds": len(found[0].measures["finished"]),
        "schedulers": [
            {
                "scheduler": each.label,
                **{name: _entry(each.estimate(name)) for name in TITLES},
                "saved": {k: _entry(mean_interval(v)) for k, v in each.savings.items()},
            }
            for each in found
        ],
    }


def _scheduler(section: Mapping[str, Any], table: Table) -> SchedulerConfig:
    settings, problems = decode_settings({"scheduler": section})
    if not problems:
        module = plugins.load("sweeps.schedulers", settings.scheduler.name)
        problems = list(module.problems(settings.scheduler, table.objectives))
    if problems:
        raise ConfigError(problems)
    return settings.scheduler


def _label(section: Mapping[str, Any]) -> str:
    rest = [f"{key}={value}" for key, value in section.items() if key != "name"]
    return " ".join([str(section["name"]), *rest])


def _ood(trial: ReplayTrial, table: Table) -> float:
    """Return a trial's OOD objective (or else its last), signed so that high is good."""
    name = _OOD if _OOD in table.objectives else list(table.objectives)[-1]
    value = trial.values[name]
    return value if table.objectives[name] == "max" else -value


def _median_ood(trials: Sequence[ReplayTrial], table: Table) -> float:
    return float(np.median([_ood(trial, table) for trial in trials]))


def _share(values: Sequence[float], above: float) -> float:
    return sum(value > above for value in values) / len(values) if values else math.nan


def _ood_front(best: Sequence[ReplayTrial], front: Sequence[ReplayTrial], table: Table) -> float:
    """Return the share found of the front's half with the better OOD values."""
    half = {t.id for t in front if _ood(t, table) >= _median_ood(front, table)}
    return len(half & {trial.id for trial in best}) / len(half)


def _span(done: Sequence[ReplayTrial], table: Table, front: Any) -> float:
    """Return the found front's range as a share of the table's front's; mean over objectives."""
    points = np.asarray([[t.values[name] for name in table.objectives] for t in done])
    if not len(points):
        return 0.0
    mine = points[pareto_front(points, list(table.objectives.values()))]
    ranges, whole = np.ptp(mine, axis=0), np.ptp(front, axis=0)
    return float(
        np.mean([min(1.0, a / b) if b else 1.0 for a, b in zip(ranges, whole, strict=True)])
    )


def _cell(estimate: Estimate, scale: float) -> str:
    if math.isnan(estimate.low):
        return f"{scale * estimate.mean:.1f}"
    return f"{scale * estimate.mean:.1f} \u00b1 {scale * estimate.half_width:.1f}"


def _entry(estimate: Estimate) -> dict[str, float | None]:
    values = {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}
    return {key: None if math.isnan(value) else round(value, 6) for key, value in values.items()}
