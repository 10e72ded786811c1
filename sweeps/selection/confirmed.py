"""The result of a confirmation: one row per configuration, over its new seeds.

The search's value stands beside the mean and is never part of it: it was chosen for being high. A
fixed design that lists several seeds needs no confirmation: nothing was chosen by them, so these
seeds are used (`own`).

Training noise is pooled over configurations (statistics.py; chances.py for the probability of being
on the front, where shared seeds count as shared). Two configurations are called different only
where the paired interval excludes zero *and* the difference is large enough for this many seeds to
detect (80 % power).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rc_core.config import seedless
from rc_core.metrics.robustness import gap_standard_error, guarded_relative_bias
from rc_core.record import TrialRecord, counted_samples
from sweeps.constraints import parse
from sweeps.folder import SweepFolder
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.pareto import pareto_front
from sweeps.rows import rows as rows_of
from sweeps.selection.answers import read_clusters
from sweeps.selection.chances import front_probabilities, seed_noise
from sweeps.selection.choose import over_seeds, sieve
from sweeps.selection.compared import Reader, relative_bias
from sweeps.selection.noise import Noise, by_configuration, noise_of, unselected
from sweeps.selection.one_start import has_one_start
from sweeps.selection.statistics import (
    Difference,
    Estimate,
    mean_interval,
    paired_difference,
    verdict,
)
from sweeps.stored_sweep import StoredSweep

# Configurations with at least this probability of being on the front are confirmed (`_marked`).
ON_FRONT = 0.5


@dataclass(frozen=True)
class ConfirmedRow:
    """One configuration over its new seeds.

    Attributes:
        id: of the searched trial; in a fixed design the first seed's, whose model is exported.
        name: of the searched trial.
        reference: whether it is the dense, vanilla configuration.
        trials: seed -> finished record of the confirmation (or of the design).
        searched: metric -> value of the trial `id`; in a search, the value it was chosen by.
        searched_front: whether it is on the search's front of compressed models.
        estimates: metric -> mean and interval over these seeds.
        chance: probability of being on the front of compressed models; None: excluded or unknown.
        confirmed: whether `chance` is at least `ON_FRONT`; if that holds for no row, whether it is
            on the front of the means (of two seeds or more, if some have them).
        against_reference: OOD accuracy minus the dense configuration's in points, paired by seed.
        bias: F_bias of mean accuracies; NaN where undefined. It has an interval (over seeds and
            samples) only where the clusters are known, see sweeps/selection/answers.py.
        bias_reason: why it is undefined.
        excluded: why its means are excluded from the front (a constraint), else None.
    """

    id: str
    name: str
    reference: bool
    trials: Mapping[int, TrialRecord]
    searched: Mapping[str, float]
    searched_front: bool
    estimates: Mapping[str, Estimate]
    chance: float | None
    confirmed: bool
    against_reference: Difference | None
    bias: Estimate
    bias_reason: str | None
    excluded: str | None = None

    @property
    def seeds(self) -> int:
        return len(self.trials)

    @property
    def one_start(self) -> bool:
        """Whether all its seeds start from one dense model; see `one_start.has_one_start`."""
        return has_one_start(self.trials.values())

    def values(self, metric: str) -> dict[int, float]:
        """Return seed -> value."""
        return {seed: record.metric(metric) for seed, record in sorted(self.trials.items())}


@dataclass(frozen=True)
class Confirmed:
    """A confirmation as a whole.

    Attributes:
        sweep: name of the confirmed sweep.
        rows: configurations with new seeds, the likeliest on the front first, the reference last.
        noise: of one seed.
        trained: number of trainings done.
        everything: number of trainings if all configurations had all seeds.
        own: whether the seeds are a fixed design's own, not new ones.
        failed: number of trials of the confirmation that failed.
    """

    sweep: str
    rows: Sequence[ConfirmedRow]
    noise: Noise
    trained: int
    everything: int
    failed: int
    own: bool = False

    @property
    def seeds_are(self) -> str:
        """How texts refer to the seeds."""
        return "seeds" if self.own else "new seeds"


def confirmed(sweep: StoredSweep) -> Confirmed | None:
    """Return what the confirmation of a sweep shows so far, None without one.

    For a fixed design without one: what its own seeds show, if any configuration has two.
    """
    seeded = unselected(sweep)
    if seeded is None:
        return None
    found, records, own = seeded
    known = sweep.records
    metrics = list(dict.fromkeys([*sweep.objectives, ID_KEY, OOD_KEY]))
    groups = by_configuration(records)
    points = {
        key: np.array([[r.metric(name) for name in metrics] for r in trials.values()])
        for key, trials in groups.items()
    }
    noise = noise_of(groups, metrics)
    searched: dict[str, TrialRecord] = {}
    for record in known:
        if record.status == "finished":
            searched.setdefault(seedless(record.config), record)
    standing = rows_of(known, sweep.objectives, constraints=sweep.constraints)
    chosen = {row.id for row in standing if row.candidate}
    rules = [parse(text) for text in sweep.constraints]
    over = [over_seeds(searched[key], groups[key]) for key in groups if key in searched]
    # Judged by the new figures, as in picks: the search's seed may have been lucky.
    why = sieve(over, sweep.objectives, rules)[1]
    contenders = [
        key
        for key in groups
        if key in searched and not searched[key].reference and searched[key].id not in why
    ]
    chances = _chances(sweep, contenders, groups)
    reference = next((key for key in groups if key in searched and searched[key].reference), None)
    marked = _marked(sweep, chances, points, metrics)
    reader = Reader(read_clusters(sweep.folder.clusters))
    rows = [
        _row(
            searched[key],
            searched[key].id in chosen and not own,
            found.folder,
            groups[key],
            noise,
            chances.get(key),
            key in marked,
            groups.get(reference) if reference is not None and key != reference else None,
            reader,
            why.get(searched[key].id),
        )
        for key in groups
        if key in searched
    ]
    rows.sort(key=lambda row: (row.reference, -(row.chance if row.chance is not None else -1.0)))
    return Confirmed(
        sweep=sweep.name,
        rows=rows,
        noise=noise,
        trained=sum(record.status in ("finished", "failed") for record in records),
        everything=len(records if own else found.config["search"]["points"]),
        failed=sum(record.status == "failed" for record in records),
        own=own,
    )


def cannot_be_told_apart(
    found: Confirmed, first: ConfirmedRow, second: ConfirmedRow, metric: str
) -> bool:
    """Tell whether the available seeds show no difference on a metric, with pooled noise.

    They show none if all seeds of just one of the two share one start.
    """
    if first.one_start != second.one_start:
        return True
    a, b = first.values(metric), second.values(metric)
    shared = sorted(set(a) & set(b))
    deviation, df = found.noise.pairs[metric], found.noise.pairs_df[metric]
    each = paired_difference(
        [a[s] for s in shared], [b[s] for s in shared], deviation=deviation, df=df
    )
    return verdict(each.mean, each.low, each.high, each.n, deviation, df=df) == "open"


def alike(found: Confirmed, first: ConfirmedRow, second: ConfirmedRow) -> bool:
    """Tell whether the available seeds show no difference, ID or OOD, with pooled noise."""
    return all(cannot_be_told_apart(found, first, second, key) for key in (ID_KEY, OOD_KEY))


def optimism(found: Confirmed, metric: str) -> Estimate:
    """Return by how much the search's values on its front exceed those of new seeds.

    The mean is over all rows that the search chose: those confirmed were chosen by the new seeds,
    which would hide part of the optimism. The interval is from the pooled noise of one seed and
    does not cover the shared effect of the search's seed.
    """
    chosen = [row for row in found.rows if row.searched_front and row.seeds]
    if not chosen or not found.noise.df:
        return mean_interval([])
    # One seed against the mean of several.
    spread = math.sqrt(1 + float(np.mean([1 / row.seeds for row in chosen])))
    return mean_interval(
        [row.searched[metric] - row.estimates[metric].mean for row in chosen],
        deviation=found.noise.deviation(metric) * spread,
        df=found.noise.df,
    )


def _row(
    record: TrialRecord,
    searched_front: bool,
    folder: SweepFolder,
    trials: Mapping[int, TrialRecord],
    noise: Noise,
    chance: float | None,
    marked: bool,
    reference: Mapping[int, TrialRecord] | None,
    reader: Reader,
    excluded: str | None,
) -> ConfirmedRow:
    estimates = {
        metric: mean_interval(
            [each.metric(metric) for each in trials.values()],
            deviation=noise.deviation(metric),
            df=noise.df,
        )
        for metric in noise.metrics
    }
    against = None
    if reference is not None:
        shared = sorted(set(trials) & set(reference))
        against = paired_difference(
            [100 * trials[seed].metric(OOD_KEY) for seed in shared],
            [100 * reference[seed].metric(OOD_KEY) for seed in shared],
            deviation=100 * noise.pairs[OOD_KEY],
            df=noise.pairs_df[OOD_KEY],
        )
    # The dense row's is 1, or undefined where its own gap is not meaningful.
    bias, reason = _bias(folder, trials, trials if record.reference else reference, reader)
    return ConfirmedRow(
        id=record.id,
        name=record.name,
        reference=record.reference,
        trials=trials,
        searched={metric: record.metric(metric) for metric in noise.metrics},
        searched_front=searched_front,
        estimates=estimates,
        chance=chance,
        confirmed=marked,
        against_reference=against,
        bias=bias,
        bias_reason=reason,
        excluded=excluded,
    )


def _bias(
    folder: SweepFolder,
    trials: Mapping[int, TrialRecord],
    reference: Mapping[int, TrialRecord] | None,
    reader: Reader,
) -> tuple[Estimate, str | None]:
    """Return F_bias over shared seeds and why it is undefined, as in `ConfirmedRow`."""
    shared = sorted(set(trials) & set(reference or {}))
    if reference is None or not shared:
        return Estimate(math.nan, math.nan, math.nan, 0), "it shares no seed with the dense row"
    ours, theirs = (
        {seed: folder.trial(side[seed].id) for seed in shared} for side in (trials, reference)
    )
    found = relative_bias(reader, ours, theirs, "dev")
    if found is not None:
        return found
    means = [
        float(np.mean([side[s].metric(key) for s in shared]))
        for side in (trials, reference)
        for key in (ID_KEY, OOD_KEY)
    ]
    gaps = [reference[s].metric(ID_KEY) - reference[s].metric(OOD_KEY) for s in shared]
    half_width = mean_interval(gaps).half_width
    sizes = counted_samples(next(iter(reference.values())).data, "dev")
    error = gap_standard_error(*means[2:], sizes=sizes, half_width=half_width)
    value, reason = guarded_relative_bias(*means, reference_gap_standard_error=error)
    return Estimate(value, math.nan, math.nan, len(shared)), reason


def _marked(
    sweep: StoredSweep,
    chances: Mapping[str, float],
    points: Mapping[str, np.ndarray[Any, Any]],
    metrics: Sequence[str],
) -> set[str]:
    """Return which configurations count as confirmed; none while the noise is unknown.

    If many similar rows share the front, none may be more likely on it than not; then the front of
    the means decides, of those with two seeds or more if any, as the best of many single seeds is
    the luckiest.
    """
    likely = {key for key, chance in chances.items() if chance >= ON_FRONT}
    if likely or not chances:
        return likely
    columns = [metrics.index(name) for name in sweep.objectives]
    several = [key for key in chances if len(points[key]) > 1] or [*chances]
    means = [points[key][:, columns].mean(axis=0) for key in several]
    on_front = pareto_front(means, list(sweep.objectives.values()))
    return {key for key, inside in zip(several, on_front, strict=True) if inside}


def _chances(
    sweep: StoredSweep,
    contenders: Sequence[str],
    groups: Mapping[str, Mapping[int, TrialRecord]],
) -> dict[str, float]:
    """Return configuration -> probability of being on the front; empty if noise is unknown."""
    rows = {}
    for key, trials in groups.items():
        values = {s: [r.metric(name) for name in sweep.objectives] for s, r in trials.items()}
        if np.isfinite([*values.values()]).all():
            rows[key] = values
    # The dense row and rows that miss a constraint are informative about the noise too.
    noise = seed_noise([*rows.values()])
    valid = [key for key in contenders if key in rows]
    if noise is None or not valid:
        return {}
    directions = list(sweep.objectives.values())
    chances = front_probabilities([rows[key] for key in valid], noise, directions)
    return dict(zip(valid, map(float, chances), strict=True))
