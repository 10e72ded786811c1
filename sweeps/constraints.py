"""Constraints on outcomes: `id_dev/accuracy >= reference - 0.02`, `footprint/bytes <= 30e6`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from rc_core.errors import ConfigError

# Lower and upper end; both NaN if unknown.
Interval = tuple[float, float]
# In binary, 0.52 - 0.05 is slightly above 0.47; a value at its bound satisfies it all the same.
_ROUNDING = 1e-9

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PATTERN = re.compile(
    rf"\s*(?P<metric>[\w./-]+)\s*(?P<sign><=|>=)\s*"
    rf"(?:(?P<reference>reference)\s*(?:(?P<plus>[+-])\s*(?P<offset>{_NUMBER}))?"
    rf"|(?:(?P<factor>{_NUMBER})\s*\*\s*reference)|(?P<number>{_NUMBER}))\s*"
)


@dataclass(frozen=True)
class Constraint:
    """A bound on one metric.

    Attributes:
        text: as written.
        metric: key of the record's metrics.
        at_least: the metric must be at least the bound; else at most.
        factor: the bound is factor times the reference's value ...
        offset: ... plus this; with factor 0 it is a plain number.
        remedy: command that measures the metric, or empty.
    """

    text: str
    metric: str
    at_least: bool
    factor: float
    offset: float
    remedy: str = ""

    def violation(self, metrics: Mapping[str, float], reference: Mapping[str, float]) -> float:
        """Return by how much the bound is missed: satisfied if <= 0, NaN if not measured."""
        value = metrics.get(self.metric, math.nan)
        base = self.factor * reference.get(self.metric, math.nan) if self.factor else 0.0
        bound = base + self.offset
        if math.isclose(value, bound, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
            return 0.0
        return bound - value if self.at_least else value - bound

    def undecided(self, own: Interval, reference: Interval) -> bool:
        """Tell whether the intervals leave open on which side of the bound the metric is.

        Args:
            own: interval of the metric.
            reference: interval of the dense reference's metric.
        """
        # Comparing the ends is conservative if both vary together.
        signs = {
            self.violation({self.metric: ours}, {self.metric: base}) <= 0
            if not math.isnan(ours + (base if self.factor else 0.0))
            else None
            for ours in own
            for base in reference
        }
        return len(signs) > 1 or None in signs

    def unmeasured(self) -> str:
        """Return the message for a trial without the metric."""
        reason = f"{self.text} cannot be checked: the metric was not measured"
        return f"{reason}; run: {self.remedy}" if self.remedy else reason


def parse(text: str) -> Constraint:
    """Read a constraint.

    Raises:
        ConfigError: not `METRIC >= NUMBER`, `... reference - NUMBER` or `... NUMBER * reference`,
            or an accuracy's bound in percent.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ConfigError(
            "a constraint must look like 'id_dev/accuracy >= reference - 0.02' or "
            f"'footprint/parameters <= 30e6', but got {text!r}"
        )
    part = match.groupdict()
    if part["number"] is not None:
        factor, offset = 0.0, float(part["number"])
    elif part["factor"] is not None:
        factor, offset = float(part["factor"]), 0.0
    else:
        sign = -1.0 if part["plus"] == "-" else 1.0
        factor, offset = 1.0, sign * float(part["offset"] or 0)
    if not (math.isfinite(factor) and math.isfinite(offset)):
        raise ConfigError(f"the numbers of a constraint must be finite, but got {text!r}")
    if part["metric"].endswith("accuracy") and abs(offset) > 1:
        given = part["number"] or part["offset"]
        digits = 2 if offset.is_integer() else 4
        raise ConfigError(
            f"accuracies in constraints must be shares of 1 (tables show percent), but got "
            f"{text!r}; write {abs(offset) / 100:.{digits}f} for {given}"
        )
    return Constraint(text.strip(), part["metric"], part["sign"] == ">=", factor, offset)
