"""What there is to choose from in a sweep: means over new seeds once they exist.

Before a confirmation: every finished trial, by its one seed. After it: only the configurations that
got new seeds, as the search's values would flatter the others. A fixed design with several seeds is
chosen from by its means too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from rc_core.errors import ConfigError, Problem, StorageError, did_you_mean
from rc_core.metrics import latency
from rc_core.record import TrialRecord
from sweeps.commands import command
from sweeps.constraints import Constraint, parse
from sweeps.exclusion import unfinished
from sweeps.rows import rows
from sweeps.selection.choose import (
    PICKS,
    Option,
    check_wheres,
    choose,
    over_seeds,
    parse_weights,
    sieve,
)
from sweeps.selection.confirmed import Confirmed, ConfirmedRow, confirmed
from sweeps.selection.confirmed import alike as told_alike
from sweeps.selection.measured import check_measured, intervals, latencies, remedy, with_latency
from sweeps.stored_sweep import StoredSweep


def options(sweep: StoredSweep, found: Confirmed | None = None) -> list[Option]:
    """Return one option per configuration of the search, in the order of its trials.

    Args:
        sweep: any.
        found: its confirmation, where there is one.
    """
    known = {row.id: row for row in found.rows} if found is not None else {}
    timed, records = latencies(sweep.folder), sweep.records
    spread = intervals(sweep.folder)
    searched = rows(records, sweep.objectives, constraints=sweep.constraints)
    why = {row.id: row.excluded for row in searched}
    found_options = [
        _confirmed(record, known[record.id], timed.get(record.id, {}))
        if record.id in known
        else Option(
            id=record.id,
            name=record.name,
            reference=record.reference,
            metrics=record.metrics,
            bias=_own_bias(record),
            excluded=unfinished(record) or _without_seeds(sweep, record, found, why),
            undefined=record.undefined,
        )
        for record in with_latency(sweep.folder, records)
    ]
    return [replace(option, spread=spread.get(option.id, {})) for option in found_options]


def constraints(sweep: StoredSweep, wheres: Iterable[str] = ()) -> list[Constraint]:
    """Return the sweep's constraints and the user's.

    Raises:
        ConfigError: a constraint cannot be parsed.
        StorageError: one names a latency, but none was measured.
    """
    extra = check_wheres(wheres)
    check_measured(sweep.folder, extra)
    command = remedy(sweep.folder)
    timed = [replace(e, remedy=command) if e.metric in latency.METRICS else e for e in extra]
    return [*(parse(text) for text in sweep.constraints), *timed]


def misses(sweep: StoredSweep, found: Confirmed, wheres: Iterable[str] = ()) -> dict[str, str]:
    """Return configuration -> which constraint its means miss.

    Args:
        sweep: any.
        found: its configurations over seeds.
        wheres: constraints on top of the sweep's.

    Raises:
        ConfigError: a constraint cannot be parsed.
        StorageError: one names a latency, but none was measured.
    """
    ids = {row.id for row in found.rows}
    available = [option for option in options(sweep, found) if option.id in ids]
    return sieve(available, sweep.objectives, constraints(sweep, wheres))[1]


def pick(
    sweep: StoredSweep, which: str, *, wheres: Iterable[str] = (), weights: Sequence[str] = ()
) -> str:
    """Return the id of the trial that a pick names.

    Args:
        sweep: any.
        which: a key of `sweeps.selection.choose.PICKS`, or a trial's id.
        wheres: constraints on top of the sweep's, such as `footprint/parameters <= 20e6`.
        weights: `metric=weight` for `weighted`.

    Raises:
        ConfigError: a constraint or weight cannot be parsed, or weights with another pick.
        StorageError: no such pick, a pick of a confirmation, nothing meets the constraints, the
            trial asked for misses one of `wheres`, or no latency was measured.
    """
    every = constraints(sweep, wheres)
    wanted = parse_weights(weights, sweep.objectives)
    if weights and which != "weighted":
        told = f"belongs to --pick weighted, but the pick is {which}; leave it out, or use weighted"
        raise ConfigError(Problem("--weight", told))
    ids = [record.id for record in sweep.records]
    if which in ids:
        # A trial that is named may be one that the sweep's own constraints exclude.
        _check_meets(sweep, which, every[len(sweep.constraints) :])
        return which
    if which not in PICKS:
        raise StorageError(
            f"no pick '{which}' in sweep {sweep.name}: {did_you_mean(which, [*PICKS, *ids])}"
        )
    base = sweep.searched
    if base is not sweep:
        # Its front would be of single seeds, some of them the dense model's.
        again = command(base.folder, "export", "--pick", which, "--out", "DIR")
        raise StorageError(
            f"a pick must be of a sweep that searched, but {sweep.name} holds the new seeds of "
            f"{base.name}; choose by their means: {again}"
        )
    available = options(sweep, confirmed(sweep))
    if not any(option.excluded is None for option in available):
        raise StorageError(f"the front of sweep {sweep.name} is empty: no trial finished")
    return choose(available, sweep.objectives, which, wheres=every, weights=wanted).id


def _check_meets(sweep: StoredSweep, trial_id: str, wheres: Sequence[Constraint]) -> None:
    """Check that a trial, if finished, meets the user's constraints. Raises StorageError."""
    finished = {record.id for record in sweep.records if record.status == "finished"}
    if not wheres or trial_id not in finished:
        return
    available = [replace(option, excluded=None) for option in options(sweep, confirmed(sweep))]
    reason = sieve(available, {}, wheres)[1].get(trial_id)
    if reason is not None:
        raise StorageError(
            f"{trial_id} must meet the given constraints, but {reason}; leave the constraint out, "
            "or take another trial"
        )


def alike(found: Confirmed | None) -> Callable[[str, str], bool] | None:
    """Return a test of whether new seeds cannot tell two configurations apart, or None."""
    if found is None or not found.noise.df:
        return None
    rows = {row.id: row for row in found.rows}

    def same(first: str, second: str) -> bool:
        return first in rows and second in rows and told_alike(found, rows[first], rows[second])

    return same


def _confirmed(record: TrialRecord, row: ConfirmedRow, timed: Mapping[str, float]) -> Option:
    option = over_seeds(record, row.trials)
    return replace(
        option,
        # Latency is that of the searched trial, which is exported; a seed changes no shape.
        metrics={**option.metrics, **timed},
        bias=None if row.reference else (row.bias.mean, row.bias_reason),
    )


def _own_bias(record: TrialRecord) -> tuple[float, str | None] | None:
    """Return F_bias from the trial's own record, None if it has none.

    The guard behind it knew the sample counts of the reference's gap.
    """
    key = "ood_dev/relative_bias"
    if key not in record.metrics:
        return None
    return record.metric(key), record.undefined.get(key)


def _without_seeds(
    sweep: StoredSweep,
    record: TrialRecord,
    found: Confirmed | None,
    searched: Mapping[str, str | None],
) -> str | None:
    """Return why a trial whose configuration has no row is not an option, None if it is."""
    if found is None or not found.rows:
        return None
    if found.own:
        return "it is one seed of a configuration, which counts by its mean"
    if searched[record.id] is not None:
        # Why it got no new seeds.
        return searched[record.id]
    return "it got no new seeds, as its standing was clear without them; to add some: " + command(
        sweep.folder, "confirm", "--also", record.id
    )
