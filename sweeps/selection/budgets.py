"""The best trade-off within a size budget: 10, 25, 50, 100 % of the dense reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from rc_core.errors import StorageError
from rc_core.metrics.footprint import NONZERO, PACKED, has_rounded, packed_bytes
from sweeps.constraints import Constraint
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.pareto import knee
from sweeps.selection.choose import Option, front, paired, sieve
from sweeps.shown_values import null, points, share
from sweeps.tables import render

BUDGETS = (0.10, 0.25, 0.50, 1.0)
SIZES = {
    NONZERO: "non-zero parameters",
    "footprint/bytes": "bytes",
    PACKED: "packed bytes",
}


@dataclass(frozen=True)
class Budget:
    """The best trade-off within one size budget.

    Attributes:
        measure: metric of the size.
        share: the budget as a share of the dense reference's size.
        limit: the budget in the unit of `measure`.
        fitting: number of compressed models within it.
        front: their Pareto front.
        best: the knee of that front, None if nothing fits.
        smallest: size of the smallest compressed model.
    """

    measure: str
    share: float
    limit: float
    fitting: int
    front: Sequence[Option]
    best: Option | None
    smallest: float


def budgets(
    options: Sequence[Option],
    objectives: Mapping[str, str],
    *,
    wheres: Sequence[Constraint] = (),
    shares: Sequence[float] = BUDGETS,
) -> list[Budget]:
    """Return the best trade-off of each size budget, for each measure of size.

    Where weights are rounded, packed bytes replace non-zero parameters.

    Raises:
        StorageError: the dense reference has not finished, or there is no compressed model.
    """
    # Budgets are shares of the reference even if a constraint, usually on size, excludes it.
    reference = next((o for o in options if o.reference and o.metrics), None)
    if reference is None:
        raise StorageError("budgets are shares of the dense reference, which has not finished")
    kept, _ = sieve(options, objectives, wheres)
    compressed = [option for option in kept if not option.reference]
    if not compressed:
        raise StorageError(
            "budgets need a finished compressed model that meets every constraint, but there is "
            "none; --why TRIAL says why one is excluded"
        )
    found = []
    # Without rounded weights the two are equivalent.
    counted = PACKED if any(has_rounded(option.metrics) for option in compressed) else NONZERO
    for measure in SIZES:
        if measure in (NONZERO, PACKED) and measure != counted:
            continue
        sizes = [size for o in compressed if not math.isnan(size := _measured(o, measure))]
        for part in shares:
            limit = part * _measured(reference, measure)
            fitting = [option for option in compressed if _measured(option, measure) <= limit]
            inside = front(fitting, objectives)
            places = [option.point(objectives) for option in inside]
            best = inside[knee(places, list(objectives.values()))] if inside else None
            smallest = min(sizes, default=math.nan)
            found.append(Budget(measure, part, limit, len(fitting), inside, best, smallest))
    return found


def budget_table(found: Sequence[Budget], options: Sequence[Option]) -> str:
    """Return the budgets as text, one measure below the other."""
    reference = next(option for option in options if option.reference)
    table = Table(title="best trade-off within a size budget", title_justify="left")
    for title in ("of dense", "size at most"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("fit", "on front", "best trade-off"):
        table.add_column(title, no_wrap=title != "best trade-off")
    for title in ("ID %", "OOD %", "OOD vs dense", "size"):
        table.add_column(title, justify="right", no_wrap=True)
    for i, budget in enumerate(found):
        if i == 0 or budget.measure != found[i - 1].measure:
            table.add_section()
            table.add_row("", "", "", "", Text(SIZES[budget.measure], style="bold"))
        part = f"{100 * budget.share:.0f} %"
        limit = _size(budget.limit, budget.measure)
        if budget.best is None:
            smallest = f"nothing fits; smallest: {_size(budget.smallest, budget.measure)}"
            if math.isnan(budget.smallest):
                smallest = "not measured"
            table.add_row(part, limit, "0", "0", smallest)
            continue
        best = budget.best
        ours, dense = paired(best, reference)
        difference = 100 * (ours.metric(OOD_KEY) - dense.metric(OOD_KEY))
        table.add_row(
            part,
            limit,
            str(budget.fitting),
            str(len(budget.front)),
            Text(f"{best.id} {best.name}"),
            share(best.metric(ID_KEY)),
            share(best.metric(OOD_KEY)),
            points(difference),
            _size(_measured(best, budget.measure), budget.measure),
        )
    packed = any(budget.measure == PACKED for budget in found)
    notes = [
        "best trade-off: the knee of the front of the compressed models that fit",
        "packed bytes omit zeroed weights and count rounded ones by their bits; bytes count both "
        "in full, as ordinary runtimes store and compute them"
        if packed
        else "non-zero parameters omit zeroed weights; bytes count them in full, as ordinary "
        "runtimes store and compute them",
    ]
    chosen = [budget.best for budget in found if budget.best is not None]
    if any(not each.seeds for each in chosen):
        notes.append("one training seed each: differences of a few points may be luck")
    elif chosen:
        notes.append("means over seeds")
    table.caption, table.caption_justify = Text("\n".join(notes)), "left"
    return render(table)


def budgets_json(
    found: Sequence[Budget], options: Sequence[Option], objectives: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the budgets for JSON: sizes in the unit of their metric, others as in `rows.UNITS`."""
    reference = next(option for option in options if option.reference)

    def best(budget: Budget, chosen: Option) -> dict[str, Any]:
        ours, dense = paired(chosen, reference)
        return {
            "id": chosen.id,
            "name": chosen.name,
            "values": {name: null(chosen.metric(name)) for name in objectives},
            "ood_difference": null(100 * (ours.metric(OOD_KEY) - dense.metric(OOD_KEY))),
            "size": null(_measured(chosen, budget.measure)),
            "new_seeds": chosen.seeds,
        }

    return [
        {
            "measure": each.measure,
            "share": each.share,
            "limit": null(each.limit),
            "fitting": each.fitting,
            "front": [option.id for option in each.front],
            "best": None if each.best is None else best(each, each.best),
            "smallest": null(each.smallest),
        }
        for each in found
    ]


def _measured(option: Option, measure: str) -> float:
    return packed_bytes(option.metrics) if measure == PACKED else option.metric(measure)


def _size(value: float, measure: str) -> str:
    if math.isnan(value):
        return "-"
    unit = "B" if measure.endswith("bytes") else ""
    return f"{value / 1e6:.1f} M{unit}" if value >= 1e6 else f"{value / 1e3:.1f} k{unit}"
