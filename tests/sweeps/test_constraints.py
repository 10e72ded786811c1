"""Constraints: what can be written, and by how much it is missed."""

from __future__ import annotations

import math

import pytest

from rc_core.errors import ConfigError
from sweeps.constraints import parse

REFERENCE = {"id_dev/accuracy": 0.90, "footprint/parameters": 20e6}


@pytest.mark.parametrize(
    ("text", "value", "violation"),
    [
        ("id_dev/accuracy >= reference - 0.02", 0.89, -0.01),
        ("id_dev/accuracy >= reference - 0.02", 0.85, 0.03),
        ("id_dev/accuracy>=reference", 0.90, 0.0),
        ("id_dev/accuracy <= reference + 1e-2", 0.92, 0.01),
        ("id_dev/accuracy >= 0.5", 0.4, 0.1),
        ("id_dev/accuracy >= 0.5 * reference", 0.5, -0.05),
        ("footprint/parameters <= 30e6", 40e6, 10e6),
        ("footprint/parameters <= -1.5", 0.0, 1.5),
        ("id_dev/accuracy >= reference - -0.02", 0.90, 0.02),
        ("id_dev/accuracy >= reference + +.05", 0.90, 0.05),
    ],
)
def test_violation(text: str, value: float, violation: float) -> None:
    constraint = parse(text)
    assert constraint.violation({constraint.metric: value}, REFERENCE) == pytest.approx(violation)


@pytest.mark.parametrize("samples", [200, 500, 600, 1_000])
@pytest.mark.parametrize(
    "text", ["a/accuracy >= reference - 0.05", "a/accuracy >= 0.9 * reference"]
)
def test_what_lies_at_its_bound_meets_it(text: str, samples: int) -> None:
    """Counts of samples, of which 5 % or a tenth is a whole number: exact but in binary."""
    constraint = parse(text)
    for right in range(samples // 2, samples + 1, 10):
        least = right - samples // 20 if "-" in text else right * 9 // 10
        if right * 9 % 10 and "*" in text:
            continue
        base = {"a/accuracy": right / samples}
        assert constraint.violation({"a/accuracy": least / samples}, base) == 0
        assert constraint.violation({"a/accuracy": (least - 1) / samples}, base) > 0
        assert constraint.violation({"a/accuracy": (least + 1) / samples}, base) < 0


def test_what_was_not_measured_is_nan() -> None:
    assert math.isnan(parse("id_dev/accuracy >= 0.5").violation({}, REFERENCE))
    assert math.isnan(parse("x/y >= reference").violation({"x/y": 1.0}, REFERENCE))
    # A plain number needs no reference.
    assert parse("x/y >= 0.5").violation({"x/y": 1.0}, {}) == -0.5


@pytest.mark.parametrize(
    "text",
    ["", "id_dev/accuracy", "id_dev/accuracy > 0.5", "id_dev/accuracy >= x", "0.5 <= a/b",
     "a/b >= reference * 0.5", "a/b >= 1 2", "a/b >= __import__('os')"],
)  # fmt: skip
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="must look like"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id_dev/accuracy >= 80", "write 0.80 for 80"),
        ("ood_dev/x/accuracy <= 97.5", "write 0.9750 for 97.5"),
        ("id_dev/accuracy >= reference - 2", "write 0.02 for 2"),
    ],
)
def test_an_accuracy_in_percent_is_an_error(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse(text)


@pytest.mark.parametrize(
    "text", ["a/b >= 1e999", "a/b <= reference + 1e999", "a/b >= 1e999 * reference"]
)
def test_numbers_must_be_finite(text: str) -> None:
    with pytest.raises(ConfigError, match="must be finite"):
        parse(text)
