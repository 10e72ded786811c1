"""Values in names: short enough to read, exact if somebody chose them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

_DIGITS, _GIVEN = 3, 4


def short(value: Any) -> str:
    """Return a value of a configuration for a name; for lists and sections, their values."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return ",".join(map(short, value))
    return short_number(value) if isinstance(value, float) else str(value)


def count_of(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: `1 trial`, `3 trials`.

    Args:
        count: number of things.
        one: the noun.
        many: its plural, if that is not made by adding an s.
    """
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def short_number(value: float) -> str:
    """Return a number for a name: `0.547689...` -> `0.548`, `0.9375` -> `0.9375`.

    A number drawn by a search has all the digits of a float; three are enough to tell trials apart,
    whose ids stand beside their names. A number with up to four digits was chosen by somebody, who
    may have chosen a close one too, so it stays as it is. A share just below the whole (1, or 100
    in percent) is not rounded to the whole.
    """
    given = f"{value:.{_GIVEN}g}"
    if math.isclose(float(given), value, rel_tol=1e-12):
        return given
    for digits in range(_DIGITS, 17):
        text = f"{value:.{digits}g}"
        if float(text) not in (1.0, 100.0):
            return text
    return given
