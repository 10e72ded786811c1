"""A sweep on a cluster of several raylets on this machine, whose GPUs are only counted.

Trials hold half a GPU and compute on the CPU (`resources.device: cpu`), so that what is tested is
where they are placed. The head has no GPU. One of the two nodes with GPUs is killed while trials
run on it; another one takes its place.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e._sweeps import command

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("e2e-2"),
]

ROOT = Path(__file__).resolve().parents[2]
TRIALS = 6
CONFIG = """
model: tiny:bert
task: {name: shortcut_nli, seed: 0, train_size: 200, dev_size: 120, test_size: 120}
teacher: {epochs: 1}
# Longer than a worker takes to start: else the first one is done before a second one helps.
training: {epochs: 20, learning_rate: 1.0e-3, rungs: 8, precision: fp32}
compression: {name: magnitude}
space: {compression.sparsity: {uniform: [0.2, 0.8]}}
search: {name: random, trials: 6, seed: 0}
health_gate: warn
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without a GPU; ends all its processes."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # A Ray of an earlier test in this process has turned tokens on for itself.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster

    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0, "resources": {}}
    )
    yield found
    found.shutdown()


def records(storage: Path) -> list[dict[str, Any]]:
    files = sorted((storage / "placed" / "trials").glob("*/record.json"))
    return [json.loads(file.read_text()) for file in files]


def started(process: subprocess.Popen[str], storage: Path, node: str) -> bool:
    """Wait until a trial on a node has a rung; False where the sweep ended first."""
    while process.poll() is None:
        if any(
            r["status"] == "running" and r["rungs"] and r["environment"]["node"] == node
            for r in records(storage)
        ):
            return True
        time.sleep(0.05)
    return False


def test_fractions_are_placed_and_a_lost_node_costs_no_trial(cluster: Any, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=2, num_gpus=1) for _ in range(2)]
    config = tmp_path / "placed.yaml"
    config.write_text(CONFIG)
    lost = nodes[1].node_id[:12]
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(
        command(
            tmp_path, "launch", str(config), "--name", "placed", "--address", cluster.address,
            "--set", "resources={cpu: 1, gpu: 0.5, device: cpu}",
        ),
        stdout=log, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert started(process, tmp_path, lost), (tmp_path / "log").read_text()
        cluster.remove_node(nodes[1], allow_graceful=False)
        interrupted = {r["id"] for r in records(tmp_path) if r["status"] == "running"}
        cluster.add_node(num_cpus=2, num_gpus=1)
        code = process.wait(timeout=500)
    finally:
        process.kill()
        process.wait()
        log.close()
    assert code == 0, (tmp_path / "log").read_text()
    found = records(tmp_path)
    assert [r["id"] for r in found] == [f"t{i:04d}" for i in range(TRIALS)]
    assert {r["status"] for r in found} == {"finished"}
    trials = found[1:]
    assert all(len(r["rungs"]) == 7 for r in trials), "what was interrupted went on from a rung"
    went_on = [r for r in trials if r["id"] in interrupted]
    assert went_on and all(r["environment"]["node"] != lost for r in went_on)
    # The head has no GPU, so it got none; each GPU held two trials at most, by Ray's own numbers.
    head = cluster.head_node.node_id[:12]
    places = {(r["environment"]["node"], *r["environment"]["gpus"]) for r in trials}
    assert len(places) >= 2 and head not in {node for node, _ in places}
    for place in places:
        spans = [
            (r["started"], r["finished"])
            for r in trials
            if r["id"] not in interrupted
            and (r["environment"]["node"], *r["environment"]["gpus"]) == place
        ]
        assert max_at_once(spans) <= 2
    assert max_at_once([(r["started"], r["finished"]) for r in trials]) > 2


def max_at_once(spans: list[tuple[float, float]]) -> int:
    """Return how many intervals overlap at most."""
    ends = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    count, most = 0, 0
    for _, change in ends:
        count += change
        most = max(most, count)
    return most
