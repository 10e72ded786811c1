"""What must hold before a trial is placed, without a cluster: room, one storage, a usable GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rc_core.errors import ConfigError, InputError
from sweeps.engine import cluster
from sweeps.engine.trainable import workspace
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
