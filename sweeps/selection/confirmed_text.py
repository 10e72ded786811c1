"""A confirmation as a table for people and as plain JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from rc_core.labels import count_of
from rc_core.metrics.robustness import without_amounts
from sweeps.exclusion import UNDECIDED
from sweeps.fixed_design import ADD_DENSE
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.selection.confirmed import ON_FRONT, Confirmed, ConfirmedRow, optimism
from sweeps.selection.confirmed import alike as told_alike
from sweeps.selection.noise import uneven_noise
from sweeps.selection.one_start import SEARCH_TEACHERS, one_start_note
from sweeps.selection.stamp import named
from sweeps.selection.statistics import (
    Difference,
    Estimate,
    detectable_difference,
    verdict,
)
from sweeps.shown_values import null, points, share
from sweeps.tables import render

# Units of the JSON document, by key.
_UNITS = {
    "accuracy": "share from 0 to 1, everywhere (estimates, searched)",
    "deviations, pair_deviations, optimism": "as their metric: shares, not points",
    "relative_bias": "ratio, 1 for the dense row",
    "on_front": "probability from 0 to 1",
}


def confirmed_table(found: Confirmed) -> str:
    """Return the confirmation as text that needs no knowledge of statistics."""
    title = "means over the design's seeds" if found.own else "confirmed with new seeds"
    table = Table(title=f"{title}: {found.sweep}", title_justify="left")
    for title in ("", "id", "name", "seeds"):
        table.add_column(title, no_wrap=title != "name", justify="left")
    said = () if found.own else ("search said",)
    for title in ("ID %", "OOD %", *said, "OOD vs dense", "OOD is", "F_bias", "on front"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in found.rows:
        searched = "/".join(f"{100 * row.searched[key]:.1f}" for key in (ID_KEY, OOD_KEY))
        table.add_row(
            "*" if row.confirmed else "",
            row.id,
            Text(f"{row.name} (dense reference)" if row.reference else row.name),
            str(row.seeds),
            share_text(row.estimates[ID_KEY]),
            share_text(row.estimates[OOD_KEY]),
            *(() if found.own else (searched,)),
            points_text(row.against_reference),
            dense_text(row, found),
            bias_text(row),
            "" if row.chance is None else f"{100 * row.chance:.0f} %",
            style="bold" if row.confirmed else None,
        )
    table.caption, table.caption_justify = Text("\n".join(notes(found))), "left"
    return render(table, width=140)


def confirmed_json(found: Confirmed) -> dict[str, Any]:
    """Return the confirmation as plain JSON values (NaN as null)."""
    return {
        "sweep": found.sweep,
        "units": dict(_UNITS),
        "trained": found.trained,
        "everything": found.everything,
        "own_seeds": found.own,
        "failed": found.failed,
        "deviations": {key: null(value) for key, value in found.noise.deviations.items()},
        "pair_deviations": {key: null(value) for key, value in found.noise.pairs.items()},
        "degrees_of_freedom": found.noise.df,
        "optimism": {
            key: {"mean": null(each.mean), "low": null(each.low), "high": null(each.high)}
            for key, each in ((name, optimism(found, name)) for name in (ID_KEY, OOD_KEY))
        },
        "rows": [
            {
                "id": row.id,
                "name": row.name,
                "reference": row.reference,
                "confirmed": row.confirmed,
                "excluded": row.excluded,
                "on_front": row.chance,
                "seeds": sorted(row.trials),
                "searched_front": row.searched_front,
                "relative_bias": {
                    "mean": null(row.bias.mean),
                    "low": null(row.bias.low),
                    "high": null(row.bias.high),
                    "undefined": row.bias_reason,
                },
                "searched": {key: null(value) for key, value in row.searched.items()},
                "estimates": {
                    key: {
                        "mean": null(each.mean),
                        "low": null(each.low),
                        "high": null(each.high),
                    }
                    for key, each in row.estimates.items()
                },
            }
            for row in found.rows
        ],
    }


def notes(found: Confirmed) -> list[str]:
    """Return the notes below the table: what is marked, what may be luck, what is alike."""
    seeds = max((row.seeds for row in found.rows), default=0)
    lines = [
        _starred(found),
        "\u00b1: 95 % interval for the mean, from the pooled noise of all rows"
        + (f" (rc-sweep table {found.sweep}: from each row's own seeds)" if found.own else ""),
        "'not shown': these seeds do not show a difference from dense",
    ]
    dense = next((row for row in found.rows if row.reference), None)
    if found.own and seeds > 1 and dense is not None and dense.seeds < 2:
        lines.append(
            "the dense reference has one seed only, so no difference from it is shown; " + ADD_DENSE
        )
    if found.own:
        lines.append("to compare other losses with vanilla: rc-sweep table " + found.sweep)
    else:
        lines.append(
            f"{count_of(found.trained, 'training')} instead of {found.everything} (all "
            "configurations and seeds)"
        )
    out = [f"{row.id}: {row.excluded}" for row in found.rows if row.excluded and not row.reference]
    lines += ["not on the front: " + "; ".join(out)] if out else []
    if found.failed:
        where = found.sweep if found.own else f"{found.sweep}.confirm"
        lines.append(f"{count_of(found.failed, 'training')} failed: rc-sweep status {where}")
    lines += _one_start(found)
    lines += _luck(found)
    lines += _alike(found)
    if seeds > 1 and found.noise.pairs.get(OOD_KEY) == 0:
        lines.append(
            "every seed changed all OOD accuracies by the same amount: the noise of differences is "
            "not known, and intervals of zero width do not mean certainty"
        )
    elif seeds > 1 and not math.isnan(found.noise.pairs.get(OOD_KEY, math.nan)):
        df = found.noise.pairs_df[OOD_KEY]
        shown = 100 * detectable_difference(found.noise.pairs[OOD_KEY], seeds, df=df)
        lines.append(
            f"{seeds} seeds can show OOD differences of {shown:.1f} points or more "
            f"(rc-sweep power {found.sweep})"
        )
    uneven = uneven_noise([row.values(OOD_KEY) for row in found.rows])
    if uneven is not None:
        low, high = (100 * each for each in uneven)
        lines.append(
            f"another seed changes some rows more than others ({low:.1f} to {high:.1f} OOD points)"
            ": intervals use the pooled noise of all rows and are too narrow for the noisier ones"
            + (f"; each row's own: rc-sweep table {found.sweep}" if found.own else "")
        )
    reasons = [row.bias_reason for row in found.rows if row.bias_reason is not None]
    return [*lines, *(f"F_bias -: {each}" for each in dict.fromkeys(map(without_amounts, reasons)))]


def _starred(found: Confirmed) -> str:
    marked = [row.chance for row in found.rows if row.confirmed and row.chance is not None]
    if marked and max(marked) < ON_FRONT:
        single = any(row.seeds == 1 and row.chance is not None for row in found.rows)
        means = "means of two seeds or more" if single else "means"
        return (
            f"* on the front of the {means}; on front: how likely that is (so many rows are alike "
            "that it is below 50 % for all of them)"
        )
    return "* more likely than not on the front of compressed models; on front: how likely that is"


def _one_start(found: Confirmed) -> list[str]:
    """Return a note on rows whose seeds all share one start, with the remedy."""
    rows = [row.id for row in found.rows if row.one_start]
    if not rows:
        return []
    remedy = (
        SEARCH_TEACHERS
        if found.own
        else f"rc-sweep remove {found.sweep}.confirm, then rc-sweep confirm {found.sweep} --whole"
    )
    return [one_start_note(named(rows), remedy)]


def _luck(found: Confirmed) -> list[str]:
    """Say how far the search's values on its front differ from those of new seeds."""
    gain = optimism(found, OOD_KEY)
    if not gain.n:
        return []
    more = points(100 * gain.mean, 100 * gain.half_width)
    lines = [
        f"luck: the search's front ({count_of(gain.n, 'configuration')}) had {more} OOD points "
        "more in the search than with new seeds"
    ]
    dense = next((row for row in found.rows if row.reference), None)
    if dense is not None:
        moved = 100 * (dense.searched[OOD_KEY] - dense.estimates[OOD_KEY].mean)
        lines.append(
            f"  (the dense row, which was not selected, {moved:+z.1f}: luck of the seed alone)"
        )
    return lines


def _alike(found: Confirmed) -> list[str]:
    """Name the marked rows that the available seeds cannot tell apart."""
    marked = [row for row in found.rows if row.confirmed]
    pairs = [(a, b) for i, a in enumerate(marked) for b in marked[i + 1 :]]
    alike = [f"{a.id} and {b.id}" for a, b in pairs if told_alike(found, a, b)]
    if not alike:
        return []
    if len(alike) == len(pairs) and len(marked) > 2:
        return ["these seeds cannot tell any two of the rows marked * apart"]
    more = f" and {count_of(len(alike) - 8, 'more pair')}" if len(alike) > 8 else ""
    return ["these seeds cannot tell apart: " + ", ".join(alike[:8]) + more]


def dense_text(row: ConfirmedRow, found: Confirmed) -> str:
    """Return what the seeds show for OOD against dense: `better`, `worse`, `not shown`."""
    each = row.against_reference
    if each is None or each.n == 0:
        return ""
    if row.one_start:
        return "not shown"
    deviation, df = 100 * found.noise.pairs[OOD_KEY], found.noise.pairs_df[OOD_KEY]
    told = verdict(each.mean, each.low, each.high, each.n, deviation, df=df)
    return "not shown" if told == "open" else told


def bias_text(row: ConfirmedRow) -> str:
    """Return the relative bias with its interval; `-` where it is undefined."""
    found = row.bias
    if math.isnan(found.mean):
        return "-"
    if row.reference:
        return "1"
    span = "" if math.isnan(found.low) else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.mean:.2f}{span}"


def share_text(estimate: Estimate) -> str:
    """Return a share in percent with half its interval: `64.2 \u00b1 13.1`; `-` if unknown."""
    return share(estimate.mean, estimate.half_width)


def points_text(difference: Difference | None) -> str:
    """Return a difference in points with half its interval: `+5.6 \u00b1 11.4`, or nothing."""
    if difference is None or difference.n == 0:
        return ""
    return points(difference.mean, difference.half_width)


def meeting_lines(found: Confirmed, missed: Mapping[str, str]) -> list[str]:
    """Say which rows of a confirmation meet the user's `--where`."""
    ids = [row.id for row in found.rows if not row.reference]
    meeting = [trial for trial in ids if trial not in missed]
    unsure = [trial for trial in ids if UNDECIDED in missed.get(trial, "")]
    return [
        f"--where is met by {len(meeting)} of the {len(ids)} rows, by their means: "
        f"{named(meeting)} (--why TRIAL says what another misses)",
        *([f"it cannot be decided for {named(unsure)}: measured too roughly"] if unsure else []),
    ]
