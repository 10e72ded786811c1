"""A `Sweep` in a notebook: counts, and the front as a picture and a table.

After a confirmation, means over its new seeds with their intervals come first, and each row states
its number of seeds.

Plain HTML and SVG in the page's own text colour, readable on light and dark pages and in exported
notebooks; no scripts, nothing from the network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from rc_core.labels import count_of
from sweeps.commands import command
from sweeps.ending import state_counts
from sweeps.rows import Row, size_note
from sweeps.selection.confirmed import Confirmed, ConfirmedRow, confirmed
from sweeps.selection.confirmed_text import points_text, share_text
from sweeps.selection.mean_rows import mean_rows
from sweeps.selection.statistics import Estimate
from sweeps.shown_values import column_title, in_millions, metric_number, number, points
from sweeps.tables import ONE_SEED
from sweeps.views.notebook_picture import front_svg

if TYPE_CHECKING:
    from sweeps.stored_sweep import StoredSweep

_SHOWN = 12
_CELL = "padding:2px 10px;text-align:{align};white-space:nowrap"


def sweep_html(sweep: StoredSweep) -> str:
    """Return a sweep as HTML. Never raises: an error here would hide the result of the cell."""
    try:
        return _html(sweep)
    except Exception as error:
        # Say, records of another version or a folder that was moved.
        what = f"{sweep.path}: {type(error).__name__}: {error}"
        return f"<pre>{escape(what)}</pre>"


def _html(sweep: StoredSweep) -> str:
    found, objectives = sweep.rows, sweep.objectives
    counts = state_counts((row.status for row in found), running=sweep.running)
    states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    running = " (running now)" if sweep.running else ""
    head = f"<b>{escape(sweep.name)}</b>{running}: {states or 'no trial yet'}"
    new = confirmed(sweep)
    means = {row.id: row for row in new.rows if row.seeds} if new is not None else {}
    if new is not None and means:
        head += f"; {new.seeds_are} for {count_of(len(means), 'configuration')} "
        head += f"({count_of(new.trained, 'training')})"
    parts = [f'<div style="margin:4px 0">{head}</div>']
    if new is not None and new.own:
        found = mean_rows(new, found, objectives)
    shown = [row for row in found if row.drawn or _starred(row, means)]
    names = list(objectives)
    chosen = _chosen(shown, objectives, means)
    if len(names) > 1 and shown:
        # Only the means that matter: all of them would overlap.
        drawn = [means[row.id] for row in chosen if _matters(row, means)]
        parts.append(front_svg(shown, names[:2], drawn))
    if chosen and new is not None and means:
        parts.append(_confirmed_table(sweep, chosen, names, new, means))
    elif chosen:
        parts.append(_table(chosen, names))
    return f'<div style="color:inherit;background:transparent">{"".join(parts)}</div>'


def _chosen(
    shown: Sequence[Row], objectives: Mapping[str, str], means: Mapping[str, ConfirmedRow]
) -> list[Row]:
    """Return the rows of the table, the most important first.

    After a confirmation: its front, the dense reference, the front of the search, then the other
    configurations with new seeds.
    """
    first, direction = next(iter(objectives.items()))
    sign = -1 if direction == "max" else 1
    if not means:
        chosen = [row for row in shown if row.on_front or row.candidate or row.reference]
        return sorted(chosen, key=lambda row: sign * row.values[first])

    def place(row: Row) -> tuple[int, float]:
        group = 0 if _starred(row, means) else 1 if row.reference else 3
        if group == 3 and (row.on_front or row.candidate):
            group = 2
        value = means[row.id].estimates[first].mean if row.id in means else row.values[first]
        return group, sign * value if math.isfinite(value) else math.inf

    chosen = [r for r in shown if r.on_front or r.candidate or r.reference or r.id in means]
    return sorted(chosen, key=place)


def _starred(row: Row, means: Mapping[str, ConfirmedRow]) -> bool:
    return row.id in means and means[row.id].confirmed


def _matters(row: Row, means: Mapping[str, ConfirmedRow]) -> bool:
    return row.id in means and (row.reference or row.candidate or means[row.id].confirmed)


def _table(rows: Sequence[Row], names: Sequence[str]) -> str:
    titles = ["", "id", "name", *map(column_title, names), "OOD vs dense", "non-zero M"]
    lines = [_line("th", titles)]
    for row in rows[:_SHOWN]:
        mark = "*" if row.on_front else "+" if row.candidate else ""
        values = [metric_number(each, row.values[each]) for each in names]
        rest = ["" if row.reference else points(row.ood_difference), _millions(row)]
        lines.append(_line("td", [mark, row.id, _name(row), *values, *rest]))
    note = f"{_more(rows)}* on the front, + on it without the dense reference; {ONE_SEED}"
    return _framed(lines, [note, *size_note(rows[:_SHOWN])])


def _confirmed_table(
    sweep: StoredSweep,
    rows: Sequence[Row],
    names: Sequence[str],
    new: Confirmed,
    means: Mapping[str, ConfirmedRow],
) -> str:
    said = [] if new.own else ["search said"]
    titles = ["", "id", "name", "seeds", *map(column_title, names)]
    lines = [_line("th", [*titles, *said, "OOD vs dense", "non-zero M"])]
    for row in rows[:_SHOWN]:
        searched = [metric_number(each, row.values[each]) for each in names]
        cells = [row.id, _name(row)]
        if row.id in means:
            own = means[row.id]
            values = [_estimate(each, own.estimates[each]) for each in names]
            against = points_text(own.against_reference)
            if new.own:
                cells += [str(own.seeds), *values, against]
            else:
                cells += [f"{own.seeds} new", *values, " / ".join(searched), against]
        else:
            against = "" if row.reference else points(row.ood_difference)
            cells += ["1, the search's", *searched, "", against]
        lines.append(_line("td", ["*" if _starred(row, means) else "", *cells, _millions(row)]))
    notes = [
        f"{_more(rows)}* on the front of compressed models by {new.seeds_are}; \u00b1 95 % "
        f"interval of the mean over {new.seeds_are}, which were not used to choose; the noise is "
        "estimated from all rows together"
    ]
    if any(row.id not in means for row in rows[:_SHOWN]):
        notes.append(
            "rows with the search's own seed are optimistic: the search chose by them, and their "
            "difference from dense is that of one seed"
        )
    if new.failed:
        notes.append(f"{count_of(new.failed, 'training')} of {new.seeds_are} failed")
    notes += size_note(rows[:_SHOWN])
    notes.append(f"the whole table: {command(sweep.folder, 'pareto')}")
    return _framed(lines, notes)


def _framed(lines: Sequence[str], notes: Sequence[str]) -> str:
    below = "<br/>".join(escape(note) for note in notes)
    return (
        '<table style="border-collapse:collapse;color:inherit;background:transparent">'
        f'{"".join(lines)}</table><div style="opacity:0.7;font-size:90%">{below}</div>'
    )


def _line(tag: str, cells: Sequence[str]) -> str:
    styled = [
        f'<{tag} style="{_CELL.format(align="left" if i < 3 else "right")}">{escape(cell)}</{tag}>'
        for i, cell in enumerate(cells)
    ]
    return f'<tr style="background:transparent">{"".join(styled)}</tr>'


def _name(row: Row) -> str:
    if not row.reference:
        return row.name
    missing = "; misses a constraint" if row.excluded else ""
    return f"{row.name} (dense reference{missing})"


def _estimate(name: str, estimate: Estimate) -> str:
    return share_text(estimate) if name.endswith("accuracy") else number(estimate.mean, ".4g")


def _millions(row: Row) -> str:
    return in_millions(row.size)


def _more(rows: Sequence[Row]) -> str:
    more = len(rows) - _SHOWN
    return f"and {more} more; " if more > 0 else ""
