"""Who beats what needs no model: one rule for report, export and the noise of seeds."""

from __future__ import annotations

import math

import pytest

from sweeps.floors import did_not_learn, standing


@pytest.mark.parametrize(
    ("accuracy", "where"),
    [
        (math.nan, "no better than"),
        (0.4, "no better than"),
        (0.5, "no better than"),
        (0.5001, "hardly above"),
        (0.52, "hardly above"),
        (0.521, "above"),
    ],
)
def test_an_accuracy_is_above_a_line_by_more_than_the_samples_choice(
    accuracy: float, where: str
) -> None:
    assert standing(accuracy, ("chance", 0.5)) == where
    assert (did_not_learn(accuracy, {"id_dev": {"chance": 0.5}}) is None) == (
        where != "no better than"
    )
