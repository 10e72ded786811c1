"""How figures are shown: units, signs, intervals, and what is not known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from sweeps.shown_values import (
    clock,
    column_title,
    duration,
    in_millions,
    metric_number,
    metric_text,
    millions,
    null,
    number,
    percent,
    points,
    scaled,
    share,
)


@pytest.mark.parametrize(
    ("function", "given", "text"),
    [
        (number, (0.5,), "0.5"),
        (number, (1234.5, ".0f"), "1234"),
        (number, (45_800.0, ".3g"), "45,800"),
        (number, (12_345.0, "+.3g"), "+12,345"),
        (number, (1.0e-5,), "1e-05"),
        (share, (0.6421,), "64.2"),
        (share, (0.6421, 0.131), "64.2 \u00b1 13.1"),
        (percent, (0.6421,), "64.2 %"),
        (percent, (0.6421, 0), "64 %"),
        (points, (5.64,), "+5.6"),
        (points, (-0.32, 11.4), "-0.3 \u00b1 11.4"),
        (points, (-0.04,), "+0.0"),
        (metric_number, ("ood_dev/accuracy", 0.6421), "64.2"),
        (metric_number, ("footprint/nonzero_parameters", 13_500_000), "13,500,000"),
        (metric_text, ("ood_dev/hans/accuracy", 0.6421), "64.2 %"),
        (metric_text, ("latency/relative", 0.51239), "0.5124"),
        (column_title, ("id_dev/accuracy",), "ID %"),
        (column_title, ("ood_dev/hans/accuracy",), "ood_dev/hans/accuracy (%)"),
        (column_title, ("footprint/bytes",), "footprint/bytes"),
        (in_millions, (22_700_000,), "22.7"),
        (in_millions, (124_000,), "0.1"),
        (in_millions, (45_700,), "0.046"),
        (in_millions, (math.nan,), "-"),
        (millions, (22_700_000,), "22.7 M"),
        (millions, (45_700,), "45.7 K"),
        (duration, (48,), "48 s"),
        (duration, (390,), "6.5 min"),
        (duration, (11_520,), "3.2 h"),
        (clock, (65,), "1:05"),
        (clock, (3_661,), "1:01:01"),
        (clock, (-3,), "0:00"),
    ],
)
def test_as_people_read_them(
    function: Callable[..., str], given: tuple[Any, ...], text: str
) -> None:
    assert function(*given) == text


@pytest.mark.parametrize("function", [number, share, percent, points, millions, duration])
def test_what_is_not_known_is_a_dash(function: Callable[[float], str]) -> None:
    assert function(math.nan) == "-"
    assert metric_number("id_dev/accuracy", math.nan) == metric_text("x", math.nan) == "-"
    # Of what is not known there is no interval either.
    assert share(math.nan, 0.1) == points(math.nan, 3.0) == "-"


def test_numbers() -> None:
    assert scaled("id_dev/accuracy", 0.5) == 50 and scaled("footprint/bytes", 0.5) == 0.5
    assert null(0.5) == 0.5 and null(math.nan) is None
