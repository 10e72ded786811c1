"""What Ray runs next, with trials and a controller that only hold their state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from rc_core.config import decode
from sweeps.engine import ray_scheduler
from sweeps.engine.ray_scheduler import InOrderScheduler, RungScheduler
from tests.sweeps.engine.test_rungs import ID, one_metric

CONFIG = decode({"model": "tiny:bert", "training": {"rungs": 4}}).as_dict()


@dataclass
class FakeTrial:
    name: str
    status: str = Trial.PENDING
    num_failures: int = 0

    @property
    def config(self) -> dict[str, Any]:
        return {"trial_id": self.name, "config": CONFIG}


@dataclass
class Sweep:
    """Plays the part of Ray: starts what is chosen, carries decisions out."""

    variant: Any = "promotion"
    exhausted: bool = False
    over: bool = False
    trials: dict[str, FakeTrial] = field(default_factory=dict)
    paused: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rule = one_metric(self.variant)
        self.scheduler: Any = RungScheduler(
            self.rule,
            lambda running: 1,
            exhausted=lambda: self.exhausted,
            over=lambda: self.over,
            on_pause=self.paused.append,
            on_leave=self.left.append,
        )

    def add(self, *names: str) -> None:
        for name in names:
            self.trials[name] = FakeTrial(name)
            self.scheduler.on_trial_add(self, self.trials[name])

    def start(self) -> str | None:
        chosen = self.scheduler.choose_trial_to_run(self)
        assert chosen is self.scheduler.choose_trial_to_run(self), "asking changes nothing"
        if chosen is None:
            return None
        chosen.status = Trial.RUNNING
        return str(chosen.name)

    def reach(self, name: str, rung: int, value: float) -> str:
        result = {ID: value, "progress": rung / 4}
        decision: str = self.scheduler.on_trial_result(self, self.trials[name], result)
        assert decision != TrialScheduler.PAUSE, "Ray would save a checkpoint of its own"
        if decision == TrialScheduler.STOP:
            self.complete(name)
        return decision

    def pause_trial(self, trial: FakeTrial, should_checkpoint: bool) -> None:
        assert not should_checkpoint
        trial.status = Trial.PAUSED

    def complete(self, name: str) -> None:
        self.trials[name].status = Trial.TERMINATED
        self.scheduler.on_trial_complete(self, self.trials[name], {})

    def stop_trial(self, trial: FakeTrial) -> None:
        trial.status = Trial.TERMINATED
        self.stopped.append(trial.name)
        self.scheduler.on_trial_remove(self, trial)


def test_trials_start_in_order_and_the_promoted_go_first() -> None:
    sweep = Sweep()
    sweep.add("a", "b", "c", "d")
    assert [sweep.start() for _ in range(3)] == ["a", "b", "c"]
    for name, value in (("a", 0.5), ("b", 0.9), ("c", 0.4)):
        assert sweep.reach(name, 1, value) == TrialScheduler.NOOP
        assert sweep.trials[name].status == Trial.PAUSED
    assert sweep.paused == ["a", "b", "c"]
    assert sweep.start() == "b", "before d, which has not begun"
    assert sweep.start() == "d"
    assert sweep.start() is None
    assert sweep.stopped == [], "b and d are running"


def test_what_is_never_promoted_is_stopped_when_nothing_else_is_left() -> None:
    sweep = Sweep()
    sweep.add("a", "b")
    for name, value in (("a", 0.5), ("b", 0.9)):
        sweep.start()
        sweep.reach(name, 1, value)
    assert sweep.start() is None and sweep.stopped == [], "more trials may come"
    sweep.exhausted = True
    assert sweep.start() is None and sorted(sweep.stopped) == ["a", "b"]
    assert sweep.start() is None and len(sweep.stopped) == 2


def test_what_ray_stops_while_paused_may_still_be_promoted() -> None:
    sweep = Sweep(exhausted=True)
    sweep.add("a", "b")
    for name, value in (("a", 0.5), ("b", 0.9)):
        sweep.start()
        sweep.reach(name, 1, value)
    assert sweep.start() is None and sweep.left == sweep.stopped == ["a", "b"]
    assert sweep.rule.next_promotion() is None, "floor(2 / 3) of two goes on"
    # A trial of an earlier driver, which Ray did not have, reaches the rung afterwards.
    sweep.rule.report("c", 1, {ID: 0.4}, settled=True)
    assert sweep.rule.next_promotion() == "b"


def test_paused_trials_wait_for_those_that_run_or_fail() -> None:
    sweep = Sweep(exhausted=True)
    sweep.add("a", "b", "c")
    for _ in range(3):
        sweep.start()
    sweep.reach("a", 1, 0.5)
    sweep.reach("b", 1, 0.9)
    assert sweep.start() is None and sweep.stopped == []
    sweep.trials["c"].status = Trial.ERROR
    sweep.scheduler.on_trial_error(sweep, sweep.trials["c"])
    assert sweep.start() is None and sorted(sweep.stopped) == ["a", "b"]


def test_after_a_limit_nothing_is_promoted() -> None:
    sweep = Sweep()
    sweep.add("a", "b", "c")
    for name, value in (("a", 0.5), ("b", 0.9), ("c", 0.4)):
        sweep.start()
        sweep.reach(name, 1, value)
    sweep.over = True
    assert sweep.start() is None
    assert sorted(sweep.stopped) == ["a", "b", "c"]


def test_stopping_stops_and_goes_on() -> None:
    sweep = Sweep("stopping")
    sweep.add("a", "b")
    sweep.start()
    sweep.start()
    assert sweep.reach("a", 1, 0.9) == TrialScheduler.CONTINUE
    assert sweep.reach("b", 1, 0.5) == TrialScheduler.STOP
    assert sweep.reach("a", 2, 0.9) == TrialScheduler.CONTINUE
    assert sweep.paused == []


@pytest.mark.parametrize("variant", ["stopping", "promotion"])
def test_nothing_of_it_is_pickled(variant: Any) -> None:
    assert Sweep(variant).scheduler.__getstate__() == {}


@dataclass
class Start:
    """Four slots whose processes start slowly."""

    slots: int = 4
    over: bool = False
    trials: list[FakeTrial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler: Any = InOrderScheduler(lambda running: self.slots, over=lambda: self.over)

    def fill(self) -> None:
        while self.scheduler.has_room():
            self.trials.append(FakeTrial(f"t{len(self.trials)}"))
            self.scheduler.on_trial_add(self, self.trials[-1])

    def end(self, number: int) -> None:
        self.trials[number].status = Trial.TERMINATED
        self.scheduler.on_trial_complete(self, self.trials[number], {})

    def stop_trial(self, trial: FakeTrial) -> None:
        trial.status = Trial.TERMINATED
        self.scheduler.on_trial_remove(self, trial)

    def chosen(self) -> str | None:
        trial = self.scheduler.choose_trial_to_run(self)
        return None if trial is None else str(trial.name)


def test_ray_is_given_one_trial_more_than_there_are_slots() -> None:
    sweep = Start()
    sweep.fill()
    assert len(sweep.trials) == 5
    sweep.trials[0].status = Trial.RUNNING
    assert not sweep.scheduler.has_room()
    sweep.end(0)
    assert sweep.scheduler.has_room()
    sweep.fill()
    # A paused trial holds no slot, and a node that joins brings some.
    sweep.trials[1].status = Trial.PAUSED
    assert sweep.scheduler.has_room()
    sweep.fill()
    sweep.slots = 6
    sweep.fill()
    assert len(sweep.trials) == 9


def test_a_process_that_becomes_free_goes_to_a_trial_that_has_none() -> None:
    sweep = Start()
    sweep.fill()
    sweep.trials[0].status = Trial.RUNNING
    assert sweep.chosen() in ("t2", "t3"), "no process is free: whatever is chosen stays as it is"
    # Its process is free, those of t1 to t3 are starting still.
    sweep.end(0)
    assert sweep.chosen() == "t4"
    sweep.trials[4].status = Trial.RUNNING
    sweep.end(4)
    sweep.fill()
    assert sweep.chosen() == "t5"


def test_in_a_full_house_the_oldest_goes_first() -> None:
    sweep = Start()
    sweep.fill()
    for trial in sweep.trials[:4]:
        trial.status = Trial.RUNNING
    sweep.end(2)
    sweep.fill()
    assert [trial.name for trial in sweep.trials if trial.status == Trial.PENDING] == ["t4", "t5"]
    assert sweep.chosen() == "t4"


def test_who_has_waited_for_long_waits_for_room_and_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of four slots others have two: t1 and t2 have no process, whatever is counted."""
    now = 100.0
    monkeypatch.setattr(ray_scheduler.time, "monotonic", lambda: now)  # type: ignore[attr-defined]
    sweep = Start()
    sweep.fill()
    sweep.trials[0].status = sweep.trials[3].status = Trial.RUNNING
    sweep.end(0)
    sweep.fill()
    assert sweep.chosen() == "t4"
    now = 161.0
    assert sweep.chosen() == "t1"
    sweep.trials[1].status = Trial.RUNNING
    assert sweep.chosen() == "t2"


def test_where_no_more_trials_come_any_process_will_do() -> None:
    """None: Ray itself gives the free process to a trial whose own is starting."""
    sweep = Start()
    for name in "abcd":
        trial = FakeTrial(name)
        sweep.trials.append(trial)
        sweep.scheduler.on_trial_add(sweep, trial)
    sweep.trials[0].status = Trial.RUNNING
    sweep.end(0)
    assert sweep.chosen() is None


def test_after_a_limit_nothing_starts_but_what_was_lost_while_it_ran() -> None:
    sweep = Start()
    sweep.fill()
    first, second, *waiting = sweep.trials
    first.status = Trial.RUNNING
    second.num_failures = 1
    assert sweep.chosen() is not None
    sweep.over = True
    sweep.slots = 1
    assert sweep.chosen() == second.name
    assert {trial.status for trial in waiting} == {Trial.TERMINATED}
    assert (first.status, second.status) == (Trial.RUNNING, Trial.PENDING)


def test_after_a_limit_paused_trials_do_not_wait_for_those_that_never_start() -> None:
    sweep = Sweep()
    sweep.add("a", "b")
    sweep.start()
    sweep.reach("a", 1, 0.5)
    sweep.over = True
    assert sweep.start() is None
    assert sweep.stopped == ["b", "a"] and sweep.left == ["a"]
