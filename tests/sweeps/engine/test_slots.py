"""How many trials fit, on nodes that are made up; and that slow starts leave no slot unused."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune

from sweeps.engine import slots
from sweeps.engine.cluster import connected
from sweeps.engine.ray_bridge import AssignmentSearcher, many_may_wait
from sweeps.engine.ray_scheduler import InOrderScheduler
from sweeps.engine.slots import Slots, slots_on
from sweeps.settings import ResourcesConfig


@pytest.mark.parametrize(
    ("nodes", "cpu", "gpu", "expected"),
    [
        ([{"CPU": 2.0}], 1, 0, 2),
        ([{"CPU": 2.0}], 0.125, 0, 16),
        ([{"CPU": 1.0}], 0.1, 0, 10),
        ([{"CPU": 2.0}], 0.3, 0, 6),
        ([{"CPU": 3.0}, {"CPU": 3.0}], 2, 0, 2),
        ([{"CPU": 16.0, "GPU": 4.0}], 2, 1, 4),
        ([{"CPU": 3.0, "GPU": 4.0}, {"CPU": 8.0}], 1, 1, 3),
        # Three to a GPU: a trial is not spread over two.
        ([{"CPU": 64.0, "GPU": 2.0}], 1, 0.3, 6),
        # What is free on a GPU in use.
        ([{"CPU": 64.0, "GPU": 1.5}], 1, 0.5, 3),
        ([], 1, 0, 0),
    ],
)
def test_slots_on_nodes(
    nodes: list[dict[str, float]], cpu: float, gpu: float, expected: int
) -> None:
    assert slots_on(nodes, {"CPU": cpu, "GPU": gpu}) == expected


def test_slots_of_others_count_once_they_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, free = [{"CPU": 8.0}], {"CPU": 3.0}
    monkeypatch.setattr(slots, "_REFRESH_SECONDS", -1.0)
    monkeypatch.setattr(slots, "alive_nodes", lambda: [{"Resources": node} for node in nodes])
    monkeypatch.setattr(slots, "free_resources", lambda: free)
    count = Slots(ResourcesConfig(cpu=1))
    assert count(0) == 3
    # Three processes are starting, of which Ray says nothing.
    free["CPU"] = 0.0
    assert count(0) == 3 and count(3) == 3
    free["CPU"] = 2.0
    assert count(3) == 5
    nodes.append({"CPU": 8.0})
    free["CPU"] = 8.0
    assert count(5) == 13
    del nodes[0]
    assert count(5) == 8
    nodes.clear()
    assert count(0) == 1, "there may be none for a moment"


def test_slots_that_others_have_taken_count_no_more_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, free = [1000.0], {"CPU": 8.0}
    monkeypatch.setattr(slots.time, "monotonic", lambda: clock[0])  # type: ignore[attr-defined]
    monkeypatch.setattr(slots, "alive_nodes", lambda: [{"Resources": {"CPU": 8.0}}])
    monkeypatch.setattr(slots, "free_resources", lambda: free)
    count = Slots(ResourcesConfig(cpu=1))
    assert count(0) == 8
    free["CPU"] = 0.0
    for clock[0] in (1030.0, 1061.0, 1100.0):
        assert count(3) == 8, "five may be starting"
    for clock[0] in (1125.0, 1200.0):
        assert count(3) == 3


class SlowToStart(tune.Trainable):
    """Takes longer to start than to run; leaves a file for each process that has run a trial."""

    def setup(self, config: dict[str, Any]) -> None:
        self._seen = Path(config["seen"])
        time.sleep(2.0)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        time.sleep(0.2)
        (self._seen / str(os.getpid())).touch()
        return {"process": os.getpid(), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        pass


class Trials:
    """Hands out so many, in the place of `Assignments`.

    Attributes:
        left: how many more.
    """

    def __init__(self, left: int) -> None:
        self.left = left

    def next(self) -> Any:
        if not self.left:
            return None
        self.left -= 1
        return self

    trial_id = property(lambda self: f"t{self.left}")
    config = property(lambda self: self)
    usage = property(lambda self: self)

    def as_dict(self) -> dict[str, Any]:
        return {}

    def ended(self, trial_id: str) -> None:
        pass

    def close(self, trial_id: str, **how: Any) -> None:
        pass


class Enough(Trials):
    """Hands out trials until so many processes have run one, for two minutes at the most.

    A number of trials would be a race: on a busy machine a process may take long to start.
    """

    def __init__(self, seen: Path, processes: int) -> None:
        super().__init__(100_000)
        self._seen, self._processes = seen, processes
        self._deadline = time.monotonic() + 120

    def next(self) -> Any:
        seen = len(list(self._seen.iterdir()))
        if seen >= self._processes or time.monotonic() > self._deadline:
            self.left = 0
        return super().next()


@pytest.mark.xdist_group("e2e-2")
def test_every_slot_is_used_where_processes_start_slowly(tmp_path: Path) -> None:
    """With Ray's own order a free process takes the trial, and the starting one is ended."""
    seen = tmp_path / "seen"
    seen.mkdir()
    with connected("local"):
        share = ray.cluster_resources()["CPU"] / 4
        slots = Slots(ResourcesConfig(cpu=share))
        scheduler = InOrderScheduler(slots)
        searcher = AssignmentSearcher(
            Enough(seen, 4),  # type: ignore[arg-type]
            {"seen": str(seen)},
            scheduler.has_room,
        )
        tuner = tune.Tuner(
            tune.with_resources(SlowToStart, {"cpu": share}),
            tune_config=tune.TuneConfig(
                search_alg=searcher, scheduler=scheduler, num_samples=-1, reuse_actors=True
            ),
            run_config=tune.RunConfig(storage_path=str(tmp_path / "ray"), verbose=0),
        )
        with many_may_wait():
            results = tuner.fit()
    processes = [results[i].metrics["process"] for i in range(len(results))]  # type: ignore[index]
    assert len(processes) >= 4 and len(set(processes)) == 4


class Limited(Trials):
    """A sweep whose limit is reached when the first trial ends."""

    def __init__(self, left: int) -> None:
        super().__init__(left)
        self.over = False

    def next(self) -> Any:
        return None if self.over else super().next()

    def ended(self, trial_id: str) -> None:
        self.over = True


class Starts(tune.Callback):
    """Notes which trials start, and whether the limit was reached before."""

    def __init__(self, trials: Limited) -> None:
        self._trials = trials
        self.found: list[bool] = []

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.found.append(self._trials.over)


@pytest.mark.xdist_group("e2e-2")
def test_no_trial_starts_once_a_limit_is_reached(tmp_path: Path) -> None:
    """Ray has one trial more than there are slots, whose turn comes when the first one ends."""
    with connected("local"):
        share = ray.cluster_resources()["CPU"]
        trials = Limited(60)
        scheduler = InOrderScheduler(Slots(ResourcesConfig(cpu=share)), over=lambda: trials.over)
        searcher = AssignmentSearcher(
            trials,  # type: ignore[arg-type]
            {"seen": str(tmp_path)},
            scheduler.has_room,
        )
        tuner = tune.Tuner(
            tune.with_resources(SlowToStart, {"cpu": share}),
            tune_config=tune.TuneConfig(
                search_alg=searcher, scheduler=scheduler, num_samples=-1, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                storage_path=str(tmp_path), callbacks=[starts := Starts(trials)], verbose=0
            ),
        )
        with many_may_wait():
            results = tuner.fit()
    assert starts.found == [False]
    assert trials.left == 58 and results.num_errors == 0
