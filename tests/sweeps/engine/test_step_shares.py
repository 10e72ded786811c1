"""What each step of preparation holds: whole nodes, shares of one, or one core."""

from __future__ import annotations

import pytest

from sweeps.engine.step_shares import Held, Planned, Room, room, shares
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
    found = shares(planned, Room(tuple(nodes), 0), ResourcesConfig(cpu=1))
    assert [found[each.key].threads for each in planned] == expected


def test_a_trial_that_holds_more_sets_the_least_share() -> None:
    found = shares([TEACHER, *LEVELS], Room((8,), 0), ResourcesConfig(cpu=4))
    assert {found[level.key].threads for level in LEVELS} == {4}


def test_gpus_are_whole_for_one_training_a_node_and_shared_for_more() -> None:
    found = shares([TEACHER, *LEVELS, WORDS], Room((8,), 1), ResourcesConfig(cpu=1, gpu=0.25))
    assert found["teacher"] == Held(8, 1)
    assert {found[level.key].gpu for level in LEVELS} == {0.25}
    assert found["words"] == Held(1, 0.25)


@pytest.mark.parametrize(
    ("free", "cpu", "gpu", "expected"),
    [
        ([{"CPU": 8.0}, {"CPU": 64.0}], 1, 0, Room((8, 16), 0)),
        # Others hold a core of each node, and all of a third one.
        ([{"CPU": 7.0}, {"CPU": 3.0}, {}], 1, 0, Room((7, 3), 0)),
        # Where a trial has no room, nor has a training.
        ([{"CPU": 3.0}, {"CPU": 8.0}], 4, 0, Room((8,), 0)),
        ([{"CPU": 0.5}], 0.5, 0, Room((1,), 0)),
        # Others hold a share of the only GPU; of one of two.
        ([{"CPU": 8.0, "GPU": 0.75}, {"CPU": 64.0}], 1, 0.25, Room((8,), 0.25)),
        ([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 6.0, "GPU": 0.5}], 1, 0.25, Room((8,), 1)),
        ([{"CPU": 8.0, "GPU": 1 - 1e-9}], 1, 0.25, Room((8,), 1)),
        # No room at all: then no more is waited for than trials will wait for.
        ([{"CPU": 1.0}], 2, 0, Room((2,), 0)),
        ([{"CPU": 8.0, "GPU": 0.1}], 2, 0.25, Room((2,), 0.25)),
        ([], 0.5, 0, Room((1,), 0)),
    ],
)
def test_trainings_take_what_others_leave(
    free: list[dict[str, float]], cpu: float, gpu: float, expected: Room
) -> None:
    assert room(free, ResourcesConfig(cpu=cpu, gpu=gpu)) == expected
