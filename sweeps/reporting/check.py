"""One finding of the health check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["good", "note", "warn", "bad"]
ORDER: tuple[Level, ...] = ("bad", "warn", "note", "good")


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        level: `good`, `note` (worth knowing), `warn` (a conclusion may not hold), `bad` (it does
            not).
        title: the question, short.
        found: what was found, with the numbers.
        action: what to do; empty if nothing.
    """

    level: Level
    title: str
    found: str
    action: str = ""
