"""Two sweeps started together on an empty storage: each artifact is built once, by one of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.artifact_uses import FolderShelf, uses

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

CONFIG = """
model: tiny:bert
task: {name: shortcut_nli, seed: 0, train_size: 200, dev_size: 120, test_size: 120}
training: {epochs: 1, learning_rate: 1.0e-3, rungs: 1, precision: fp32, max_length: 24}
compression: {name: magnitude, sparsity: 0.5}
difficulty: {name: loss_variance, mode: independent, epochs: 1, levels: [0.3, 0.8]}
loss: {name: rmc}
search: {name: grid, trials: 2}
health_gate: warn
"""


def test_two_sweeps_started_together_build_nothing_twice(tmp_path: Path) -> None:
    config = tmp_path / "twin.yaml"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "sweeps.cli", "launch", str(config)]
    processes = [
        subprocess.Popen(
            [*command, "--name", name, "--storage", str(tmp_path / "storage")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for name in ("one", "two")
    ]  # fmt: skip
    try:
        outs = [process.communicate(timeout=250)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outs)
    built = [re.findall(r": built in .*\[(\S+)\]", out) for out in outs]
    reused = [re.findall(r": reused, .*\[(\S+)\]", out) for out in outs]
    assert not set(built[0]) & set(built[1])
    assert {*built[0], *reused[0]} == {*built[1], *reused[1]}
    kinds = sorted(name.split("/")[0] for name in (*built[0], *built[1]))
    assert kinds == [
        "difficulty", "difficulty", "pruned_level", "pruned_level", "teacher", "teacher_log_probs",
    ]  # fmt: skip
    found = uses(FolderShelf(tmp_path / "storage"))
    named = {use.stored.key: use.sweeps for use in found}
    teacher = next(use.stored.key for use in found if use.stored.kind == "teacher")
    assert named[teacher] == ("one", "two")
