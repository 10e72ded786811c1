"""A cluster whose nodes share no folder: what trials need and leave passes through the address.

Every node is a raylet of this machine with a folder of its own (RC_STATE). The head, where the
driver is, holds no trial.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests._s3 import S3Server
from tests.e2e._sweeps import write_config

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("e2e-2"),
    pytest.mark.skipif(
        not os.environ.get("RC_LONG"),
        reason="takes a minute more than CI has; RC_LONG=1 runs it (its parts: test_worker.py)",
    ),
]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cluster(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without cores and two nodes with one each; ends all its processes."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # A Ray of an earlier test in this process has turned tokens on for itself.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for name in ("one", "two"):
        found.add_node(num_cpus=1, env_vars={"RC_STATE": str(tmp_path / name)})
    yield found
    found.shutdown()


def test_nodes_that_share_no_folder_run_one_sweep(
    cluster: Any, s3: S3Server, tmp_path: Path
) -> None:
    config = write_config(tmp_path, trials=3, epochs=1, rungs=2, cpus=1)
    arguments = ["--name", "far", "--storage", s3.storage, "--address", cluster.address]
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.cli", "launch", str(config), *arguments],
        capture_output=True, text=True, timeout=500, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    files = sorted(tmp_path.glob("state/*/far/trials/*/record.json"))
    records = {file.parent.name: json.loads(file.read_text()) for file in files}
    assert list(records) == [f"t{i:04d}" for i in range(3)]
    assert {record["status"] for record in records.values()} == {"finished"}
    head = cluster.head_node.node_id[:12]
    assert head not in {r["environment"]["node"] for r in records.values() if not r["reference"]}
    listed = s3.listing()
    for trial in records:
        assert f"far/trials/{trial}/model/model.safetensors" in listed
    assert not list(tmp_path.glob("state/*/far/trials/*/model")), "the driver brought no model"
    assert (next(tmp_path.glob("state/*/far")) / "report.html").is_file()
    built = [path.parent.name for path in tmp_path.glob("[ot]*/*/artifacts/*/*/artifact.json")]
    assert len(set(built)) < len(built), "what one node built the other one brought"
