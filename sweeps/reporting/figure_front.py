"""The front: every trial that has values is one dot, ID accuracy against OOD accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rc_core.metrics._floors import NAMES
from sweeps.report import Row
from sweeps.reporting.facts import ID_KEY, OOD_KEY, Facts, last_rung, millions, percent
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

Places = Mapping[str, tuple[float, float]]


def front_axes(facts: Facts) -> tuple[str, str]:
    """Return the metrics of both axes: the first two objectives, or the one and an accuracy."""
    names = [*facts.objectives, ID_KEY, OOD_KEY]
    first, second = list(dict.fromkeys(names))[:2]
    return first, second


def front_places(facts: Facts) -> dict[str, tuple[float, float]]:
    """Return where each trial lies, in the units shown; one without values has no place.

    A trial that was stopped or failed lies where its last quick evaluation saw it.
    """
    names = front_axes(facts)
    places = {}
    for record in facts.records:
        values = [record.metric(name) for name in names]
        if record.status != "finished":
            rung = last_rung(record)
            values = [rung.get(name, math.nan) for name in names]
        if all(map(math.isfinite, values)):
            x, y = (v * scale(n) for v, n in zip(values, names, strict=True))
            places[record.id] = (x, y)
    return places


def front_figure(facts: Facts, style: Style) -> Figure:
    """Return the figure; every trace of trials has their places in the sweep as `customdata`."""
    places = front_places(facts)
    order = {row.id: index for index, row in enumerate(facts.rows)}
    shown = [row for row in facts.rows if row.id in places]
    groups: dict[tuple[str, str, bool], list[Row]] = {}
    for row in shown:
        groups.setdefault((row.compression, row.loss, row.reference), []).append(row)
    data = [*_joined(facts, places)]
    # The front last, so that it lies on top within its group.
    for (compression, loss, reference), members in groups.items():
        members.sort(key=lambda row: (row.candidate or row.on_front, row.id))
        data.append(
            {
                **_marks(members, places, style),
                "customdata": [order[row.id] for row in members],
                "text": [_hover(row, facts) for row in members],
                "hovertemplate": "%{text}<extra></extra>",
                "meta": {
                    "trials": True,
                    "compression": None if reference else compression,
                    "loss": None if reference else loss,
                },
            }
        )
    data += _confirmed(facts, places, style)
    first, second = front_axes(facts)
    return {
        "id": "figure-front",
        "data": data,
        "layout": layout(
            xaxis=axis(metric_title(first)),
            yaxis=axis(metric_title(second), **_room([y for _, y in places.values()])),
            **_guides(facts, places, style),
        ),
        "height": 560,
        "clicks": True,
        "label": "Scatter of all trials: " + metric_title(first) + " against "
        + metric_title(second),
    }  # fmt: skip


def is_hollow(row: Row) -> bool:
    """Tell whether a trial is drawn hollow: dominated, stopped, failed, or infeasible."""
    return not (row.on_front or row.candidate or row.reference)


def _marks(members: Sequence[Row], places: Places, style: Style) -> dict[str, Any]:
    hollow = [is_hollow(row) for row in members]
    return {
        "type": style.kind,
        "mode": "markers",
        "name": escaped(f"{members[0].compression} {members[0].loss}"),
        "x": [short(places[row.id][0], 6) for row in members],
        "y": [short(places[row.id][1], 6) for row in members],
        "marker": {
            "color": style.colour(members[0]),
            "symbol": [style.symbol(r, hollow=h) for r, h in zip(members, hollow, strict=True)],
            "size": [style.size(row) for row in members],
            "opacity": [
                1.0 if not h else (0.45 if style.many else 0.85 if r.status == "finished" else 0.5)
                for r, h in zip(members, hollow, strict=True)
            ],
            "line": {"width": 1.5, "color": style.colour(members[0])},
        },
    }


def _hover(row: Row, facts: Facts) -> str:
    found = [f"{row.id} {row.name}"]
    if row.status == "finished":
        found.append(f"ID {percent(row.id_accuracy)}, OOD {percent(row.ood_accuracy)}")
        others = [name for name in facts.objectives if name not in (ID_KEY, OOD_KEY)]
        found += [f"{name}: {row.values[name]:g}" for name in others]
        found.append(f"{millions(row.parameters)} non-zero parameters")
    else:
        found.append(f"{row.status}: values of its last quick evaluation")
    if row.reference:
        found.append("the dense reference")
    elif row.candidate:
        found.append("on the front of compressed models")
    return lines(found)


def _joined(facts: Facts, places: Places) -> list[dict[str, Any]]:
    """Join both fronts by the steps that bound what they dominate."""
    if list(facts.objectives)[:2] != list(front_axes(facts)) or len(facts.objectives) != 2:
        return []
    shape = "vh" if next(iter(facts.objectives.values())) == "max" else "hv"
    candidates = [row for row in facts.rows if row.candidate]
    front = [row for row in facts.rows if row.on_front]
    found = []
    for rows, dash, colour in ((front, "dot", "soft"), (candidates, "solid", "soft")):
        if len(rows) < 2 or (dash == "dot" and {r.id for r in rows} == {r.id for r in candidates}):
            continue
        ordered = sorted(places[row.id] for row in rows)
        found.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [short(x, 6) for x, _ in ordered],
                "y": [short(y, 6) for _, y in ordered],
                "line": {"shape": shape, "dash": dash, "width": 1.5, "color": variable(colour)},
                "hoverinfo": "skip",
            }
        )
    return found


def _confirmed(facts: Facts, places: Places, style: Style) -> list[dict[str, Any]]:
    """Draw means over new seeds with their 95 % intervals, tied to what the search had said."""
    names = front_axes(facts)
    rows = {row.id: row for row in facts.rows}
    found: list[dict[str, Any]] = []
    for each in facts.confirmed_rows:
        if any(name not in each.estimates for name in names) or each.id not in places:
            continue
        means = [each.estimates[name] for name in names]
        if any(math.isnan(mean.mean) for mean in means):
            continue
        spots = [mean.mean * scale(name) for mean, name in zip(means, names, strict=True)]
        halves = [
            0.0 if math.isnan(mean.half_width) else mean.half_width * scale(name)
            for mean, name in zip(means, names, strict=True)
        ]
        row = rows[each.id]
        meta = {
            "compression": None if row.reference else row.compression,
            "loss": None if row.reference else row.loss,
        }
        searched = places[each.id]
        text = lines(
            [
                f"{each.id} {each.name}: mean of {each.seeds} new seeds",
                *(
                    f"{name}: {spot:.1f} \u00b1 {half:.1f} (the search had said {said:.1f})"
                    for name, spot, half, said in zip(names, spots, halves, searched, strict=True)
                ),
            ]
        )
        found.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [short(searched[0], 6), short(spots[0], 6)],
                "y": [short(searched[1], 6), short(spots[1], 6)],
                "line": {"dash": "dot", "width": 1, "color": style.colour(row)},
                "hoverinfo": "skip",
                "meta": meta,
            }
        )
        bar = {"color": style.colour(row), "thickness": 1.8, "width": 5}
        found.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [short(spots[0], 6)],
                "y": [short(spots[1], 6)],
                "error_x": {"type": "data", "array": [short(halves[0])], **bar},
                "error_y": {"type": "data", "array": [short(halves[1])], **bar},
                "marker": {
                    "symbol": "line-ew-open" if each.seeds == 1 else "circle",
                    "size": 7,
                    "color": style.colour(row),
                    "line": {"color": variable("paper"), "width": 1.5},
                },
                "text": [text],
                "hovertemplate": "%{text}<extra></extra>",
                "meta": meta | {"confirmed": True},
            }
        )
    return found


def _guides(facts: Facts, places: Places, style: Style) -> dict[str, Any]:
    """Return lines of the reference and of what needs no model, and the names of what matters."""
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    reference = facts.reference
    if reference is not None and reference.id in places:
        for key, value in zip("xy", places[reference.id], strict=True):
            shapes.append(_line(key, value, "ink", "dot"))
        named = _note(places[reference.id], "dense reference", "ink", (0, 26))
        # On a phone the legend's star is enough.
        notes.append(named | {"name": "wide-only"})
    for key, name in zip("xy", front_axes(facts), strict=True):
        for line, value in lines_in_range(
            facts, name, [p["xy".index(key)] for p in places.values()]
        ):
            shapes.append(_line(key, value, "bad", "dash"))
            notes.append(_line_name(key, value, f"{NAMES.get(line, line)} {value:.0f} %"))
    chosen = facts.chosen
    if chosen is not None and chosen.id in places:
        notes.append(
            _note(places[chosen.id], f"<b>take {escaped(chosen.id)}</b>", "ink", (-70, -58))
        )
    return {"shapes": shapes, "annotations": notes}


def lines_in_range(facts: Facts, metric: str, values: Sequence[float]) -> list[tuple[str, float]]:
    """Return the best line of a role where it is near the trials: (name, percent)."""
    role, _, what = metric.partition("/")
    found = facts.lines.get(role, {})
    if what != "accuracy" or not found or not values:
        return []
    best = max(found, key=lambda name: found[name])
    low, high = min(values), max(values)
    margin = 0.1 * (high - low)
    value = 100 * found[best]
    return [(best, value)] if low - margin <= value <= high + margin else []


def _room(values: Sequence[float]) -> dict[str, Any]:
    """Return limits with room above the highest trials, where the names of the best stand."""
    if not values or max(values) == min(values):
        return {}
    low, high = min(values), max(values)
    return {"range": [short(low - 0.06 * (high - low), 6), short(high + 0.16 * (high - low), 6)]}


def _line(key: str, value: float, colour: str, dash: str) -> dict[str, Any]:
    ends = {"x0": value, "x1": value, "y0": 0, "y1": 1, "yref": "paper", "xref": "x"}
    if key == "y":
        ends = {"y0": value, "y1": value, "x0": 0, "x1": 1, "xref": "paper", "yref": "y"}
    style = {"color": variable(colour), "width": 1, "dash": dash}
    return {"type": "line", "layer": "below", "line": style, "opacity": 0.8, **ends}


def _line_name(key: str, value: float, text: str) -> dict[str, Any]:
    place: dict[str, Any] = {"x": 0, "xref": "paper", "xanchor": "left", "y": value, "yshift": 9}
    if key == "x":
        place = {"y": 1, "yref": "paper", "yanchor": "top", "x": value, "xanchor": "right",
                 "xshift": -4}  # fmt: skip
    font = {"color": variable("bad"), "size": 12}
    return {"text": escaped(text), "showarrow": False, "font": font, **place}


def _note(
    place: tuple[float, float], text: str, colour: str, offset: tuple[int, int]
) -> dict[str, Any]:
    return {
        "x": short(place[0], 6),
        "y": short(place[1], 6),
        "text": text,
        "showarrow": True,
        "arrowhead": 0,
        "arrowwidth": 1,
        "standoff": 9,
        "arrowcolor": variable("soft"),
        "ax": offset[0],
        "ay": offset[1],
        "font": {"color": variable(colour), "size": 13},
        "bgcolor": variable("paper"),
        "opacity": 0.92,
        "borderpad": 2,
    }
