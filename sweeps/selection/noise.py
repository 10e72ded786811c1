"""The noise of one training seed, and so the difference that n seeds can show (`rc-sweep power`).

It is measured on seeds that played no part in a choice: the new seeds of a confirmation, or the
seeds listed in a fixed design.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from rich.table import Table
from scipy import stats

from rc_core.config import seedless
from rc_core.errors import StorageError
from rc_core.record import TrialRecord
from sweeps.commands import command
from sweeps.floors import best_line, did_not_learn, no_better, standing
from sweeps.folder import REFERENCE_ID
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.remote.mirror import CONFIRM_SUFFIX
from sweeps.rows import reference_lines
from sweeps.selection.statistics import (
    detectable_difference,
    pair_noise,
    pooled_covariance,
    seeds_needed,
)
from sweeps.stored_sweep import StoredSweep
from sweeps.tables import render

# Level of the test: rows of equal noise seem to differ in this share of tables.
_UNEVEN = 0.1
# Numbers of seeds in the table of `rc-sweep power`.
_NUM_SEEDS = (2, 3, 5, 8, 10, 15, 20, 30)


def uneven_noise(rows: Sequence[Mapping[int, float]]) -> tuple[float, float] | None:
    """Return the smallest and largest standard deviation of a row, None unless rows differ.

    Bartlett's test at 10 %. Pooled noise makes the intervals of the noisier rows too narrow.

    Args:
        rows: seed -> value, one per configuration; those with fewer than three seeds are ignored.
    """
    values = [np.array([*row.values()]) for row in rows if len(row) > 2]
    values = [each for each in values if np.isfinite(each).all() and each.std() > 0]
    if len(values) < 2 or stats.bartlett(*values).pvalue >= _UNEVEN:
        return None
    deviations = [float(each.std(ddof=1)) for each in values]
    return min(deviations), max(deviations)


@dataclass(frozen=True)
class Noise:
    """The noise of one training seed.

    Attributes:
        metrics: k names.
        covariance: (k, k) of one seed's values around its configuration's mean; NaN where unknown.
        df: its degrees of freedom; 0: unknown.
        pairs: metric -> standard deviation of one seed's difference between two configurations.
        pairs_df: metric -> its degrees of freedom.
    """

    metrics: Sequence[str]
    covariance: np.ndarray[Any, Any]
    df: int
    pairs: Mapping[str, float]
    pairs_df: Mapping[str, int]

    @property
    def deviations(self) -> dict[str, float]:
        """Metric -> standard deviation of one seed; empty where unknown."""
        if not self.df:
            return {}
        return {m: float(np.sqrt(self.covariance[i, i])) for i, m in enumerate(self.metrics)}

    def deviation(self, metric: str) -> float:
        """Return the standard deviation of one seed, NaN where unknown."""
        return self.deviations.get(metric, math.nan)


def by_configuration(records: Sequence[TrialRecord]) -> dict[str, dict[int, TrialRecord]]:
    """Return finished trials by configuration without its seeds, then by training seed."""
    groups: dict[str, dict[int, TrialRecord]] = {}
    for record in records:
        if record.status == "finished":
            seed = record.config["training"]["seed"]
            groups.setdefault(seedless(record.config), {})[seed] = record
    return groups


def noise_of(groups: Mapping[str, Mapping[int, TrialRecord]], metrics: Sequence[str]) -> Noise:
    """Return the noise of one seed, pooled over configurations."""
    points = [
        np.array([[record.metric(name) for name in metrics] for record in trials.values()])
        for trials in groups.values()
    ]
    covariance, df = pooled_covariance(points)
    found = {
        m: pair_noise([{s: r.metric(m) for s, r in trials.items()} for trials in groups.values()])
        for m in metrics
    }
    return Noise(
        metrics,
        covariance,
        df,
        {m: deviation for m, (deviation, _) in found.items()},
        {m: freedom for m, (_, freedom) in found.items()},
    )


def unselected(sweep: StoredSweep) -> tuple[StoredSweep, list[TrialRecord], bool] | None:
    """Return the seeds of a sweep that played no part in a choice; None if there are none.

    Returns:
        The sweep that holds them, their trials, and whether they are a fixed design's own (with two
        for some configuration) rather than a confirmation's.
    """
    again = sweep.confirmation
    if again is not None:
        # Its reference is the searched teacher, not a new seed.
        return again, [record for record in again.records if record.id != REFERENCE_ID], False
    if sweep.config.get("design") != "fixed" or sweep.name.endswith(CONFIRM_SUFFIX):
        return None
    records = sweep.records
    if all(len(trials) < 2 for trials in by_configuration(records).values()):
        return None
    return sweep, records, True


def measured_noise(sweep: StoredSweep) -> Noise:
    """Return the noise measured by a sweep's confirmation, or by a fixed design's own seeds.

    Raises:
        StorageError: no configuration has two seeds of that kind yet.
    """
    seeded = unselected(sweep)
    if seeded is not None:
        found = noise_of(by_configuration(seeded[1]), (ID_KEY, OOD_KEY))
        if found.df:
            return found
    listed = seeded is None and sweep.config.get("design") == "fixed"
    kind = "two seeds" if listed else "two new seeds"
    remedy = (
        "list several under space: training.seed"
        if listed
        else f"run: {command(sweep.folder, 'confirm')}"
    )
    raise StorageError(
        f"the noise of {sweep.name} must be known, but no configuration has {kind} yet; {remedy}"
    )


def unlearned(sweep: StoredSweep) -> list[str]:
    """Return warnings if the noise of a sweep is that of models that learned nothing.

    Empty where the records hold no trivial baselines.
    """
    lines = reference_lines(sweep.records)
    seeded = unselected(sweep)
    groups = by_configuration(seeded[1]) if seeded is not None else {}
    found = []
    reference = next((r for r in sweep.records if r.reference and r.status == "finished"), None)
    if reference is not None:
        reason = did_not_learn(reference.metric(ID_KEY), lines)
        found += [reason] if reason is not None else []
    for role, key, what in (("id_dev", ID_KEY, "ID"), ("ood_dev", OOD_KEY, "OOD")):
        line = best_line(lines, role)
        means = [sum(r.metric(key) for r in g.values()) / len(g) for g in groups.values()]
        if line is not None and means and all(standing(m, line) == "no better than" for m in means):
            found.append(no_better(f"the {what} accuracy of every configuration", line))
    if not found:
        return []
    return [
        *(f"warning: {line}" for line in found),
        "What follows is the noise of models that learned nothing; it does not carry over to "
        "models that did. Train longer or with another learning rate first.",
    ]


def power_text(name: str, found: Noise, *, difference: float = 2.0) -> str:
    """Return what n seeds can show between two configurations.

    Args:
        name: of the sweep.
        found: its noise, of both dev accuracies, known.
        difference: in points; the number of seeds that it needs is stated too.
    """
    title = f"what seeds can show: {name}, two configurations, same seeds, 80 % power"
    keys = (ID_KEY, OOD_KEY)
    alone = (
        "Another training seed alone moves a configuration by about "
        f"{100 * found.deviation(ID_KEY):.1f} ID points and "
        f"{100 * found.deviation(OOD_KEY):.1f} OOD points"
    )
    if any(math.isnan(found.pairs[key]) for key in keys):
        return f"{alone}.\nThe table needs at least two configurations that share two seeds."
    still = [what for key, what in zip(keys, ("ID", "OOD"), strict=True) if not found.pairs[key]]
    unmoved = [
        f"Every seed moved all {what} accuracies alike, which can be chance with so few seeds (or "
        "the models always give the same answer): the noise of differences is not known."
        for what in still
    ]
    if len(still) == len(keys):
        return "\n".join([f"{alone}.", *unmoved])
    table = Table()
    table.add_column("seeds", justify="right")
    for column in ("ID points", "OOD points"):
        table.add_column(column, justify="right")
    for n in _NUM_SEEDS:
        cells = [
            100 * detectable_difference(found.pairs[key], n, df=found.pairs_df[key]) for key in keys
        ]
        # Zero noise means that the noise is not known.
        table.add_row(str(n), *(f"{v:.1f}" if 0 < v < math.inf else "-" for v in cells))
    lines = [
        "A difference smaller than the one in the table is missed more than one time in five.",
        f"{alone},",
        f"and the difference of two configurations by {100 * found.pairs[ID_KEY]:.1f} and "
        f"{100 * found.pairs[OOD_KEY]:.1f} (standard deviations, {found.df} repeated trainings).",
    ]
    for key, what in zip(keys, ("ID", "OOD"), strict=True):
        needed = seeds_needed(difference / 100, found.pairs[key], df=found.pairs_df[key])
        shown = "more than 1,000" if needed is None else str(needed)
        if found.pairs[key] == 0:
            continue
        lines.append(f"To show {difference:g} {what} points: {shown} seeds.")
    return "\n".join([title, render(table), *lines, *unmoved])


def power_json(sweep: StoredSweep, *, difference: float = 2.0) -> dict[str, Any]:
    """Return what n seeds can show between two configurations, as plain JSON values.

    Args:
        sweep: confirmed, or a fixed design of several seeds.
        difference: in points; the seeds that show it with 80 % power are returned too.

    Returns:
        By metric, as shares, null where unknown: `one_seed` and `difference_of_two`, the standard
        deviations of one configuration and of the difference between two with the same seed;
        `detectable`, by number of seeds; `seeds_needed` for `difference`, null also above 1,000.
        Also `repeated_trainings` and `warnings`.

    Raises:
        StorageError: as in `measured_noise`.
    """
    found = measured_noise(sweep)
    # Zero noise means that the noise is not known.
    known = {key: v for key in (ID_KEY, OOD_KEY) if (v := found.pairs[key]) > 0}

    def of_both(value: Callable[[str], float | None]) -> dict[str, float | None]:
        shown = {key: value(key) if key in known else None for key in (ID_KEY, OOD_KEY)}
        return {key: v if v is not None and math.isfinite(v) else None for key, v in shown.items()}

    def detectable(n: int, key: str) -> float:
        return detectable_difference(known[key], n, df=found.pairs_df[key])

    return {
        "sweep": sweep.name,
        "one_seed": {key: found.deviation(key) for key in (ID_KEY, OOD_KEY)},
        "difference_of_two": of_both(known.__getitem__),
        "detectable": {str(n): of_both(partial(detectable, n)) for n in _NUM_SEEDS},
        "difference": difference / 100,
        "seeds_needed": of_both(
            lambda key: seeds_needed(difference / 100, known[key], df=found.pairs_df[key])
        ),
        "repeated_trainings": found.df,
        "warnings": [line.removeprefix("warning: ") for line in unlearned(sweep)],
    }
