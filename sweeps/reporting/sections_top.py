"""The top of the page: the verdict, the front, the health check."""

from __future__ import annotations

import math

from rc_core.labels import count_of
from sweeps.ending import shown_state
from sweeps.reporting.check import Check
from sweeps.reporting.doubt import doubts
from sweeps.reporting.facts import Facts
from sweeps.reporting.figure_front import front_figure, front_places
from sweeps.reporting.front_notes import MOST_BARS, front_axes
from sweeps.reporting.markup import (
    Raw,
    Section,
    copy_button,
    figure,
    name_cell,
    note,
    paragraph,
    table,
)
from sweeps.reporting.style import (
    REFERENCE_SYMBOL,
    Style,
    better_is,
    escaped,
    metric_title,
    variable,
)
from sweeps.reporting.symbols import symbol
from sweeps.reporting.verdict import Sentence
from sweeps.rows import Row, size_note
from sweeps.shown_values import (
    column_title,
    metric_number,
    millions,
    number,
    percent,
    points,
    share,
)

_MARKS = {"good": "\u2713 fine", "note": "note", "warn": "! doubt", "bad": "\u2717 problem"}
# The class `note` is already used for small print.
_CLASSES = {"good": "good", "note": "info", "warn": "warn", "bad": "bad"}
_MOST_ROWS = 40
_SEARCHED = (
    "Values of one seed each; bold: the choice, made by means over new seeds if there are any."
)
_MEANS = "Means over the design's seeds, with intervals further below; bold: the choice."
_CROSSES = "Pale dots are single training seeds; the others are means of a configuration. "


def verdict_section(facts: Facts, sentences: list[Sentence]) -> Section:
    """Return the verdict, with the chosen model's numbers as tiles."""
    lines = "".join(
        f"<dt>{escaped(sentence.topic)}</dt><dd>{escaped(sentence.text)}"
        + (f"<br>{copy_button(sentence.command)}" if sentence.command else "")
        + "</dd>"
        for sentence in sentences
    )
    return Section("verdict", "Verdict", f"{_tiles(facts)}<dl>{lines}</dl>")


def _tiles(facts: Facts) -> str:
    chosen, reference = facts.chosen, facts.reference
    if chosen is None:
        return ""
    ours = facts.measured(chosen)
    inside, outside = "in distribution", "out of distribution"
    size = "non-zero parameters"
    if reference is not None:
        theirs = facts.measured(reference)
        inside = f"in distribution; dense {percent(theirs.inside)}"
        outside = f"out of distribution; dense {percent(theirs.outside)}"
        size = f"non-zero parameters; dense {millions(reference.size)}"
    half = "" if math.isnan(ours.half) else f" \u00b1 {100 * ours.half:.1f}"
    tiles = (
        (f"{'Doubtful:' if doubts(facts) else 'Take'} {chosen.id}", chosen.name),
        (f"{percent(ours.inside)}", inside),
        (f"{100 * ours.outside:.1f}{half} %", outside),
        (millions(chosen.size), size),
        ("1 seed", "small differences may be noise")
        if ours.seeds == 1
        else (
            f"{ours.seeds} seeds",
            "behind both accuracies"
            if facts.own_seeds
            else "not used to choose, behind both accuracies",
        ),
    )
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{escaped(big)}</b><span>{escaped(small)}</span></div>'
            for big, small in tiles
        )
        + "</div>"
    )


def front_section(facts: Facts, style: Style) -> Section:
    """Return the front with its legend, details of the trial pointed at, and a table."""
    drawn = front_figure(facts, style)
    places = front_places(facts)
    # An axis that is not an objective shows an accuracy.
    ways = [facts.objectives.get(name, "max") for name in front_axes(facts)]
    body = [
        paragraph(
            f"{len(places)} of {count_of(len(facts.rows), 'trial')}, one dot each. "
            f"{better_is(*ways)} {_CROSSES if facts.own_seeds else ''}"
            "Point at a dot to see its configuration; click it to copy its export command.",
        ),
        legend(facts, style),
        figure(drawn),
        '<div class="trial" id="trial" aria-live="polite">'
        + note("Point at or tap a dot to show its configuration here.")
        + "</div>",
        *_not_drawn(facts, places.keys()),
    ]
    if style.many:
        body.append(
            note(
                f"More than 1,000 trials: all {len(places)} are drawn, with smaller dots (by the "
                "graphics card if there is one); those off the front are pale."
            )
        )
    body += [
        "<h3>The front in numbers</h3>",
        _front_table(facts),
        note(
            f"{_MEANS if facts.own_seeds else _SEARCHED} *: on the front of all models; +: on "
            "the front of compressed models only. OOD vs dense: points above or below the dense "
            "reference. Dotted lines: the dense reference. Red dashes: the best "
            "trivial baseline, if it is near the trials."
        ),
    ]
    return Section("front", _front_title(facts), "".join(body), [drawn], link="Front")


def _front_title(facts: Facts) -> str:
    titles = map(metric_title, front_axes(facts))
    names = [title.split(" accuracy")[0].removesuffix(" (%)") for title in titles]
    if names == ["in-distribution", "out-of-distribution"]:
        return "The front: in-distribution against out-of-distribution accuracy"
    if all(name.endswith(" balanced") for name in names):
        inside, outside = (name.removesuffix(" balanced") for name in names)
        return f"The front: {inside} against {outside} balanced accuracy"
    return f"The front: {' against '.join(names)}"


def legend(facts: Facts, style: Style, *, by_loss: bool = False) -> str:
    """Return the legend; its names are buttons that hide and show their trials in every figure.

    Args:
        facts: of the sweep.
        style: colours and symbols.
        by_loss: colours stand for the loss (figures per loss) instead of the compression.
    """
    parts = []
    if not by_loss:
        parts.append('<span class="what">colour: compression</span>')
    else:
        parts.append('<span class="what">show</span>')
    for name, colour in style.colours.items():
        dot = "" if by_loss else f'<i style="background:{colour}"></i>'
        parts.append(_chip("compression", name, dot))
    parts.append(f'<span class="what">{"colour and " if by_loss else ""}symbol: loss</span>')
    for name, shape in style.symbols.items():
        colour = style.losses[name] if by_loss else "currentColor"
        parts.append(_chip("loss", name, symbol(shape, colour)))
    if not by_loss:
        bits = ", rounded ones by their bits" if any(r.rounded for r in facts.rows) else ""
        parts.append(f'<span class="what">size: non-zero parameters{bits}</span>')
        for picture, text in (
            (symbol("circle"), "on a front"),
            (symbol("circle", hollow=True), "dominated, unfinished or infeasible"),
            (symbol(REFERENCE_SYMBOL, variable("ink")), "dense reference"),
        ):
            parts.append(f'<span class="chip plain">{picture}{text}</span>')
        if facts.confirmed_rows:
            several = len(facts.confirmed_rows) > MOST_BARS
            off = (
                "; without bars: off the front"
                if facts.own_seeds
                else "; small dots: off the front"
            )
            whose = off if several else ""
            parts.append(
                f'<span class="chip plain">\u253c mean over {facts.seeds_are}, 95 % '
                f"interval{whose}</span>"
            )
    return f'<div class="legend">{"".join(parts)}</div>'


def _chip(kind: str, name: str, picture: str) -> str:
    text = escaped(name)
    return (
        f'<button type="button" class="chip" aria-pressed="true" data-kind="{kind}" '
        f'data-name="{text}">{picture}{text}</button>'
    )


def _not_drawn(facts: Facts, places: object) -> list[str]:
    assert hasattr(places, "__contains__")
    left = [row for row in facts.rows if row.id not in places]
    if not left:
        return []
    states = [shown_state(row.status, running=facts.running) for row in left[:12]]
    shown = ", ".join(f"{row.id} ({state})" for row, state in zip(left, states, strict=False))
    more = f" and {len(left) - 12} more" if len(left) > 12 else ""
    return [
        f'<p class="note" id="not-drawn" data-count="{len(left)}">'
        + escaped(f"Not drawn because nothing was measured: {shown}{more}.")
        + "</p>"
    ]


def _front_table(facts: Facts) -> str:
    front = [row for row in facts.units if row.on_front and not row.candidate]
    shown: list[Row] = [*front, *facts.candidates][:_MOST_ROWS]
    if facts.reference is not None and facts.reference not in shown:
        shown.append(facts.reference)
    chosen = facts.chosen
    # New seeds may choose a model that was dominated by the search's own values.
    if chosen is not None and chosen not in shown:
        shown.insert(0, chosen)
    extra = [name for name in facts.objectives if not name.endswith("dev/accuracy")]
    titles = ["", "trial", "configuration", "ID %", "OOD %", *map(column_title, extra),
              "OOD vs dense", "F_bias", "non-zero", ""]  # fmt: skip
    rows = []
    for row in shown:
        name = f"{row.name} (dense reference)" if row.reference else row.name
        rows.append(
            [
                "*" if row.on_front else "+" if row.candidate else "",
                row.id,
                name_cell(name),
                share(row.id_accuracy),
                share(row.ood_accuracy),
                *(metric_number(key, row.values[key]) for key in extra),
                "" if row.reference else points(row.ood_difference),
                number(row.relative_bias, ".2f"),
                millions(row.size),
                "" if row.reference else Raw(_export_button(facts, row.id)),
            ]
        )  # fmt: skip
    strong = [i for i, row in enumerate(shown) if chosen is not None and row.id == chosen.id]
    numbers = range(3, 7 + len(extra))
    found = table(titles, rows, numbers=[*numbers, 7 + len(extra)], strong=strong, caption="front")
    left = len(front) + len(facts.candidates) - _MOST_ROWS
    sizes = "".join(note(f"{line[:1].upper()}{line[1:]}.") for line in size_note(shown))
    return found + (note(f"{left} more are in front.json.") if left > 0 else "") + sizes


def _export_button(facts: Facts, trial_id: str) -> str:
    command = escaped(facts.export_command(trial_id))
    return (
        f'<button type="button" class="chip" data-copy="{command}" '
        f'aria-label="copy the command that exports {escaped(trial_id)}">export</button>'
    )


def health_section(checks: list[Check]) -> Section:
    """Return the health checks: what was found, and what to do."""
    items = "".join(
        f'<li><span class="mark {_CLASSES[check.level]}">{_MARKS[check.level]}</span><div>'
        f"<b>{escaped(check.title)}</b><br>{escaped(check.found[:1].upper() + check.found[1:])}."
        + (f'<br><span class="soft">Do: {escaped(check.action)}</span>' if check.action else "")
        + "</div></li>"
        for check in checks
    )
    return Section(
        "health", "Can this be trusted?", f'<ul class="checks">{items}</ul>', link="Trust"
    )
