"""The other figures: losses against sparsity, hypervolume over time, parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.reporting.cost import Step, device_of, timeline
from sweeps.reporting.facts import Facts, varied
from sweeps.reporting.style import (
    Figure,
    Style,
    axis,
    escaped,
    layout,
    lines,
    metric_title,
    scale,
    short,
    variable,
)
from sweeps.rows import Row
from sweeps.shown_values import millions, number, percent

_GAP_KEY = "id_dev/difficulty_gap"
# Most lines in the parallel coordinates; more would be unreadable.
MOST_LINES = 300
# With more trials than this, joining the trials of one loss shows nothing.
_MOST_JOINED = 150
_ABSENT = -0.1


def removed(row: Row, reference: Row | None) -> float:
    """Return the share of the reference's non-zero parameters that a model lacks."""
    if reference is None or not reference.size > 0:
        return math.nan
    return 1 - row.size / reference.size


def sparsity_figures(facts: Facts, style: Style) -> list[Figure]:
    """Return OOD accuracy, relative bias and the easy/hard gap against what was removed, per loss.

    A metric that no trial has gets no figure.
    """
    base = facts.reference
    figures = []
    for key, values, title, level in (
        ("sparsity-ood", {r.id: 100 * r.ood_accuracy for r in facts.compared}, "OOD accuracy (%)",
         100 * base.ood_accuracy if base else math.nan),
        ("sparsity-bias", {r.id: r.relative_bias for r in facts.compared},
         "relative bias (dense = 1, lower is better)", 1.0),
        ("sparsity-gap", facts.metric(_GAP_KEY), "easy minus hard, id_dev (points)",
         facts.metric(_GAP_KEY).get(base.id, math.nan) if base else math.nan),
    ):  # fmt: skip
        figure = _sparsity(facts, style, key, values, title, level)
        if figure is not None:
            figures.append(figure)
    return figures


def _sparsity(
    facts: Facts, style: Style, key: str, values: Mapping[str, float], title: str, level: float
) -> Figure | None:
    order = {row.id: index for index, row in enumerate(facts.rows)}
    groups: dict[tuple[str, str], list[tuple[float, float, Row]]] = {}
    for row in facts.compared:
        x, y = 100 * removed(row, facts.reference), values.get(row.id, math.nan)
        if not row.reference and math.isfinite(x) and math.isfinite(y):
            groups.setdefault((row.compression, row.loss), []).append((x, y, row))
    if not groups:
        return None
    data = []
    for (compression, loss), members in groups.items():
        members.sort(key=lambda each: (each[0], each[2].id))
        joined = len(facts.compared) <= _MOST_JOINED and len(members) > 2
        data.append(
            {
                "type": style.kind,
                "mode": "lines+markers" if joined else "markers",
                "x": [short(x, 5) for x, _, _ in members],
                "y": [short(y, 5) for _, y, _ in members],
                "customdata": [order[row.id] for _, _, row in members],
                "text": [
                    lines([f"{row.id} {row.name}", f"{number(y, '.4g')} at {x:.0f} % removed"])
                    for x, y, row in members
                ],
                "hovertemplate": "%{text}<extra></extra>",
                "line": {"color": style.losses[loss], "width": 1, "dash": "dot"},
                "marker": {
                    "color": style.losses[loss],
                    "symbol": style.symbols[loss],
                    "size": 5 if style.many else 9,
                    "opacity": 0.5 if style.many else 0.9,
                },
                "meta": {"compression": compression, "loss": loss},
            }
        )
    shapes = []
    if math.isfinite(level):
        line = {"color": variable("ink"), "width": 1, "dash": "dot"}
        shapes = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level,
                   "line": line, "layer": "below"}]  # fmt: skip
    return {
        "id": key,
        "data": data,
        "layout": layout(
            xaxis=axis("non-zero parameters removed (%)"), yaxis=axis(title), shapes=shapes
        ),
        "height": 340,
        "clicks": True,
        "label": f"{title} against non-zero parameters removed, one symbol per loss",
    }


def hypervolume_figures(facts: Facts) -> list[Figure]:
    """Return the hypervolume over wall-clock time and over device time."""
    directions = list(facts.objectives.values())

    def steps(reference: bool) -> list[Step]:
        points = {
            row.id: [row.values[name] for name in facts.objectives]
            for row in facts.rows
            if row.rank is not None and (reference or not row.reference)
        }
        return timeline(facts.records, facts.config, points, facts.worst, directions)

    found = steps(True), steps(False)
    if len(found[0]) < 3 or not any(step.volume > 0 for step in found[0]):
        return []
    unit = device_of(facts.config)[0]
    alone = facts.volume([facts.reference]) if facts.reference is not None else 0.0
    figures = []
    for key, title, attribute in (
        ("volume-wall", "time in which trials ran", "wall"),
        ("volume-device", f"{unit} time spent", "device"),
    ):

        def value(step: Step, name: str = attribute) -> float:
            return float(getattr(step, name))

        divisor, name = _time_unit(max(value(step) for step in found[0]))
        data = []
        for taken, label, colour in zip(
            found, ("all trials", "compressed models"), ("ink", "c0"), strict=True
        ):
            # Even over thousands of trials the volume changes only a few dozen times.
            kept = [
                step
                for i, step in enumerate(taken)
                if i in (0, len(taken) - 1) or step.volume != taken[i - 1].volume
            ]
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if len(kept) < 60 else "lines",
                    "name": label,
                    "x": [short(value(step) / divisor, 5) for step in kept],
                    "y": [short(step.volume, 7) for step in kept],
                    "text": [
                        lines(
                            [
                                f"{label}: {step.volume:.4f}",
                                f"after {step.ended} trials, the last {step.trial}",
                            ]
                        )
                        for step in kept
                    ],
                    "hovertemplate": "%{text}<extra></extra>",
                    "line": {"shape": "hv", "color": variable(colour), "width": 2,
                             "dash": "dot" if label == "all trials" else "solid"},
                    "marker": {"size": 5, "color": variable(colour)},
                }
            )  # fmt: skip
        shapes = []
        if alone > 0:
            line = {"color": variable("soft"), "width": 1, "dash": "dash"}
            shapes = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": alone, "y1": alone,
                       "line": line, "layer": "below"}]  # fmt: skip
        figures.append(
            {
                "id": key,
                "data": data,
                "layout": layout(
                    xaxis=axis(f"{title} ({name})", rangemode="tozero"),
                    yaxis=axis("hypervolume", range=_volume_range(found, alone)),
                    shapes=shapes,
                ),
                "height": 320,
                "label": f"Hypervolume of the front over {title}",
            }
        )
    return figures


def _volume_range(found: tuple[list[Step], list[Step]], alone: float) -> list[float]:
    """Return limits that show the growth: the first point alone would flatten all others."""
    values = sorted(step.volume for taken in found for step in taken if step.volume > 0)
    if not values:
        return [0.0, 1.0]
    low = min(values[len(values) // 20], alone or values[-1])
    high = max(values[-1], alone)
    margin = max(0.15 * (high - low), 0.01 * high)
    return [low - margin, high + margin]


def _time_unit(seconds: float) -> tuple[float, str]:
    if seconds >= 5_400:
        return 3_600.0, "hours"
    return (60.0, "minutes") if seconds >= 180 else (1.0, "seconds")


def parallel_figure(facts: Facts, style: Style) -> tuple[Figure, int] | None:
    """Return parallel coordinates, and how many trials they show; None if nothing differs.

    A trial is one line through its settings and its results, thick if it is on the front. Where a
    trial lacks a setting, its line passes below the axis.
    """
    shown = [row for row in facts.finished if not row.reference]
    if len(shown) > MOST_LINES:
        front = [row for row in shown if row.candidate]
        others = [row for row in shown if not row.candidate]
        step = max(len(others) / max(MOST_LINES - len(front), 1), 1.0)
        shown = front + [others[int(i * step)] for i in range(int(len(others) / step))]
    records = {record.id: record for record in facts.records}
    settings = varied([records[row.id] for row in shown])
    results: dict[str, list[Any]] = {
        metric_title(name): [row.values[name] * scale(name) for row in shown]
        for name in facts.objectives
    }
    results.setdefault("non-zero parameters (M)", [row.size / 1e6 for row in shown])
    axes = [_Axis(key, column) for key, column in [*settings.items(), *results.items()]]
    axes = [each for each in axes if each.drawable]
    if len(shown) < 2 or len(axes) < 2:
        return None
    order = {row.id: index for index, row in enumerate(facts.rows)}
    groups: dict[tuple[str, str, bool], list[int]] = {}
    for index, row in enumerate(shown):
        groups.setdefault((row.compression, row.loss, row.candidate), []).append(index)
    data = []
    for (compression, loss, candidate), members in sorted(
        groups.items(), key=lambda item: item[0][2]
    ):
        trace: dict[str, list[Any]] = {"x": [], "y": [], "text": [], "customdata": []}
        for index in members:
            row = shown[index]
            text = lines(
                [
                    f"{row.id} {row.name}",
                    f"ID {percent(row.id_accuracy)}, OOD {percent(row.ood_accuracy)}, "
                    f"{millions(row.size)}",
                ]
            )
            for place, each in enumerate(axes):
                trace["x"].append(place)
                trace["y"].append(each.place(index))
                trace["text"].append(text)
                trace["customdata"].append(order[row.id])
            for column in trace.values():
                column.append(None)
        colour = style.colours[compression]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                **trace,
                "hovertemplate": "%{text}<extra></extra>",
                "line": {"color": colour, "width": 3 if candidate else 1},
                "marker": {"size": 6 if candidate else 4, "color": colour},
                "opacity": 1.0 if candidate else 0.3,
                "connectgaps": False,
                "meta": {"compression": compression, "loss": loss},
            }
        )
    figure = {
        "id": "parallel",
        "data": data,
        "layout": layout(
            xaxis=axis(
                "",
                tickvals=list(range(len(axes))),
                ticktext=[each.title for each in axes],
                side="top",
                range=[-0.4, len(axes) - 0.6],
                showgrid=True,
            ),
            yaxis={"visible": False, "range": [_ABSENT - 0.08, 1.08]},
            annotations=[note for place, each in enumerate(axes) for note in each.notes(place)],
            margin={"l": 24, "r": 44, "t": 60, "b": 16},
        ),
        "height": 460,
        "min_width": 92 * len(axes),
        "clicks": True,
        "label": "Parallel coordinates of settings and results, one line per trial",
    }
    return figure, len(shown)


class _Axis:
    """One vertical axis: a number's range, or a list of names."""

    def __init__(self, key: str, column: Sequence[Any]) -> None:
        self._column = column
        present = [
            value
            for value in column
            if value is not None and not (isinstance(value, float) and math.isnan(value))
        ]
        self._numeric = bool(present) and all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in present
        )
        if self._numeric:
            self._low, self._high = float(min(present)), float(max(present))
        else:
            self._names = sorted({str(value) for value in present})
        self.drawable = self._low < self._high if self._numeric else len(self._names) > 1
        self._absent = len(present) < len(column)
        known = key.replace("compression.", "").replace("loss.", "")
        title = {"compression.name": "compression", "loss.name": "loss"}.get(key, known)
        title = title.split(" accuracy,")[0].replace("in-distribution", "ID (%)")
        title = title.replace("out-of-distribution", "OOD (%)").replace("out-of-ID", "OOD")
        self.title = escaped(title).replace("non-zero parameters", "non-zero<br>parameters")

    def place(self, index: int) -> float:
        value = self._column[index]
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return _ABSENT
        if self._numeric:
            return round((float(value) - self._low) / (self._high - self._low), 4)
        return round(self._names.index(str(value)) / (len(self._names) - 1), 4)

    def notes(self, place: int) -> list[dict[str, Any]]:
        if self._numeric:
            marks = [(0.0, number(self._low, ".3g")), (1.0, number(self._high, ".3g"))]
        else:
            marks = [(i / (len(self._names) - 1), name) for i, name in enumerate(self._names)]
        if self._absent:
            marks.append((_ABSENT, "none"))
        font = {"size": 12, "color": variable("ink")}
        return [
            {"x": place, "y": y, "text": escaped(text), "showarrow": False, "xanchor": "left",
             "xshift": 5, "font": font, "bgcolor": variable("paper"), "opacity": 0.85}
            for y, text in marks
        ]  # fmt: skip
