"""What a `Sweep` shows of itself in a notebook: counts, the front as a picture and as a table.

Plain HTML and SVG in the text's own colour, so that it reads on light and on dark pages, in
exported notebooks too; no script, nothing from the network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from sweeps.report import Row

if TYPE_CHECKING:
    from sweeps.sweep import Sweep

# Of Okabe and Ito's palette those that stand out from white and from black.
_COLOURS = ("#0090e0", "#e07000", "#00a878", "#cc79a7", "#b08d00", "#8a7fd6")
_SHOWN = 12
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 620, 340, 58, 44, 12, 14
_CELL = "padding:2px 10px;text-align:{align};white-space:nowrap"


def sweep_html(sweep: Sweep) -> str:
    """Return a sweep as HTML. Never raises: a cell that fails to show a result hides it."""
    try:
        return _html(sweep)
    except Exception as error:
        # Records of another version, a folder that was moved: the notebook must go on.
        what = f"{sweep.path}: {type(error).__name__}: {error}"
        return f"<pre>{escape(what)}</pre>"


def _html(sweep: Sweep) -> str:
    found, objectives = sweep.rows, sweep.objectives
    counts: dict[str, int] = {}
    for row in found:
        counts[row.status] = counts.get(row.status, 0) + 1
    states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    running = " (running now)" if sweep.folder.is_running() else ""
    head = f"<b>{escape(sweep.name)}</b>{running}: {states or 'no trial yet'}"
    parts = [f'<div style="margin:4px 0">{head}</div>']
    shown = [row for row in found if row.rank is not None]
    names = list(objectives)
    if len(names) > 1 and shown:
        parts.append(front_svg(shown, names[:2]))
    chosen = [row for row in shown if row.on_front or row.candidate or row.reference]
    first, direction = next(iter(objectives.items()))
    chosen.sort(key=lambda row: row.values[first], reverse=direction == "max")
    if chosen:
        parts.append(_table(chosen, names))
    return f'<div style="color:inherit;background:transparent">{"".join(parts)}</div>'


def front_svg(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Return two objectives against each other, one mark a trial; a mark names itself on hover."""
    points = [(row, [_scaled(name, row.values[name]) for name in names]) for row in rows]
    points = [(row, at) for row, at in points if all(map(math.isfinite, at))]
    if not points:
        return ""
    limits = [_limits([at[i] for _, at in points]) for i in range(2)]
    colours = dict(zip(sorted({row.compression for row, _ in points}), _COLOURS * 9, strict=False))
    marks = [_mark(row, at, limits, colours[row.compression]) for row, at in points]
    legend = "".join(
        f'<tspan fill="{colour}" dx="10">&#9679;</tspan> <tspan>{escape(name)}</tspan>'
        for name, colour in colours.items()
    )
    axis = 'stroke="currentColor" stroke-opacity="0.4"'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" '
        f'style="max-width:100%;height:auto;color:inherit" font-family="sans-serif" font-size="12">'
        f"<title>{escape(names[1])} against {escape(names[0])}</title>"
        f'<path d="M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}" fill="none" {axis}/>'
        f"{_ticks(limits)}{''.join(marks)}"
        f'<g fill="currentColor"><text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 8}" '
        f'text-anchor="middle">{escape(_title(names[0]))}</text>'
        f'<text transform="translate(14 {_HEIGHT / 2 - 14}) rotate(-90)" text-anchor="middle">'
        f"{escape(_title(names[1]))}</text>"
        f'<text x="{_LEFT + 2}" y="{_TOP + 4}">{legend} <tspan dx="10">filled: on the front, star: '
        "dense</tspan></text></g></svg>"
    )


def _mark(row: Row, at: Sequence[float], limits: Sequence[tuple[float, float]], colour: str) -> str:
    x, y = _x(at[0], limits[0]), _y(at[1], limits[1])
    what = ", ".join(f"{value:.4g}" for value in at)
    title = f"<title>{escape(f'{row.id} {row.name}: {what}')}</title>"
    if row.reference:
        place = f'x="{x:.1f}" y="{y + 7:.1f}" font-size="22" text-anchor="middle"'
        return f'<text {place} fill="{colour}">&#9733;{title}</text>'
    filled = colour if row.on_front or row.candidate else "none"
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{filled}" stroke="{colour}" '
        f'stroke-width="1.6">{title}</circle>'
    )


def _ticks(limits: Sequence[tuple[float, float]]) -> str:
    found = []
    for low, high in limits[:1]:
        for i in range(5):
            value = low + (high - low) * i / 4
            found.append(
                f'<text x="{_x(value, (low, high)):.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
                f'text-anchor="middle">{value:.3g}</text>'
            )
    low, high = limits[1]
    for i in range(5):
        value = low + (high - low) * i / 4
        found.append(
            f'<text x="{_LEFT - 6}" y="{_y(value, (low, high)) + 4:.1f}" '
            f'text-anchor="end">{value:.3g}</text>'
        )
    return f'<g fill="currentColor" fill-opacity="0.75">{"".join(found)}</g>'


def _table(rows: Sequence[Row], names: Sequence[str]) -> str:
    titles = ["", "id", "name", *map(_title, names), "OOD vs dense", "non-zero M"]
    lines = [_line("th", titles)]
    for row in rows[:_SHOWN]:
        mark = "*" if row.on_front else "+" if row.candidate else ""
        name = f"{row.name} (dense reference)" if row.reference else row.name
        values = [f"{_scaled(each, row.values[each]):.4g}" for each in names]
        rest = [
            "" if row.reference else f"{row.ood_difference:+.1f}",
            f"{row.parameters / 1e6:.1f}",
        ]
        lines.append(_line("td", [mark, row.id, name, *values, *rest]))
    more = len(rows) - _SHOWN
    note = f"and {more} more; " if more > 0 else ""
    note += "* on the front, + on it but for the dense reference; one seed each"
    return (
        '<table style="border-collapse:collapse;color:inherit;background:transparent">'
        f'{"".join(lines)}</table><div style="opacity:0.7;font-size:90%">{note}</div>'
    )


def _line(tag: str, cells: Sequence[str]) -> str:
    styled = [
        f'<{tag} style="{_CELL.format(align="left" if i < 3 else "right")}">'
        f"{escape(cell.replace('nan', '-'))}</{tag}>"
        for i, cell in enumerate(cells)
    ]
    return f'<tr style="background:transparent">{"".join(styled)}</tr>'


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or max(abs(high), 1.0) * 0.01
    return low - margin, high + margin


def _x(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP - 14)


def _scaled(name: str, value: float) -> float:
    return 100 * value if name.endswith("accuracy") else value


def _title(name: str) -> str:
    known: Mapping[str, str] = {"id_dev/accuracy": "ID %", "ood_dev/accuracy": "OOD %"}
    return known.get(name, f"{name} (%)" if name.endswith("accuracy") else name)
