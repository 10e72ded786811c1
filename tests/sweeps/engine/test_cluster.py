"""What must hold before a trial is placed, without a cluster: room, one storage, a usable GPU."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import ray
import torch

from rc_core.errors import ConfigError, InputError, StorageError, TrialError
from sweeps.engine import cluster
from sweeps.engine.trainable import workspace
from sweeps.folder import SweepFolder
from sweeps.settings import ResourcesConfig

SMALL, LARGE, GPU = {"CPU": 2.0}, {"CPU": 64.0}, {"CPU": 4.0, "GPU": 1.0}


def nodes(monkeypatch: pytest.MonkeyPatch, *answers: list[dict[str, float]]) -> None:
    """Let Ray name these nodes, one answer after another, the last one for ever."""
    waiting: Iterator[list[dict[str, float]]] = iter(answers)
    last: list[dict[str, float]] = []

    def alive() -> list[dict[str, Any]]:
        nonlocal last
        last = next(waiting, last)
        return [{"Resources": each} for each in last]

    monkeypatch.setattr("sweeps.engine.cluster.alive_nodes", alive)
    monkeypatch.setattr("sweeps.engine.cluster._NODE_POLL_SECONDS", 0.0)


@pytest.mark.parametrize(
    ("found", "cpu", "gpu", "expected"),
    [
        ([SMALL], 2, 0, None),
        ([SMALL, GPU], 4, 0.5, None),
        ([SMALL, LARGE], 65, 0, "asks for 65 CPU and the largest of 2 nodes has 64"),
        ([LARGE], 1, 0.25, "asks for 0.25 GPU"),
        # Each is enough on some node, but no node has both.
        ([LARGE, GPU], 8, 1, "none of 2 has 8 CPU and 1 GPU at once"),
        ([], 1, 0, "largest of 0 nodes has 0"),
    ],
)
def test_one_node_must_hold_a_trial(
    found: list[dict[str, float]],
    cpu: float,
    gpu: float,
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes(monkeypatch, found)
    resources = ResourcesConfig(cpu=cpu, gpu=gpu)
    if expected is None:
        cluster.check_room(resources, wait=False)
    else:
        with pytest.raises(ConfigError, match=expected):
            cluster.check_room(resources, wait=False)


def test_nodes_that_join_late_are_waited_for_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    nodes(monkeypatch, [SMALL], [SMALL], [SMALL, GPU])
    cluster.check_room(ResourcesConfig(gpu=1), wait=True, say=said.append)
    assert len(said) == 1 and "1 CPU and 1 GPU" in said[0]
    nodes(monkeypatch, [SMALL])
    with pytest.raises(ConfigError, match=r"resources\.gpu"):
        cluster.check_room(ResourcesConfig(gpu=1), wait=True, seconds=0.01)


def test_a_folder_that_a_node_does_not_see_is_told(tmp_path: Path) -> None:
    told = cluster._storage_problem(str(tmp_path))
    assert told is not None and "mounts at the same place" in told
    (tmp_path / "sweep.yaml").touch()
    assert cluster._storage_problem(str(tmp_path)) is None


def raised(error: Exception) -> Any:
    def answer(*_: Any) -> Any:
        raise error

    return answer


def test_a_node_that_does_not_answer_is_told_and_is_not_asked_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has left meanwhile is passed over: no trial is placed there."""
    names = ("here", "good", "bad", "gone", "silent", "left")
    described = [
        {"NodeID": name, "NodeManagerHostname": name, "NodeManagerAddress": "10"} for name in names
    ]
    answers: dict[str, Any] = {
        "good": lambda _: None,
        "bad": lambda _: "must see it",
        "gone": raised(ray.exceptions.NodeDiedError("gone")),
    }

    class Task:
        def __init__(self, node: str = "") -> None:
            self.node = node

        def options(self, scheduling_strategy: Any) -> Task:
            return Task(scheduling_strategy.node_id)

        def remote(self, *_: Any) -> str:
            return self.node

    def wait(tasks: list[str], num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        assert num_returns == len(tasks) == 5
        described[:] = [node for node in described if node["NodeID"] != "left"]
        return [t for t in tasks if t in answers], [t for t in tasks if t not in answers]

    cancelled: list[str] = []
    monkeypatch.setattr(cluster, "alive_nodes", lambda: list(described))
    context = Mock(get_node_id=Mock(return_value="here"))
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray, "remote", lambda **_: lambda function: Task())
    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", lambda task: answers[task](task))
    monkeypatch.setattr(ray, "cancel", cancelled.append)
    monkeypatch.setattr(cluster, "NodeAffinitySchedulingStrategy", lambda n, soft: Mock(node_id=n))
    with pytest.raises(StorageError) as caught:
        cluster.check_storage(SweepFolder(tmp_path / "s"))
    found = {problem.where: problem.message for problem in caught.value.problems}
    assert set(found) == {"node bad (10)", "node silent (10)"}
    assert "must answer within 60 s" in found["node silent (10)"]
    assert cancelled == ["silent", "left"]


@pytest.mark.parametrize(
    ("raises", "expected"),
    [
        (ray.exceptions.OutOfMemoryError("killed"), (TrialError, r"kept it \(killed, .*OutOfM")),
        (ray.exceptions.WorkerCrashedError(), (TrialError, "WorkerCrashedError")),
        (ray.exceptions.RayTaskError("f", "trace", InputError("no GPU")), (InputError, "no GPU")),
    ],
)
def test_a_tasks_own_error_comes_out_of_it_and_a_lost_worker_is_said(
    monkeypatch: pytest.MonkeyPatch, raises: Exception, expected: tuple[type[Exception], str]
) -> None:
    monkeypatch.setattr(ray, "get", raised(raises))
    with pytest.raises(expected[0], match=expected[1]):
        cluster.result_of("task", "somebody must have kept it")


def test_a_ray_job_on_a_ray_of_its_own_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr("sweeps.engine.cluster._start", started.append)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: started.append("shutdown"))
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    said: list[str] = []
    with cluster.connected("local", said.append):
        assert "--address auto" in said[0]
    with cluster.connected("auto", said.append):
        pass
    assert len(said) == 1
    assert started == ["local", "shutdown", "auto", "shutdown"]


@pytest.mark.parametrize("ends", [True, False])
def test_sigterm_while_ray_starts_is_ctrl_c_and_ours_afterwards(
    monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    def init(**_: Any) -> None:
        # As ray.init does with its own.
        signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(signum))
        if ends:
            signal.raise_signal(signal.SIGTERM)

    shut = Mock()
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", shut)
    before, ours = signal.getsignal(signal.SIGTERM), Mock()
    signal.signal(signal.SIGTERM, ours)
    try:
        with suppress(KeyboardInterrupt), cluster.connected("local"):
            assert not ends, "it must not go on"
        assert signal.getsignal(signal.SIGTERM) is ours
        shut.assert_called_once_with()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_client_address_is_refused_with_what_to_do_instead() -> None:
    refused = pytest.raises(InputError, match=r"ray job submit .* --address auto")
    with refused, cluster.connected("ray://127.0.0.1:10001"):
        pytest.fail("joined")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_gpu_that_torch_cannot_use_is_an_error_not_a_run_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"torch .* sees none here"):
        workspace(str(tmp_path), ResourcesConfig(gpu=0.5).torch_device)
    placed = ResourcesConfig(gpu=0.5, device="cpu")
    assert workspace(str(tmp_path), placed.torch_device).device.type == "cpu"


def test_gpus_that_no_trial_asks_for_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for resources, lines in ((ResourcesConfig(), 1), (ResourcesConfig(gpu=0.5), 0)):
        said: list[str] = []
        nodes(monkeypatch, [SMALL, GPU])
        cluster.check_room(resources, wait=False, say=said.append)
        assert len(said) == lines
    cluster.check_room(ResourcesConfig(auto=True), wait=False, say=said.append)
    nodes(monkeypatch, [SMALL])
    cluster.check_room(ResourcesConfig(), wait=False, say=said.append)
    assert not said
