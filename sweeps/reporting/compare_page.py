"""The comparison of sweeps as one HTML file and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rc_core.errors import StorageError
from sweeps.reporting.compare import Comparison, Side, basis, best_rows, notes
from sweeps.reporting.markup import Section, figure, note, paragraph, table
from sweeps.reporting.page import assemble
from sweeps.reporting.style import (
    NUM_SERIES,
    SYMBOLS,
    Figure,
    axis,
    better_is,
    escaped,
    layout,
    lines,
    metric_title,
    scale,
    short,
    variable,
)
from sweeps.reporting.symbols import symbol
from sweeps.shown_values import percent

PAGE, PICTURE = "comparison.html", "comparison.png"


def write_comparison(found: Comparison, out: Path) -> Path:
    """Write `comparison.html` and `comparison.png`; return the page's path.

    Raises:
        StorageError: the folder cannot be written.
    """
    from sweeps.reporting.pictures import comparison_picture

    names = list(found.objectives)[:2]
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / PAGE).write_text(comparison_page(found), encoding="utf-8")
        if len(names) == 2:
            comparison_picture(
                {side.label: _places(side, names) for side in found.sides},
                out / PICTURE,
                x=metric_title(names[0]),
                y=metric_title(names[1]),
                title="fronts of compressed models",
            )
    except OSError as error:
        raise StorageError(f"{out} must be a folder that can be written: {error}") from error
    return out / PAGE


def comparison_page(found: Comparison) -> str:
    """Return the comparison as HTML."""
    sections = [_warnings(found), _sweeps(found)]
    if len(found.objectives) > 1:
        sections.insert(1, _fronts(found))
    names = [side.label for side in found.sides]
    return assemble(
        title=" against ".join(names),
        heading=" against ".join(names),
        under=f"{len(names)} sweeps compared on {', '.join(found.objectives)}",
        sections=sections,
        data={"trials": [], "columns": [], "settings": [], "command": ""},
        foot="".join(f"<p>{escaped(line)}</p>" for line in notes(found)),
    )


def _warnings(found: Comparison) -> Section:
    if not found.warnings:
        body = paragraph(
            "By their records, the sweeps have the same task, data, splits, encoder, steps and "
            "seeds, so the numbers can be compared. A "
            f"difference of a few points may still be noise; {basis(found)}."
        )
        return Section("alike", "Can these be compared?", body, link="Alike?")
    items = "".join(
        f'<li><span class="mark warn">! doubt</span><div>{escaped(text[:1].upper() + text[1:])}.'
        "</div></li>"
        for text in found.warnings
    )
    body = f'<ul class="checks">{items}</ul>'
    return Section("alike", "Can these be compared?", body, link="Alike?")


def _fronts(found: Comparison) -> Section:
    drawn = _figure(found)
    keys = "".join(
        f'<span class="chip plain">{symbol(SYMBOLS[i % len(SYMBOLS)], _colour(i))}'
        f"{escaped(side.label)}</span>"
        for i, side in enumerate(found.sides)
    )
    star = symbol("star", variable("ink"))
    ways = list(found.objectives.values())
    # With more than two objectives a front is not a line.
    joined = "The fronts are joined. " if len(ways) == 2 else ""
    body = (
        paragraph(f"{better_is(*ways[:2])} {joined}Pale dots are dominated.")
        + f'<div class="legend">{keys}<span class="chip plain">{star}dense references</span></div>'
        + figure(drawn)
    )
    return Section("fronts", "The fronts of compressed models", body, [drawn], link="Fronts")


def _figure(found: Comparison) -> Figure:
    names = list(found.objectives)[:2]
    joined = len(found.objectives) == 2
    shape = "vh" if found.objectives[names[0]] == "max" else "hv"
    data = []
    for i, side in enumerate(found.sides):
        front = {row.id for row in side.facts.candidates}
        for on_front in (False, True):
            rows = [
                row
                for row in side.facts.units
                if row.rank is not None and not row.reference and (row.id in front) == on_front
            ]
            rows.sort(key=lambda row: row.values[names[0]])
            data.append(
                {
                    "type": "scatter" if len(rows) < 1_000 else "scattergl",
                    "mode": "lines+markers" if on_front and joined else "markers",
                    "x": [short(row.values[names[0]] * scale(names[0]), 6) for row in rows],
                    "y": [short(row.values[names[1]] * scale(names[1]), 6) for row in rows],
                    "text": [lines([f"{side.label}: {r.id} {r.name}"]) for r in rows],
                    "hovertemplate": "%{text}<br>%{x:.1f}, %{y:.1f}<extra></extra>",
                    "line": {"shape": shape, "color": _colour(i), "width": 1.5},
                    "marker": {
                        "color": _colour(i),
                        "symbol": SYMBOLS[i % len(SYMBOLS)],
                        "size": 11 if on_front else 7,
                    },
                    "opacity": 1.0 if on_front else 0.35,
                }
            )
        reference = side.facts.reference
        if reference is not None and reference.drawn:
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [short(reference.values[names[0]] * scale(names[0]), 6)],
                    "y": [short(reference.values[names[1]] * scale(names[1]), 6)],
                    "text": [lines([f"{side.label}: the dense reference"])],
                    "hovertemplate": "%{text}<br>%{x:.1f}, %{y:.1f}<extra></extra>",
                    "marker": {
                        "symbol": "star",
                        "size": 17,
                        "color": _colour(i),
                        "line": {"color": variable("ink"), "width": 1.2},
                    },
                }
            )
    first, second = map(metric_title, names)
    return {
        "id": "fronts-figure",
        "data": data,
        "layout": layout(xaxis=axis(first), yaxis=axis(second)),
        "height": 520,
        "label": f"Fronts of all sweeps: {first} against {second}",
    }


def _sweeps(found: Comparison) -> Section:
    rows = []
    for side in found.sides:
        reference = side.facts.reference
        dense = ("-", "-")
        if reference is not None:
            dense = (percent(reference.id_accuracy), percent(reference.ood_accuracy))
        rows.append(
            [side.label, f"{len(side.facts.finished)} of {len(side.facts.rows)}",
             str(len(side.facts.candidates)), f"{side.volume:.4f}", f"{side.with_reference:.4f}",
             *dense, percent(side.beaten, 0)]
        )  # fmt: skip
    titles = ["sweep", "finished", "on its front", "hypervolume", "with dense", "dense ID",
              "dense OOD", "beaten"]  # fmt: skip
    body = table(titles, rows, numbers=range(1, 8), caption="sweeps")
    body += "".join(note(line[:1].upper() + line[1:] + ".") for line in notes(found))
    body += "<h3>Models to choose from</h3>"
    picks = ["pick", "sweep", "trial", "configuration", "ID %", "OOD %", "OOD vs dense",
             "non-zero"]  # fmt: skip
    body += table(picks, best_rows(found), numbers=range(4, 8), caption="best rows")
    return Section("numbers", "In numbers", body, link="Numbers")


def _places(side: Side, names: Sequence[str]) -> list[tuple[float, float]]:
    first, second = names
    return [
        (row.values[first] * scale(first), row.values[second] * scale(second))
        for row in side.facts.candidates
    ]


def _colour(index: int) -> str:
    return variable(f"c{index % NUM_SERIES}")
