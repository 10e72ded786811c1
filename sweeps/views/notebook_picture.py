"""The notebook's picture as SVG: two objectives against each other, and means over new seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import cycle

from sweeps.rows import Row
from sweeps.selection.confirmed import ConfirmedRow
from sweeps.selection.statistics import Estimate
from sweeps.shown_values import column_title, number, scaled

# Colours of Okabe and Ito's palette that stand out from both white and black, and more like them:
# a sweep may use all compressions.
_COLOURS = ("#0090e0", "#e07000", "#00a878", "#cc79a7", "#b08d00", "#8a7fd6", "#808080", "#d0453e",
            "#7f9a1e", "#a5713f")  # fmt: skip
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 620, 356, 58, 44, 42, 14

# At a font size of 12: a character's width, the space around a legend's name, a line's height.
_CHARACTER, _BESIDE, _LINE = 7.0, 28.0, 16

Limits = tuple[float, float]


def front_svg(rows: Sequence[Row], names: Sequence[str], means: Sequence[ConfirmedRow] = ()) -> str:
    """Plot two objectives against each other, one mark per trial, named on hover.

    Args:
        rows: trials to draw.
        names: the two objectives.
        means: configurations whose means over new seeds are drawn, tied to the search's values.
    """
    points = [(row, [scaled(name, row.values[name]) for name in names]) for row in rows]
    points = [(row, at) for row, at in points if all(map(math.isfinite, at))]
    if not points:
        return ""
    spans = {each.id: [_span(name, each.estimates[name]) for name in names] for each in means}
    spans = {key: both for key, both in spans.items() if all(math.isfinite(m) for m, _ in both)}
    limits = [
        _limits([at[i] for _, at in points] + [end for s in spans.values() for end in _ends(s[i])])
        for i in range(2)
    ]
    colours = dict(
        zip(sorted({row.compression for row, _ in points}), cycle(_COLOURS), strict=False)
    )
    marks = [_mark(row, at, limits, colours[row.compression]) for row, at in points]
    known = {row.id: (row, at) for row, at in points}
    seeds = {each.id: each.seeds for each in means}
    marks += [
        _mean(*known[key], both, seeds[key], limits, colours[known[key][0].compression])
        for key, both in spans.items()
        if key in known
    ]
    legend = _legend(colours)
    # Further lines of the legend stand above the picture.
    above = _LINE * (len(legend) - 1)
    said = "filled: on the front, star: dense"
    said += "; cross: mean over seeds, 95 % interval" if spans else ""
    axis = 'stroke="currentColor" stroke-opacity="0.4"'
    return (
        f'<svg viewBox="0 {-above} {_WIDTH} {_HEIGHT + above}" width="{_WIDTH}" role="img" '
        f'style="max-width:100%;height:auto;color:inherit" font-family="sans-serif" font-size="12">'
        f"<title>{escape(names[1])} against {escape(names[0])}</title>"
        f'<path d="M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}" fill="none" {axis}/>'
        f"{_ticks(limits)}{''.join(marks)}"
        f'<g fill="currentColor"><text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 8}" '
        f'text-anchor="middle">{escape(column_title(names[0]))}</text>'
        f'<text transform="translate(14 {_HEIGHT / 2 - 14}) rotate(-90)" text-anchor="middle">'
        f"{escape(column_title(names[1]))}</text>"
        + "".join(
            f'<text x="{_LEFT - 8}" y="{14 - above + _LINE * i}">{line}</text>'
            for i, line in enumerate(legend)
        )
        + f'<text x="{_LEFT + 2}" y="30" font-size="11" '
        f'fill-opacity="0.75">{said}</text></g></svg>'
    )


def _legend(colours: Mapping[str, str]) -> list[str]:
    """Return the legend's lines as SVG, as many names in each as fit."""
    lines, taken = [""], 0.0
    for name, colour in colours.items():
        width = _CHARACTER * len(name) + _BESIDE
        if lines[-1] and taken + width > _WIDTH - _LEFT:
            lines.append("")
            taken = 0.0
        lines[-1] += f'<tspan fill="{colour}" dx="10">&#9679;</tspan> <tspan>{escape(name)}</tspan>'
        taken += width
    return lines


def _span(name: str, estimate: Estimate) -> tuple[float, float]:
    """Return the mean and the half-width of its interval, 0 if the interval is unknown."""
    half = 0.0 if math.isnan(estimate.low) else estimate.half_width
    return scaled(name, estimate.mean), scaled(name, half)


def _ends(span: tuple[float, float]) -> tuple[float, float]:
    return span[0] - span[1], span[0] + span[1]


def _mark(row: Row, at: Sequence[float], limits: Sequence[Limits], colour: str) -> str:
    x, y = _x(at[0], limits[0]), _y(at[1], limits[1])
    what = ", ".join(number(value, ".4g") for value in at)
    title = f"<title>{escape(f'{row.id} {row.name}: {what}')}</title>"
    if row.reference:
        place = f'x="{x:.1f}" y="{y + 7:.1f}" font-size="22" text-anchor="middle"'
        return f'<text {place} fill="{colour}">&#9733;{title}</text>'
    filled = colour if row.on_front or row.candidate else "none"
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{filled}" stroke="{colour}" '
        f'stroke-width="1.6">{title}</circle>'
    )


def _mean(
    row: Row,
    searched: Sequence[float],
    spans: Sequence[tuple[float, float]],
    seeds: int,
    limits: Sequence[Limits],
    colour: str,
) -> str:
    """Return a mean over new seeds as a cross of its intervals, tied to the search's values."""
    x, y = _x(spans[0][0], limits[0]), _y(spans[1][0], limits[1])
    left, right = (_x(end, limits[0]) for end in _ends(spans[0]))
    bottom, top = (_y(end, limits[1]) for end in _ends(spans[1]))
    said = ", ".join(
        f"{mean:.1f}" + (f" \u00b1 {half:.1f}" if half else "") for mean, half in spans
    )
    what = f"{row.id} {row.name}: {said}, mean of {seeds} seed{'s' if seeds > 1 else ''}"
    return (
        f'<g stroke="{colour}" fill="none"><title>{escape(what)}</title>'
        f'<path stroke-dasharray="2 3" d="M{_x(searched[0], limits[0]):.1f} '
        f'{_y(searched[1], limits[1]):.1f}L{x:.1f} {y:.1f}"/>'
        f'<path stroke-width="1.6" d="M{left:.1f} {y:.1f}H{right:.1f}M{x:.1f} {bottom:.1f}'
        f'V{top:.1f}"/><rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6" '
        f'fill="{colour}"/></g>'
    )


def _ticks(limits: Sequence[Limits]) -> str:
    found = []
    for i in range(5):
        x, y = (low + (high - low) * i / 4 for low, high in limits)
        across, up = number(x, ".3g"), number(y, ".3g")
        found.append(
            f'<text x="{_x(x, limits[0]):.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
            f'text-anchor="middle">{across}</text>'
            f'<text x="{_LEFT - 6}" y="{_y(y, limits[1]) + 4:.1f}" text-anchor="end">{up}</text>'
        )
    return f'<g fill="currentColor" fill-opacity="0.75">{"".join(found)}</g>'


def _limits(values: Sequence[float]) -> Limits:
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or max(abs(high), 1.0) * 0.01
    return low - margin, high + margin


def _x(value: float, limits: Limits) -> float:
    low, high = limits
    return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, limits: Limits) -> float:
    low, high = limits
    return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)
