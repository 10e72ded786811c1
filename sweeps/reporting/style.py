"""How trials look in every figure: the colour shows the compression, the symbol the loss.

Colours are names of the page's CSS variables, so that one figure serves light and dark mode; the
page's script inserts the values. They are defined here because tests measure their contrast.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.rows import Row

# Okabe and Ito's hues, darkened or lightened until each stands out from its background (3:1).
LIGHT = {
    "c0": "#0072b2",
    "c1": "#c8500a",
    "c2": "#00805c",
    "c3": "#b04f8c",
    "c4": "#a87000",
    "c5": "#2f8fc8",
    "c6": "#4d4d4d",
    "c7": "#7a3fc0",
    "c8": "#8a4b2a",
    "c9": "#6b7d00",
    "paper": "#ffffff",
    "page": "#f6f7f9",
    "ink": "#16191d",
    "soft": "#59616b",
    "line": "#dde1e6",
    "good": "#00704f",
    "note": "#0067a3",
    "warn": "#8f5c00",
    "bad": "#b3261e",
    "heat": "#0072b2",
}
DARK = {
    "c0": "#56b4e9",
    "c1": "#ff8a3d",
    "c2": "#2fc79a",
    "c3": "#e58cc4",
    "c4": "#f0c04a",
    "c5": "#8ab4f8",
    "c6": "#c4c9d0",
    "c7": "#b794f6",
    "c8": "#d2a184",
    "c9": "#b9cc5a",
    "paper": "#16191d",
    "page": "#0e1013",
    "ink": "#eceff3",
    "soft": "#a3acb7",
    "line": "#2c3239",
    "good": "#4fd1a5",
    "note": "#7cc4f5",
    "warn": "#f0c04a",
    "bad": "#ff8f85",
    "heat": "#1274b5",
}
# Enough for a sweep of all compressions and all losses, each with its own colour and symbol.
NUM_SERIES = 10
SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "cross",
    "triangle-down",
    "pentagon",
    "hexagram",
    "x",
    "triangle-left",
    "triangle-right",
)
REFERENCE_SYMBOL = "star"
# More points than this are drawn smaller, by the graphics card.
MANY = 1_000

Figure = dict[str, Any]


@dataclass(frozen=True)
class Style:
    """Colour and symbol of each name in a sweep.

    Attributes:
        colours: compression (or, in the figures per loss, loss) -> CSS variable.
        losses: loss -> CSS variable.
        symbols: loss -> plotly's symbol.
        largest: most non-zero parameters of any trial.
        many: whether the points are drawn small.
    """

    colours: Mapping[str, str]
    losses: Mapping[str, str]
    symbols: Mapping[str, str]
    largest: float
    many: bool

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Style:
        """Assign colours and symbols to a sweep's compressions and losses, in order of name."""
        compressions = sorted({r.compression for r in rows if not r.reference})
        losses = sorted({row.loss for row in rows}, key=lambda name: (name != "vanilla", name))
        return cls(
            colours={name: variable(f"c{i % NUM_SERIES}") for i, name in enumerate(compressions)},
            losses={name: variable(f"c{i % NUM_SERIES}") for i, name in enumerate(losses)},
            symbols={name: SYMBOLS[i % len(SYMBOLS)] for i, name in enumerate(losses)},
            largest=max((r.size for r in rows if r.size > 0), default=1.0),
            many=len(rows) > MANY,
        )

    @property
    def kind(self) -> str:
        """Plotly's trace type."""
        return "scattergl" if self.many else "scatter"

    def colour(self, row: Row) -> str:
        return variable("ink") if row.reference else self.colours[row.compression]

    def symbol(self, row: Row, *, hollow: bool) -> str:
        name = REFERENCE_SYMBOL if row.reference else self.symbols[row.loss]
        return f"{name}-open" if hollow else name

    def size(self, row: Row) -> float:
        """Return a diameter in pixels whose area grows with the non-zero parameters."""
        low, high = (5.0, 11.0) if self.many else (9.0, 21.0)
        if row.reference:
            return high + 3
        if math.isnan(row.size):
            return low
        return round(low + (high - low) * math.sqrt(min(row.size / self.largest, 1.0)), 1)


def variable(name: str) -> str:
    """Return the CSS variable of a colour."""
    return f"var(--{name})"


def css_variables(colours: Mapping[str, str]) -> str:
    """Return declarations for a style sheet."""
    return "".join(f"--{name}:{value};" for name, value in colours.items())


def escaped(text: str) -> str:
    """Return text with HTML escaped; plotly interprets tags in texts, as browsers do."""
    return html.escape(str(text), quote=True)


def lines(parts: Iterable[str]) -> str:
    """Join escaped parts as lines of a plotly text."""
    return "<br>".join(escaped(part) for part in parts)


def axis(title: str, **more: Any) -> dict[str, Any]:
    """Return an axis in the page's colours."""
    return {
        "title": {"text": title, "font": {"color": variable("soft"), "size": 13}},
        "gridcolor": variable("line"),
        "linecolor": variable("line"),
        "zerolinecolor": variable("line"),
        "tickfont": {"color": variable("soft"), "size": 12},
        "automargin": True,
        **more,
    }


def layout(**more: Any) -> dict[str, Any]:
    """Return a figure's layout in the page's colours; the page draws the legends."""
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": variable("ink"), "family": "system-ui, sans-serif", "size": 13},
        "margin": {"l": 56, "r": 16, "t": 30, "b": 56},
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": variable("paper"),
            "bordercolor": variable("soft"),
            "font": {"color": variable("ink"), "size": 13},
            "align": "left",
        },
        "dragmode": False,
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)",
            "color": variable("soft"),
            "activecolor": variable("ink"),
        },
        **more,
    }


def better_is(across: str, upward: str) -> str:
    """Return a sentence on which corner is best, from the directions of both axes."""
    sides = ("Up" if upward == "max" else "Down", "right" if across == "max" else "left")
    return f"{' and '.join(sides)} is better."


def metric_title(name: str) -> str:
    """Return the axis title of a metric."""
    known = {
        "id_dev/accuracy": "in-distribution accuracy, id_dev (%)",
        "ood_dev/accuracy": "out-of-distribution accuracy, ood_dev (%)",
        "id_dev/balanced_accuracy": "in-distribution balanced accuracy, id_dev (%)",
        "ood_dev/balanced_accuracy": "out-of-distribution balanced accuracy, ood_dev (%)",
        "footprint/nonzero_parameters": "non-zero parameters (M)",
    }
    unit = " (%)" if name.endswith("accuracy") else " (M)" if scale(name) < 1 else ""
    return known.get(name, f"{name}{unit}")


def scale(name: str) -> float:
    """Return the factor by which a metric is multiplied to be shown."""
    if name.endswith("accuracy"):
        return 100.0
    return 1e-6 if name.endswith("parameters") else 1.0


def short(value: float, digits: int = 4) -> float | None:
    """Return a number with few digits, None where it is not finite (JSON has no NaN)."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
