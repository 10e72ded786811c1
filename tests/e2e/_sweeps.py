"""What the end-to-end tests share: the command line, a tiny sweep, what is left of one.

A tiny encoder reads characters: its texts are cut short, as trials would take most of the time.

A command that trains nothing is run in the test's process: starting another one costs its imports.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sweeps.cli import entry

CONFIG = """
model: tiny:bert
task: {name: shortcut_nli, seed: 0, train_size: 200, dev_size: 120, test_size: 120}
training: {epochs: EPOCHS, learning_rate: 1.0e-3, rungs: RUNGS, precision: fp32,
           max_length: 24}
compression: {name: magnitude, sparsity: 0.5}
difficulty: {name: loss_variance, epochs: 2}
space:
  compression.name: {choice: [magnitude, student]}
  compression.sparsity: {uniform: [0.2, 0.8], when: {compression.name: magnitude}}
  compression.num_layers: {int: [1, 3], when: {compression.name: student}}
  loss.name: {choice: [vanilla, distil, rmc]}
  loss.alpha: {choice: [0.2, 0.5], when: {loss.name: rmc}}
constraints: ["id_dev/accuracy >= 0.0"]
search: {name: tpe, trials: TRIALS, seed: 0}
health_gate: warn
resources: {cpu: CPUS}
"""


def command(storage: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "sweeps.cli", *arguments, "--storage", str(storage)]


def call(storage: Path, *arguments: str, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(storage, *arguments), capture_output=True, text=True, timeout=timeout
    )


def call_here(
    capsys: pytest.CaptureFixture[str], storage: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a command that starts no Ray in this process; a traceback of it fails the test."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        entry.main([*arguments, "--storage", str(storage)])
    printed = capsys.readouterr()
    code = ended.value.code
    assert isinstance(code, int), code
    return subprocess.CompletedProcess(arguments, code, printed.out, printed.err)


def write_config(
    folder: Path, *, trials: int, epochs: float = 1, rungs: int = 2, cpus: int = 2
) -> Path:
    """Write the tiny sweep's configuration.

    Args:
        cpus: of each trial. With two, a machine of two cores starts one process for trials, as
            starting a second one takes longer than such trials do.
    """
    text = CONFIG.replace("TRIALS", str(trials)).replace("EPOCHS", str(epochs))
    text = text.replace("RUNGS", str(rungs)).replace("CPUS", str(cpus))
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


def records(storage: Path, sweep: str) -> dict[str, dict[str, Any]]:
    files = sorted((storage / sweep / "trials").glob("*/record.json"))
    return {file.parent.name: json.loads(file.read_text()) for file in files}


def one_run_per_trial(storage: Path, sweep: str) -> None:
    """Check that MLflow has the sweep and each of its trials once, ended as the records say."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{storage / 'mlflow.db'}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    children = [run for run in runs if "rc.trial_id" in run.data.tags]
    ended = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
    assert sorted((run.data.tags["rc.trial_id"], run.info.status) for run in children) == [
        (name, ended[record["status"]]) for name, record in records(storage, sweep).items()
    ]
    assert len(runs) == len(children) + 1
