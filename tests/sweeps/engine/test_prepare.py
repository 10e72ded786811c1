"""What each step of preparation holds: whole nodes, shares of one, or one core."""

from __future__ import annotations

import pytest

from sweeps.engine.prepare import Held, Planned, shares
from sweeps.settings import ResourcesConfig


def step(
    key: str, *needs: str, kind: str = "", light: bool = False, stored: bool = False
) -> Planned:
    return Planned(0, 0, key, kind or key, key, needs, light, stored)


TEACHER = step("teacher")
LEVELS = [step(f"level{i}", "teacher", kind="level") for i in range(5)]
STAGE = step("first_stage")
WORDS = step("words", light=True)


@pytest.mark.parametrize(
    ("planned", "nodes", "expected"),
    [
        # Alone at its depth: the whole node, whatever a trial holds.
        ([TEACHER], [2], [2]),
        ([TEACHER, WORDS], [8], [8, 1]),
        # Alike: they share, down to what a trial holds.
        ([TEACHER, *LEVELS], [2], [2, 1, 1, 1, 1, 1]),
        ([TEACHER, *LEVELS], [16], [16, 3, 3, 3, 3, 3]),
        ([TEACHER, *LEVELS], [4, 4, 4, 4, 4], [4, 4, 4, 4, 4, 4]),
        # Unlike: a node each, or one after another, unless cores are many.
        ([TEACHER, STAGE], [2], [2, 2]),
        ([TEACHER, STAGE], [2, 2], [2, 2]),
        ([TEACHER, STAGE], [16], [8, 8]),
        # What is stored is only checked.
        ([step("teacher", stored=True), STAGE], [4], [1, 4]),
    ],
)
def test_threads(planned: list[Planned], nodes: list[int], expected: list[int]) -> None:
    found = shares(planned, nodes, ResourcesConfig(cpu=1))
    assert [found[each.key].threads for each in planned] == expected


def test_a_trial_that_holds_more_sets_the_least_share() -> None:
    found = shares([TEACHER, *LEVELS], [8], ResourcesConfig(cpu=4))
    assert {found[level.key].threads for level in LEVELS} == {4}


def test_gpus_are_whole_for_one_training_a_node_and_shared_for_more() -> None:
    found = shares([TEACHER, *LEVELS, WORDS], [8], ResourcesConfig(cpu=1, gpu=0.25))
    assert found["teacher"] == Held(8, 1)
    assert {found[level.key].gpu for level in LEVELS} == {0.25}
    assert found["words"] == Held(1, 0.25)
