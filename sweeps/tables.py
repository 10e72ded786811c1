"""The front as a table for a terminal."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rc_core.metrics._floors import NAMES
from rc_core.metrics.robustness import without_amounts
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.rows import Row, size_note
from sweeps.shown_values import column_title, in_millions, metric_number, number, points, share

_SHOWN_WHOLE = 20
# Width of a table without extra columns (suites of a task, further objectives).
_WIDTH = 120
ONE_SEED = "one seed each: differences of a few points may be noise"


def front_table(
    found: Sequence[Row],
    objectives: Mapping[str, str],
    *,
    lines: Mapping[str, Mapping[str, float]] | None = None,
    notes: Sequence[str] = (ONE_SEED,),
) -> Table:
    """Return the front, the front without the dense reference, the reference, the vanilla rows.

    All finished trials if they are few. Accuracies are in percent, differences in points. Baselines
    (`reference_lines`) and notes close the table.
    """
    first = next(iter(objectives))
    sign = -1 if objectives[first] == "max" else 1

    def place(row: Row) -> tuple[float, str]:
        return sign * row.values[first], row.id

    front = sorted((row for row in found if row.on_front), key=place)
    candidates = sorted((row for row in found if row.candidate and not row.on_front), key=place)
    finished = [row for row in found if row.status == "finished"]
    # Show a small sweep as a whole, otherwise only what everything is compared with.
    whole = len(finished) <= _SHOWN_WHOLE
    shown = [
        row
        for row in finished
        if not (row.on_front or row.candidate) and (whole or row.reference or row.loss == "vanilla")
    ]
    num_finished = len(finished)
    table = Table(
        title=f"Pareto front: {len(front)} of {num_finished} finished trials (* on it, "
        "+ on it without the dense reference)",
        title_justify="left",
    )
    extra = _own(objectives)
    for title in ("", "id", "name"):
        table.add_column(title, no_wrap=title != "name")
    titles = map(column_title, extra)
    for title in ("ID %", "OOD %", *titles, "OOD vs dense", "F_bias", "non-zero M", "s"):
        table.add_column(title, justify="right", no_wrap=True)
    reasons: list[str] = []
    for row in (*front, *candidates, *sorted(shown, key=lambda r: (not r.reference, r.id))):
        role = "dense reference" if row.reference else "vanilla" if row.loss == "vanilla" else ""
        name = f"{row.name} ({role})" if row.reference else row.name
        table.add_row(
            "*" if row.on_front else "+" if row.candidate else "",
            row.id,
            # As Text, so that brackets in a name are not taken for markup.
            Text(name),
            share(row.id_accuracy),
            share(row.ood_accuracy),
            *(metric_number(key, row.values[key]) for key in extra),
            "" if row.reference else points(row.ood_difference),
            Text(_bias(row, reasons)),
            in_millions(row.size),
            number(row.seconds, ".0f"),
            style="bold" if row.on_front else None,
        )
    _add_lines(table, lines or {}, len(extra))
    excluded = [f"{row.id}: {row.excluded}" for row in found if row.excluded]
    notes_shown = [f"[{i}] F_bias undefined: {why}" for i, why in enumerate(reasons, start=1)]
    notes_shown += ["not on the front: " + "; ".join(excluded)] if excluded else []
    notes_shown += size_note(found)
    notes_shown += notes
    table.caption, table.caption_justify = Text("\n".join(notes_shown)), "left"
    return table


def _add_lines(table: Table, lines: Mapping[str, Mapping[str, float]], num_extra: int) -> None:
    """Add the trivial baselines, one row each."""
    names = list(dict.fromkeys(name for line in lines.values() for name in line))
    if names:
        table.add_section()
    for name in names:
        values = [share(lines.get(role, {}).get(name, math.nan)) for role in ("id_dev", "ood_dev")]
        table.add_row("", "", NAMES.get(name, name), *values, *[""] * (num_extra + 4), style="dim")


def front_width(objectives: Mapping[str, str]) -> int:
    """Return the maximum width of `front_table`."""
    return wide(len(column_title(name)) for name in _own(objectives))


def wide(columns: Iterable[int]) -> int:
    """Return the maximum width of a table with further columns of the given widths.

    In a narrower one, names would shrink to a few letters, as columns of numbers do not shrink.
    """
    return _WIDTH + sum(column + 3 for column in columns)


def _own(objectives: Mapping[str, str]) -> list[str]:
    return [name for name in objectives if name not in (ID_KEY, OOD_KEY)]


def render(table: Table, *, width: int = _WIDTH) -> str:
    """Return a table as plain text."""
    console = Console(file=io.StringIO(), width=width, no_color=True, highlight=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip()


def _bias(row: Row, notes: list[str]) -> str:
    if row.reference:
        return "1" if not math.isnan(row.relative_bias) else "-"
    if not math.isnan(row.relative_bias):
        return f"{row.relative_bias:.3f}"
    reason = without_amounts(row.bias_reason or "")
    if reason not in notes:
        notes.append(reason)
    return f"- [{notes.index(reason) + 1}]"
