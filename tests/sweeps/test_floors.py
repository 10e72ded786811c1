"""What beats the trivial baselines: one rule for report, export and the noise of seeds."""

from __future__ import annotations

import math

import pytest

from sweeps.floors import did_not_learn, standing, too_easy


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


@pytest.mark.parametrize(
    ("accuracy", "told"),
    [
        (0.51, "did not learn the task: 51.0 % ID"),
        (1.0, "learned nothing beyond a trivial baseline"),
    ],
)
def test_a_reference_that_only_equals_a_bag_of_words_is_not_said_to_have_learned_nothing(
    accuracy: float, told: str
) -> None:
    lines = {"id_dev": {"majority": 0.5, "bag_of_words": 1.0}}
    assert told in (did_not_learn(accuracy, lines) or "")


def test_data_that_a_bag_of_words_solves_is_too_easy() -> None:
    assert too_easy(("bag of words", 1.0)) and not too_easy(("bag of words", 0.95))
