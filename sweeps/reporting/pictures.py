"""The report's pictures as PNG, for pages that cannot run a script (matplotlib)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

from rc_core.labels import count_of

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweeps.reporting.cost import device_of, timeline
from sweeps.reporting.facts import Facts
from sweeps.reporting.figure_front import front_places
from sweeps.reporting.figures import removed
from sweeps.reporting.front_notes import front_axes
from sweeps.reporting.sections_results import heat_models, heat_slices
from sweeps.reporting.style import LIGHT, MANY, NUM_SERIES, Style, metric_title
from sweeps.views.picture import front_picture

_MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P",
            "triangle-down": "v", "pentagon": "p", "hexagram": "h", "x": "X",
            "triangle-left": "<", "triangle-right": ">"}  # fmt: skip
_MOST_SLICES = 30
# Of a slice's name, which may be text from a column: longer ones leave the picture no room.
_LONGEST_NAME = 40


PICTURES = ("front.png", "losses.png", "subcases.png", "hypervolume.png")


def write_pictures(facts: Facts, folder: Path) -> list[str]:
    """Write the pictures that the sweep has data for; return their names."""
    names = []
    drawings: dict[str, tuple[Callable[[Facts, Axes], bool], tuple[float, float]]] = {
        "front.png": (_many, (10, 7)),
        "losses.png": (_losses, (9, 5.5)),
        "subcases.png": (_subcases, (8, 9)),
        "hypervolume.png": (_volume, (9, 4.5)),
    }
    if len(facts.rows) <= MANY and any(row.rank is not None for row in facts.rows):
        del drawings["front.png"]
        front_picture(
            facts.units,
            facts.objectives,
            folder / "front.png",
            title=facts.name,
            lines=facts.lines,
            seeds=facts.rows if facts.own_seeds else (),
            halves={
                row.id: {name: each.half_width for name, each in row.estimates.items()}
                for row in facts.confirmed_rows
                if facts.own_seeds
            },
        )
        names.append("front.png")
    for name, (draw, size) in drawings.items():
        figure, axes = pyplot.subplots(figsize=size, dpi=110, layout="constrained")
        try:
            if draw(facts, axes):
                _save(figure, folder / name)
                names.append(name)
        finally:
            pyplot.close(figure)
    return names


def _many(facts: Facts, axes: Axes) -> bool:
    """Draw a front of thousands: the trials as small dots, one colour per compression."""
    places = front_places(facts)
    first, second = front_axes(facts)
    for compression, variable in Style.of(facts.rows).colours.items():
        colour = LIGHT[variable.removeprefix("var(--").removesuffix(")")]
        for candidate in (False, True):
            found = [
                places[row.id]
                for row in facts.rows
                if row.id in places
                and row.compression == compression
                and row.candidate == candidate
            ]
            if found:
                xs, ys = zip(*found, strict=True)
                size, alpha = (45, 1.0) if candidate else (7, 0.35)
                label = _text(compression) if candidate else None
                axes.scatter(xs, ys, c=colour, s=size, alpha=alpha, label=label)
    if facts.reference is not None and facts.reference.id in places:
        x, y = places[facts.reference.id]
        axes.scatter([x], [y], c="#16191d", s=160, marker="*", label="dense reference")
    what = f"{count_of(len(places), 'trial')} (large: front of compressed models)"
    _finish(axes, f"{facts.name}: {what}",
            metric_title(first), metric_title(second))  # fmt: skip
    _legend(axes)
    return bool(places)


def _losses(facts: Facts, axes: Axes) -> bool:
    """Draw OOD accuracy against what was removed, one colour and symbol per loss."""
    style = Style.of(facts.rows)
    reference = facts.reference
    drawn = False
    for loss, variable in style.losses.items():
        points = [
            (100 * removed(row, reference), 100 * row.ood_accuracy)
            for row in facts.compared
            if row.loss == loss and not row.reference
        ]
        points = [point for point in points if all(map(math.isfinite, point))]
        if points:
            drawn = True
            xs, ys = zip(*points, strict=True)
            colour = LIGHT[variable.removeprefix("var(--").removesuffix(")")]
            marker = _MARKERS[style.symbols[loss]]
            axes.scatter(xs, ys, c=colour, marker=marker, s=45, label=_text(loss), alpha=0.85)
    if reference is not None:
        axes.axhline(100 * reference.ood_accuracy, color="#333333", linestyle=":", linewidth=1)
    _finish(axes, f"{facts.name}: OOD accuracy by loss (dotted: dense reference)",
            "non-zero parameters removed (%)", "OOD accuracy (%)")  # fmt: skip
    if drawn:
        _legend(axes)
    return drawn


def _subcases(facts: Facts, axes: Axes) -> bool:
    """Draw the accuracies of each OOD slice, the models side by side."""
    models = heat_models(facts)
    kinds = heat_slices(facts, models)
    if not kinds:
        return False
    kind, slices = next(iter(kinds.items()))
    slices = slices[:_MOST_SLICES]
    values = [[100 * value for value in found] for _, found in slices]
    axes.imshow(values, cmap="Blues", vmin=0, vmax=110, aspect="auto")
    for y, found in enumerate(values):
        for x, value in enumerate(found):
            text = "-" if math.isnan(value) else f"{value:.0f}"
            colour = "white" if value > 62 else "#16191d"
            axes.text(x, y, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(models)), [f"{role}\n{row.id}" for role, row in models])
    names = [n if len(n) <= _LONGEST_NAME else f"{n[: _LONGEST_NAME - 3]}..." for n, _ in slices]
    axes.set_yticks(range(len(slices)), list(map(_text, names)), fontsize=9)
    axes.tick_params(length=0)
    axes.set_title(_text(f"{facts.name}: OOD accuracy (%) by {kind}"), loc="left", fontsize=11)
    for side in axes.spines.values():
        side.set_visible(False)
    return True


def _volume(facts: Facts, axes: Axes) -> bool:
    """Draw the hypervolume of compressed models over device time."""
    points = {
        row.id: [row.values[name] for name in facts.objectives]
        for row in facts.rows
        if row.rank is not None and not row.reference
    }
    directions = list(facts.objectives.values())
    steps = timeline(facts.records, facts.config, points, facts.worst, directions)
    steps = [step for step in steps if step.volume > 0]
    if facts.own_seeds or len(steps) < 3:
        return False
    hours = [step.device / 3_600 for step in steps]
    axes.step(hours, [s.volume for s in steps], where="post", color=LIGHT["c0"], linewidth=2)
    if facts.reference is not None:
        alone = facts.volume([facts.reference])
        axes.axhline(alone, color="#555555", linestyle="--", linewidth=1)
    _finish(axes, f"{facts.name}: hypervolume of compressed models (dashes: the reference alone)",
            f"{device_of(facts.config)[0]} hours", "hypervolume")  # fmt: skip
    return True


def comparison_picture(
    fronts: dict[str, list[tuple[float, float]]], path: Path, **titles: str
) -> None:
    """Draw the fronts of several sweeps, one colour each.

    Args:
        fronts: sweep -> points of its front.
        path: PNG to write.
        titles: `x`, `y` and `title`.
    """
    figure, axes = pyplot.subplots(figsize=(9, 6), dpi=110, layout="constrained")
    try:
        markers = list(_MARKERS.values())
        for i, (name, places) in enumerate(fronts.items()):
            if places:
                xs, ys = zip(*sorted(places), strict=True)
                colour, marker = LIGHT[f"c{i % NUM_SERIES}"], markers[i % len(markers)]
                axes.plot(xs, ys, color=colour, marker=marker, linewidth=1.2, label=_text(name))
        _finish(axes, titles["title"], titles["x"], titles["y"])
        _legend(axes)
        _save(figure, path)
    finally:
        pyplot.close(figure)


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    settings: dict[str, Any] = {"color": "#dddddd", "linewidth": 0.7}
    axes.grid(**settings)
    axes.set_axisbelow(True)
    axes.set_title(_text(title), loc="left", fontsize=11)
    axes.set_xlabel(_text(x))
    axes.set_ylabel(_text(y))


def _legend(axes: Axes) -> None:
    """Add a legend unless it would be empty, which matplotlib warns about."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def _save(figure: Figure, path: Path) -> None:
    """Write a picture; characters that matplotlib's font lacks become boxes, without warning."""
    with warnings.catch_warnings():
        # Slice names come from a user's column; the HTML page can show any of them.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        figure.savefig(path)


def _text(text: str) -> str:
    # A dollar sign would begin a formula.
    return text.replace("$", "\\$")
