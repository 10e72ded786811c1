"""The picture of a front: ID against OOD accuracy, one mark per trial (PNG, matplotlib)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from rc_core.metrics._floors import NAMES
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.rows import Row
from sweeps.selection.budgets import SIZES, Budget
from sweeps.selection.choose import Option
from sweeps.shown_values import column_title, scaled
from sweeps.views.picture_names import name_points

# Okabe and Ito's palette, which people with any common colour vision can tell apart, and three
# more, as a sweep may use all compressions and losses. Beyond these, colours and markers repeat.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
            "#7A3FC0", "#8C5A2B", "#8A9A00")  # fmt: skip
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")
_SMALL, _LARGE = 60.0, 240.0
# Room for the name of a vertical line, half a mark on each side included, as shares of the axes.
_NAME_WIDTH, _NAME_LENGTH = 0.04, 0.2


def front_picture(
    found: Sequence[Row],
    objectives: Mapping[str, str],
    path: Path,
    *,
    title: str,
    lines: Mapping[str, Mapping[str, float]] | None = None,
    seeds: Sequence[Row] = (),
    halves: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Draw the trials' first two objectives; a single objective against the row's number.

    Colour stands for the compression, the symbol for the loss, the area for non-zero parameters;
    trials off the front are hollow, the dense reference is a star with dotted lines. If the front
    without the reference has more trials, these are filled too and joined by dashes.

    Args:
        found: rows of the sweep; for a design over seeds, means with one row per configuration.
        objectives: metric -> direction.
        path: PNG to write.
        title: shown above.
        lines: role -> trivial baseline -> accuracy; the best of each role is drawn if it is
            near the trials.
        seeds: the trials behind the means, drawn small and pale.
        halves: id -> objective -> half-width of the mean's interval, drawn as bars.
    """
    names = list(objectives)[:2]
    shown = [row for row in found if row.drawn]
    colours = dict(zip(sorted({row.compression for row in shown}), cycle(_COLOURS), strict=False))
    markers = dict(zip(sorted({row.loss for row in shown}), cycle(_MARKERS), strict=False))
    figure, axes = pyplot.subplots(figsize=(12, 8), dpi=100, layout="constrained")
    try:
        places = {row.id: _place(row, i, names) for i, row in enumerate(shown)}
        if len(names) > 1:
            _draw_seeds(axes, seeds, names, colours, markers)
            _draw_bars(axes, shown, places, names, halves or {}, colours)
        largest = max((row.size for row in shown if row.size > 0), default=1.0)
        for row in shown:
            colour = colours.get(row.compression, "#777777")
            area = _SMALL + (_LARGE - _SMALL) * _share(row.size, largest)
            axes.scatter(
                *places[row.id],
                s=2.2 * _LARGE if row.reference else area,
                marker="*" if row.reference else markers.get(row.loss, "o"),
                facecolors=colour if row.on_front or row.candidate or row.reference else "white",
                edgecolors=colour,
                linewidths=1.6,
                zorder=3,
            )
            if row.reference:
                axes.axvline(places[row.id][0], color="#777777", linestyle=":", linewidth=1)
                axes.axhline(places[row.id][1], color="#777777", linestyle=":", linewidth=1)
        front = [row for row in shown if row.on_front]
        candidates = [row for row in shown if row.candidate]
        _join(axes, [places[row.id] for row in front], objectives, "-")
        if any(not row.on_front for row in candidates):
            _join(axes, [places[row.id] for row in candidates], objectives, "--")
        _legend(axes, colours, markers, next((row for row in shown if row.reference), None))
        axes.set_xlabel(_title(names[0]))
        axes.set_ylabel(_title(names[1]) if len(names) > 1 else "trial")
        num_off = len(found) - len(shown)
        why = "unfinished, failed, stopped or infeasible"
        off = f", {num_off} not shown ({why})" if num_off else ""
        what = f"configurations, means of {len(seeds)} trials," if seeds else "trials"
        axes.set_title(
            f"{title}: {len(front)} of {len(shown)} {what} on the front{off}", loc="left"
        )
        axes.grid(color="#dddddd", linewidth=0.7)
        axes.margins(0.12)
        taken = _draw_lines(axes, names, lines or {}, list(places.values()))
        # The reference needs no name: its star is in the legend.
        name_points(axes, candidates, places, taken=taken)
        figure.savefig(path)
    finally:
        pyplot.close(figure)


def _draw_seeds(
    axes: Axes,
    seeds: Sequence[Row],
    names: Sequence[str],
    colours: Mapping[str, str],
    markers: Mapping[str, str],
) -> None:
    """Draw the trials behind the means, small and pale."""
    for row in seeds:
        if row.drawn:
            axes.scatter(
                *_place(row, 0, names),
                s=30,
                marker="*" if row.reference else markers.get(row.loss, "o"),
                color=colours.get(row.compression, "#777777"),
                alpha=0.25,
                linewidths=0,
                zorder=1,
            )


def _draw_bars(
    axes: Axes,
    shown: Sequence[Row],
    places: Mapping[str, tuple[float, float]],
    names: Sequence[str],
    halves: Mapping[str, Mapping[str, float]],
    colours: Mapping[str, str],
) -> None:
    """Draw the intervals of means."""
    for row in shown:
        found = [scaled(name, halves.get(row.id, {}).get(name, math.nan)) for name in names]
        if all(map(math.isfinite, found)):
            colour = colours.get(row.compression, "#777777")
            axes.errorbar(
                *places[row.id], xerr=found[0], yerr=found[1], fmt="none", ecolor=colour,
                elinewidth=1.2, capsize=3, alpha=0.8, zorder=2,
            )  # fmt: skip


def budget_picture(
    found: Sequence[Budget], options: Sequence[Option], path: Path, *, title: str
) -> None:
    """Draw the front of each size budget, ID against OOD accuracy, one panel per measure of size.

    Args:
        found: budgets.
        options: all configurations; those on no budget's front are small and grey.
        path: PNG to write.
        title: shown above.
    """
    measures = list(dict.fromkeys(budget.measure for budget in found))
    figure, panels = pyplot.subplots(
        1, len(measures), figsize=(7 * len(measures), 6), dpi=100, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    try:
        for axes, measure in zip(panels[0], measures, strict=True):
            _budget_panel(axes, [b for b in found if b.measure == measure], options)
            axes.set_title(f"{title}: budgets in {SIZES[measure]}", loc="left")
        figure.savefig(path)
    finally:
        pyplot.close(figure)


def _budget_panel(axes: Axes, found: Sequence[Budget], options: Sequence[Option]) -> None:
    def place(option: Option) -> tuple[float, float]:
        return 100 * option.metric(ID_KEY), 100 * option.metric(OOD_KEY)

    for option in options:
        if option.reference:
            axes.scatter(*place(option), s=300, marker="*", color="#000000", zorder=2)
            axes.annotate("dense", place(option), xytext=(10, 6), textcoords="offset points")
        elif option.excluded is None:
            axes.scatter(*place(option), s=16, color="#bbbbbb", zorder=1)
    # Larger budgets first, so that the marks of smaller ones stay visible where they coincide.
    for i, budget in reversed(list(enumerate(found))):
        label = f"up to {100 * budget.share:.0f} %"
        if budget.best is None:
            axes.plot([], [], linestyle="", label=f"{label}: nothing fits")
            continue
        places = sorted(place(option) for option in budget.front)
        xs, ys = zip(*places, strict=True)
        colour, size = _COLOURS[i % len(_COLOURS)], 9 + 3 * i
        axes.step(xs, ys, where="pre", color=colour, linewidth=1.2, marker=_MARKERS[i],
                  markersize=size, markerfacecolor="none", label=label, zorder=3)  # fmt: skip
        axes.scatter(*place(budget.best), s=size**2, marker=_MARKERS[i], color=colour, zorder=4)
        axes.annotate(budget.best.id, place(budget.best), xytext=(0, -18 - 3 * i),
                      textcoords="offset points", ha="center", color=colour)  # fmt: skip
    axes.set_xlabel(_title(ID_KEY))
    axes.set_ylabel(_title(OOD_KEY))
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.margins(0.12)
    axes.legend(
        frameon=False, markerscale=0.5, title="of the dense reference; filled: best trade-off"
    )


def _draw_lines(
    axes: Axes,
    names: Sequence[str],
    lines: Mapping[str, Mapping[str, float]],
    places: Sequence[tuple[float, float]],
) -> list[Annotation]:
    """Draw each objective's best trivial baseline, unless it is far from every trial.

    The name of a vertical line stands at the end where it covers fewer trials.
    """
    drawn = []
    limits = (axes.get_xlim(), axes.get_ylim())
    for i, name in enumerate(names[:2]):
        role, _, metric = name.partition("/")
        if metric != "accuracy" or not lines.get(role):
            continue
        best = max(lines[role], key=lambda line: lines[role][line])
        value = 100 * lines[role][best]
        if not limits[i][0] < value < limits[i][1]:
            continue
        style: dict[str, Any] = {
            "color": "#aa3377",
            "linestyle": (0, (6, 4)),
            "linewidth": 1.2,
            "zorder": 1,
        }
        text: dict[str, Any] = {"color": "#aa3377", "fontsize": 9, "xycoords": "data"}
        label = f"{NAMES.get(best, best)} {value:.0f} %"
        if i == 0:
            axes.axvline(value, **style)
            low, high = limits[1]
            near = [
                (y - low) / (high - low)
                for x, y in places
                if 0 <= value - x < _NAME_WIDTH * (limits[0][1] - limits[0][0])
            ]
            top = sum(y > 1 - _NAME_LENGTH for y in near) < sum(y < _NAME_LENGTH for y in near)
            written = axes.annotate(label, (value, high if top else low), rotation=90, ha="right",
                                    xytext=(-4, -4 if top else 4), textcoords="offset points",
                                    va="top" if top else "bottom",
                                    **text)  # fmt: skip
        else:
            axes.axhline(value, **style)
            written = axes.annotate(label, (limits[0][0], value), xytext=(4, 4),
                                    textcoords="offset points", **text)  # fmt: skip
        drawn.append(written)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])
    return drawn


def _place(row: Row, index: int, names: Sequence[str]) -> tuple[float, float]:
    values = [scaled(name, row.values[name]) for name in names]
    return (values[0], values[1]) if len(values) > 1 else (values[0], float(index))


def _share(value: float, largest: float) -> float:
    return 0.0 if math.isnan(value) else min(max(value / largest, 0.0), 1.0)


def _join(
    axes: Axes, places: Sequence[tuple[float, float]], objectives: Mapping[str, str], line: str
) -> None:
    """Draw the steps that bound the region a front dominates."""
    if len(places) < 2 or len(objectives) != 2:
        return
    xs, ys = zip(*sorted(places), strict=True)
    # With "max" a point dominates what is left of it, with "min" what is right of it.
    where: Literal["pre", "post"] = "pre" if next(iter(objectives.values())) == "max" else "post"
    axes.step(xs, ys, where=where, color="#999999", linestyle=line, linewidth=1.2, zorder=2)


def _legend(
    axes: Axes, colours: Mapping[str, str], markers: Mapping[str, str], reference: Row | None
) -> None:
    def mark(label: str, marker: str, colour: str, *, filled: bool = True) -> Line2D:
        face = colour if filled else "white"
        return Line2D(
            [], [], linestyle="", marker=marker, color=colour, markerfacecolor=face,
            markersize=10, label=label,
        )  # fmt: skip

    handles = [mark(name, "o", colour) for name, colour in colours.items() if name != "dense"]
    handles += [mark(f"loss {name}", marker, "#555555") for name, marker in markers.items()]
    handles += [mark("dominated", "o", "#555555", filled=False)]
    if reference is not None:
        name = "dense reference" + (", misses\na constraint" if reference.excluded else "")
        handles.append(mark(name, "*", colours.get("dense", "#555555")))
    axes.legend(
        handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False,
        title="area: non-zero\nparameters", alignment="left",
    )  # fmt: skip


def _title(name: str) -> str:
    known = {
        ID_KEY: "in-distribution accuracy, id_dev (%)",
        OOD_KEY: "out-of-distribution accuracy, ood_dev (%)",
    }
    return known.get(name, column_title(name))
