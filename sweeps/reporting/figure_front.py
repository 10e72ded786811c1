"""The front: every trial that has values is one dot, ID accuracy against OOD accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.ending import shown_state
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.reporting.facts import Facts, last_rung
from sweeps.reporting.front_notes import Mean, Places, frame_of, front_axes, front_means, guides
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
from sweeps.shown_values import metric_text, millions, number, percent


def front_places(facts: Facts) -> dict[str, tuple[float, float]]:
    """Return where each trial lies, in the units shown; trials without values are left out.

    A trial that was stopped or failed is placed by its last quick evaluation.
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
    """Return the figure; traces of trials have their indices in the sweep as `customdata`."""
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
                **_marks(members, places, style, pale=facts.own_seeds),
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
    means = front_means(facts, places)
    data += _confirmed(facts, places, means, style)
    frame = frame_of(places, means)
    first, second = front_axes(facts)
    return {
        "id": "figure-front",
        "data": data,
        "layout": layout(
            xaxis=axis(metric_title(first), range=list(frame.x)),
            yaxis=axis(metric_title(second), range=list(frame.y)),
            **guides(facts, frame, places, means, style),
        ),
        "height": 560,
        "clicks": True,
        "label": "Scatter of all trials: " + metric_title(first) + " against "
        + metric_title(second),
    }  # fmt: skip


def is_hollow(row: Row) -> bool:
    """Tell whether a trial is drawn hollow: dominated, stopped, failed, or infeasible."""
    return not (row.on_front or row.candidate or row.reference)


def _marks(members: Sequence[Row], places: Places, style: Style, *, pale: bool) -> dict[str, Any]:
    """Return the dots of some trials; pale ones lie behind the means of their seeds."""
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
            "size": [round(style.size(row) * (0.55 if pale else 1.0), 1) for row in members],
            "opacity": [
                0.35
                if pale
                else 1.0
                if not h
                else (0.45 if style.many else 0.85 if r.status == "finished" else 0.5)
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
        found += [f"{name}: {metric_text(name, row.values[name])}" for name in others]
        found.append(f"{millions(row.size)} non-zero parameters")
    else:
        state = shown_state(row.status, running=facts.running)
        found.append(f"{state}: values of its last quick evaluation")
    if row.reference:
        found.append("the dense reference")
    elif row.candidate:
        found.append("on the front of compressed models")
    return lines(found)


def _joined(facts: Facts, places: Places) -> list[dict[str, Any]]:
    """Join both fronts by the steps that bound what they dominate.

    In a design over seeds, the fronts of the means.
    """
    if list(facts.objectives)[:2] != list(front_axes(facts)) or len(facts.objectives) != 2:
        return []
    shape = "vh" if next(iter(facts.objectives.values())) == "max" else "hv"
    if facts.own_seeds:
        places = {key: mean.spot for key, mean in front_means(facts, places).items()}
    candidates = [row for row in facts.units if row.candidate and row.id in places]
    front = [row for row in facts.units if row.on_front and row.id in places]
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


def _mean_mark(seeds: int, mean: Mean, row: Row, facts: Facts, style: Style) -> dict[str, Any]:
    """Return the mark of a mean: the configuration's own in a design over seeds."""
    if facts.own_seeds:
        return {
            "symbol": style.symbol(row, hollow=is_hollow(row)),
            "size": style.size(row),
            "color": style.colour(row),
            "line": {"width": 2, "color": style.colour(row)},
        }
    return {
        "symbol": "line-ew-open" if seeds == 1 and mean.barred else "circle",
        "size": 7 if mean.barred else 5,
        "color": style.colour(row),
        "line": {"color": variable("paper"), "width": 1.5 if mean.barred else 0.5},
    }


def _mean_text(metric: str, mean: float, half: float) -> str:
    name = metric if metric.endswith("accuracy") else metric_title(metric)
    return f"{name}: {_text(metric, mean)} \u00b1 {_text(metric, half)}"


def _text(metric: str, value: float) -> str:
    """Return a metric in the units shown; other metrics than accuracies may be below 0.1."""
    return number(value, ".1f" if metric.endswith("accuracy") else ".3g")


def _confirmed(
    facts: Facts, places: Places, means: Mapping[str, Mean], style: Style
) -> list[dict[str, Any]]:
    """Draw means over seeds with their 95 % intervals, joined to the search's values."""
    names = front_axes(facts)
    rows = {row.id: row for row in facts.rows}
    order = {row.id: index for index, row in enumerate(facts.rows)}
    found: list[dict[str, Any]] = []
    for each in facts.confirmed_rows:
        if each.id not in means:
            continue
        mean, row, searched = means[each.id], rows[each.id], places[each.id]
        spots, halves = mean.spot, mean.halves
        meta = {
            "compression": None if row.reference else row.compression,
            "loss": None if row.reference else row.loss,
        }
        text = lines(
            [
                f"{each.id} {each.name}: mean of {each.seeds} {facts.seeds_are}",
                *(
                    _mean_text(name, spot, half)
                    + ("" if facts.own_seeds else f" (the search had said {_text(name, said)})")
                    for name, spot, half, said in zip(names, spots, halves, searched, strict=True)
                ),
            ]
        )
        if not facts.own_seeds:
            found.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": [short(searched[0], 6), short(spots[0], 6)],
                    "y": [short(searched[1], 6), short(spots[1], 6)],
                    "line": {"dash": "dot", "width": 1, "color": style.colour(row)},
                    "opacity": 1.0 if mean.barred else 0.45,
                    "hoverinfo": "skip",
                    "meta": meta,
                }
            )
        bar = {"color": style.colour(row), "thickness": 1.8, "width": 5, "visible": mean.barred}
        found.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [short(spots[0], 6)],
                "y": [short(spots[1], 6)],
                "error_x": {"type": "data", "array": [short(halves[0])], **bar},
                "error_y": {"type": "data", "array": [short(halves[1])], **bar},
                "marker": _mean_mark(each.seeds, mean, row, facts, style),
                # A click shows the configuration's first trial and its export command.
                **({"customdata": [order[each.id]]} if facts.own_seeds else {}),
                "text": [text],
                "hovertemplate": "%{text}<extra></extra>",
                "meta": meta | {"confirmed": True},
            }
        )
    return found
