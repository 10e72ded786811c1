"""What a metric declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["max", "min"]


@dataclass(frozen=True)
class Metric:
    """A metric's name (the last part or parts of its key), which way is better, and what it is."""

    name: str
    direction: Direction
    description: str


def catalogue(*metrics: Metric) -> dict[str, Metric]:
    """Return the metrics by name."""
    return {metric.name: metric for metric in metrics}
