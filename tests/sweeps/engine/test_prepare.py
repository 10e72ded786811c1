"""How preparation gets on beside the work of others on a cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import ray

from rc_core.errors import TrialError
from rc_core.record import TrialRecord
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig
from sweeps.engine import prepare, ray_tasks
from sweeps.engine._internals import has_mark
from sweeps.engine.cluster import connected
from sweeps.engine.health_gate import Judged
from sweeps.engine.step_shares import Held, Planned, Room, room
from sweeps.folder import SweepFolder
from sweeps.settings import ResourcesConfig
from tests.sweeps.test_config import RAW

RECORD = TrialRecord(id="t0000", status="finished", config={}, fingerprint="f", started=0.0)


class NoTasks:
    """Takes functions as tasks, runs none, and has answers; keeps what each was to hold."""

    def __init__(self, warnings: list[str] | None = None) -> None:
        self.held: dict[str, Held] = {}
        self.warnings = warnings or []

    def start(self, function: Any, held: Held, *arguments: Any) -> str:
        self.held[function.__name__] = held
        return str(function.__name__)

    def cancel(self, tasks: Sequence[str]) -> None:
        assert not tasks

    def result(self, task: str) -> Any:
        judged = Judged({}, {}, 0.5, self.warnings)
        return {"_plan": ([], judged, ["much is cut"]), "_reference": RECORD}[task]


def test_what_is_light_needs_no_whole_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = NoTasks()
    monkeypatch.setattr(prepare, "Tasks", lambda *_: tasks)
    monkeypatch.setattr(prepare, "_free_nodes", lambda: [{"CPU": 8.0, "GPU": 1.0}])
    sweep = SweepConfig(merge(RAW, {"resources": {"gpu": 0.25, "device": "cpu"}}))
    said: list[str] = []
    assert prepare.prepare(sweep, SweepFolder(tmp_path / "s"), 1, say=said.append) == RECORD
    assert said[0] == "note: much is cut", "before anything is trained"
    assert tasks.held == {"_plan": Held(1, 0.25), "_reference": Held(1, 0.25)}


@pytest.mark.parametrize("changes", [{}, {"health_gate": "stop"}, {"health_gate": "warn"}])
def test_a_dense_reference_that_did_not_learn_stops_the_sweep_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    warnings = ["it is no better than the majority class", "it is below chance"]
    monkeypatch.setattr(prepare, "Tasks", lambda *_: NoTasks(warnings))
    monkeypatch.setattr(prepare, "_free_nodes", lambda: [{"CPU": 8.0}])
    sweep, folder = SweepConfig(merge(RAW, changes)), SweepFolder.create(tmp_path, "s", "s")
    said: list[str] = []
    if changes == {"health_gate": "warn"}:
        assert prepare.prepare(sweep, folder, 1, say=said.append) == RECORD
        assert [f"warning: {warning}" for warning in warnings] == said[-2:]
        return
    with pytest.raises(TrialError, match=r"health gate: .*--set health_gate=warn") as caught:
        prepare.prepare(sweep, folder, 1, say=said.append)
    assert all(warning in str(caught.value) for warning in warnings), "all reasons at once"
    assert not [line for line in said if line.startswith("warning")]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Return what stands for Ray: it has names for tasks, and runs none."""
    found = Mock(tasks=[f"task {number}" for number in range(3)])
    found.remote.return_value.return_value.options.return_value.remote.side_effect = found.tasks
    monkeypatch.setattr(ray_tasks.ray, "remote", found.remote)  # type: ignore[attr-defined]
    monkeypatch.setattr(ray_tasks.ray, "wait", found.wait)  # type: ignore[attr-defined]
    monkeypatch.setattr(ray_tasks.ray, "cancel", found.cancel)  # type: ignore[attr-defined]
    for module in (prepare, ray_tasks):
        monkeypatch.setattr(module, "result_of", found.result)
    monkeypatch.setattr(ray_tasks, "drop_mark", found.forget)
    return found


def test_no_mark_of_a_task_stays_in_a_cluster(cluster: Mock) -> None:
    """Neither of one that was waited for, nor of those that an error has ended."""
    first, second, third = cluster.tasks
    cluster.wait.side_effect = [([first], [second, third]), ([second], [third])]
    cluster.result.side_effect = [prepare.Prepared("a", "k", "1", True, 0.0), TrialError("no")]
    planned = [Planned(0, n, f"step {n}", "k", str(n), (), False, stored=False) for n in range(3)]
    tasks = ray_tasks.Tasks(0, {}, Mock())
    held = {step.key: Held(1, 0.0) for step in planned}
    with pytest.raises(TrialError):
        list(prepare._build_all(planned, [{}], held, tasks))
    assert [call.args[0] for call in cluster.cancel.call_args_list] == [third]
    forgotten = {call.args[0] for call in cluster.forget.call_args_list}
    assert forgotten == {mark for mark, _ in tasks._marks.values()} and len(forgotten) == 3


def test_what_is_stored_starts_no_process_and_is_told(cluster: Mock) -> None:
    task = cluster.tasks[0]
    cluster.wait.side_effect = [([task], [])]
    cluster.result.side_effect = [prepare.Prepared("levels", "k", "2", True, 3.0)]
    planned = [
        Planned(0, 0, "teacher", "k", "1", (), False, stored=True, seconds=41.0),
        Planned(0, 1, "levels", "k", "2", ("1",), False, stored=False),
    ]
    held = {step.key: Held(1, 0.0) for step in planned}
    done = prepare._build_all(planned, [{}], held, ray_tasks.Tasks(0, {}, Mock()))
    assert [prepare._line(each) for each in done] == [
        "prepare: teacher: reused, saving 41 s [k/1]",
        "prepare: levels: built in 3 s [k/2]",
    ]
    assert cluster.remote.call_count == 1


def test_what_follows_from_a_teacher_that_did_not_learn_is_not_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Mock
) -> None:
    """The gate comes when the teacher is there, and what is still built is given up."""
    plan, teacher, levels = cluster.tasks
    cluster.wait.side_effect = [([plan], []), ([teacher], [levels])]
    planned = [
        Planned(0, 0, "teacher", "k", "1", (), False, stored=False),
        Planned(0, 1, "levels", "k", "2", ("1",), False, stored=False),
    ]
    judged = Judged({}, {}, 0.5, ["it did not learn"])
    done = prepare.Prepared("teacher", "k", "1", True, 3.0, judged=judged)
    cluster.result.side_effect = [(planned, None, []), done]
    monkeypatch.setattr(prepare, "_free_nodes", lambda: [{"CPU": 8.0}])
    folder = SweepFolder.create(tmp_path, "s", "s")
    with pytest.raises(TrialError, match="health gate: it did not learn"):
        prepare.prepare(SweepConfig(RAW), folder, 1, say=Mock())
    assert [call.args[0] for call in cluster.cancel.call_args_list] == [levels]


def test_a_task_that_is_waited_for_ends_with_ctrl_c(cluster: Mock) -> None:
    cluster.wait.side_effect = KeyboardInterrupt
    tasks = ray_tasks.Tasks(0, {}, Mock())
    task = tasks.start(double, Held(1, 0.0), 3)
    with pytest.raises(KeyboardInterrupt):
        tasks.result(task)
    cluster.cancel.assert_called_once_with(task)
    cluster.forget.assert_called_once_with(tasks._marks[task][0])


class Other:
    """Holds what it is given."""

    def here(self) -> None:
        """Return once it holds it."""


def double(number: int, *, threads: int, seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return 2 * number


@pytest.mark.xdist_group("e2e-2")
def test_who_waits_for_the_room_of_others_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with connected("local"):
        cores = int(ray.cluster_resources()["CPU"])
        assert room(prepare._free_nodes(), ResourcesConfig()) == Room((min(cores, 16),), 0)
        other: Any = ray.remote(num_cpus=cores)(Other).remote()
        ray.get(other.here.remote())
        while ray.available_resources().get("CPU", 0.0) > 0:
            time.sleep(0.05)
        monkeypatch.setattr(prepare, "_SETTLE_SECONDS", 0.0)
        assert room(prepare._free_nodes(), ResourcesConfig(cpu=2)) == Room((2,), 0)

        def say(line: str) -> None:
            said.append(line)
            ray.kill(other)

        monkeypatch.setattr(ray_tasks, "_ROOM_SECONDS", 0.5)
        tasks = ray_tasks.Tasks(0, {}, say)
        first = tasks.start(double, Held(1, 0.0), 3)
        second = tasks.start(double, Held(1, 0.0), first)
        assert tasks.wait([first, second]) == ([first], [second])
        assert tasks.result(second) == 12
        assert len(said) == 1 and "needs 1 CPU on one node" in said[0]

        # What runs for longer than that does not wait for room.
        monkeypatch.setattr(ray_tasks, "_ROOM_SECONDS", 0.1)
        tasks = ray_tasks.Tasks(0, {"seconds": 1.0}, said.append)
        task = tasks.start(double, Held(1, 0.0), 4)
        while not has_mark(tasks._marks[task][0]):
            time.sleep(0.01)
        assert tasks.result(task) == 8
    assert len(said) == 1
