"""Numbers as displayed text; a dash (in JSON null) if unknown.

Shares in percent, differences in points, intervals as half their width.
"""

from __future__ import annotations

import math

from sweeps.objectives import ID_KEY, OOD_KEY


def number(value: float, form: str = "g") -> str:
    """Return a number by a format specification; large ones as `13,500,000`, not 1.35e+07."""
    if math.isnan(value):
        return "-"
    text = f"{value:{form}}"
    return f"{value:{'+' * form.startswith('+')},.0f}" if "e+" in text else text


def share(value: float, half: float = math.nan) -> str:
    """Return a share in percent, for a column with % in its title: `64.2`, `64.2 \u00b1 13.1`.

    Args:
        value: in [0, 1].
        half: half the width of its interval, in the same unit; NaN if there is none.
    """
    return _with_half(number(100 * value, ".1f"), 100 * half)


def percent(value: float, digits: int = 1) -> str:
    """Return a share in percent with its sign: `64.2 %`."""
    return "-" if math.isnan(value) else f"{100 * value:.{digits}f} %"


def points(value: float, half: float = math.nan) -> str:
    """Return a difference in points: `+5.6`, `+5.6 \u00b1 11.4`.

    Args:
        value: in points.
        half: half the width of its interval, in points; NaN if there is none.
    """
    return _with_half(number(value, "+z.1f"), half)


def scaled(metric: str, value: float) -> float:
    """Return a metric's value as tables and pictures show it: accuracies in percent."""
    return 100 * value if metric.endswith("accuracy") else value


def metric_number(metric: str, value: float) -> str:
    """Return a metric for a column of its own: `64.2`, `13,500,000`."""
    return number(scaled(metric, value), ".1f" if metric.endswith("accuracy") else ".4g")


def metric_text(metric: str, value: float) -> str:
    """Return a metric for a sentence: `64.2 %`, `13,500,000`."""
    return percent(value) if metric.endswith("accuracy") else metric_number(metric, value)


def column_title(metric: str) -> str:
    """Return the title of a column or an axis for a metric."""
    known = {
        ID_KEY: "ID %",
        OOD_KEY: "OOD %",
        "id_dev/balanced_accuracy": "ID balanced %",
        "ood_dev/balanced_accuracy": "OOD balanced %",
    }
    return known.get(metric, f"{metric} (%)" if metric.endswith("accuracy") else metric)


def millions(value: float) -> str:
    """Return a number of parameters: `22.7 M`, `45.7 K`."""
    if math.isnan(value):
        return "-"
    return f"{value / 1e6:.1f} M" if value >= 1e5 else f"{value / 1e3:.1f} K"


def in_millions(value: float) -> str:
    """Return a number of parameters for a column of millions: `22.7`, of small models `0.046`."""
    return number(value / 1e6, ".1f" if abs(value) >= 1e5 else ".2g")


def duration(seconds: float) -> str:
    """Return how long something took: `48 s`, `6.5 min`, `3.2 h`."""
    if math.isnan(seconds):
        return "-"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def clock(seconds: float) -> str:
    """Return an elapsed time: `m:ss`, from an hour on `h:mm:ss`."""
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def null(value: float) -> float | None:
    """Return a number for strict JSON, which has no NaN."""
    return None if math.isnan(value) else value


def _with_half(text: str, half: float) -> str:
    return text if text == "-" or math.isnan(half) else f"{text} \u00b1 {half:.1f}"
