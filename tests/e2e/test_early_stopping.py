"""Sweeps that stop trials early, with real Ray processes: endings, a kill between promotions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

from sweeps.search._storage import study_storage
from tests.e2e._sweeps import call, command, one_run_per_trial, records

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("e2e-2"),
]

CONFIG = """
model: tiny:bert
task: TASK
training: {epochs: 4, learning_rate: 1.0e-3, rungs: 4, precision: fp32, warmup: 0.0,
           max_grad_norm: 0.0, max_length: 24}
compression: {name: student, num_layers: 1}
space:
  compression.num_layers: {int: [1, 3]}
  loss.name: {choice: [vanilla, distil]}
  training.learning_rate: {choice: RATES}
search: {name: random, trials: 10, seed: 1}
scheduler: {name: pareto_asha, eta: 2, variant: VARIANT}
health_gate: warn
"""


GENERATED = "{name: shortcut_nli, seed: 0, train_size: 160, dev_size: 60, test_size: 60}"
# What a tiny encoder learns in a few steps: elsewhere all have 50 %, and a tie is no loss.
SEPARABLE = """
  name: files
  data_dir: DATA
  text: text
  label: label
  labels: [good, bad]
  roles: {train: train.csv, id_dev: dev.csv, ood_dev: {other: other.csv}}"""


def write_config(folder: Path, variant: str, rates: str, task: str = GENERATED) -> Path:
    for name, rows in (("train", 640), ("dev", 60), ("other", 60)):
        lines = [
            f"{name} {i} {('a b a b', 'x y z x')[i % 2]},{('good', 'bad')[i % 2]}"
            for i in range(rows)
        ]
        (folder / f"{name}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    path = folder / "early.yaml"
    text = CONFIG.replace("TASK", task.replace("DATA", str(folder)))
    path.write_text(text.replace("VARIANT", variant).replace("RATES", rates))
    return path


def study_states(storage: Path, sweep: str) -> dict[str, str]:
    journal = study_storage(storage / sweep / "study.journal")
    study = optuna.load_study(study_name="sweep", storage=journal)
    for trial in study.trials:
        if trial.state.name == "PRUNED":
            assert "rung/ood_dev/accuracy" in trial.user_attrs["rungs"]
    return {t.user_attrs["rc.trial_id"]: t.state.name for t in study.trials}


def check_whole(storage: Path, sweep: str) -> dict[str, dict[str, Any]]:
    """Check what must hold after any sweep; return its records."""
    found = records(storage, sweep)
    assert "running" not in {record["status"] for record in found.values()}
    expected = {"finished": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}
    for trial_id, state in study_states(storage, sweep).items():
        if trial_id in found:
            assert state == expected[found[trial_id]["status"]], trial_id
        else:
            assert state == "FAIL", "a duplicate that was not run"
    for trial_id, record in found.items():
        progress = [rung["progress"] for rung in record["rungs"]]
        assert progress == sorted(set(progress)), "no rung is reached twice"
        assert not (storage / sweep / "trials" / trial_id / "checkpoint").exists()
        if record["status"] == "stopped":
            assert progress and record["metrics"] == {} and record["error"] is None
    front = json.loads((storage / sweep / "front.json").read_text())
    finished = {name for name, record in found.items() if record["status"] == "finished"}
    assert {entry["id"] for entry in front["front"]} <= finished
    return found


def test_stopped_finished_and_failed_trials_end_as_such_everywhere(tmp_path: Path) -> None:
    config = write_config(tmp_path, "stopping", "[5.0e-3, 1.0e-7, 1.0e+30]", SEPARABLE)
    done = call(tmp_path, "launch", str(config), "--name", "s")
    assert done.returncode == 3, done.stdout + done.stderr
    found = check_whole(tmp_path, "s")
    states = [record["status"] for record in found.values()]
    assert set(states) == {"finished", "stopped", "failed"}
    assert set(study_states(tmp_path, "s").values()) == {"COMPLETE", "PRUNED", "FAIL"}
    assert "ended by search.trials (10)" in done.stdout
    one_run_per_trial(tmp_path, "s")


def test_promotions_survive_a_killed_driver(tmp_path: Path) -> None:
    config = write_config(tmp_path, "promotion", "[1.0e-3, 2.0e-3]")
    log = tmp_path / "launch.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            command(tmp_path, "launch", str(config), "--name", "p"),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + 250
    try:
        while time.monotonic() < deadline:
            paused = [r for r in records(tmp_path, "p").values() if r["status"] == "running"]
            if sum(bool(record["rungs"]) for record in paused) >= 3:
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        else:
            pytest.fail(f"not within 250 s: three trials with a rung\n{log.read_text()}")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = records(tmp_path, "p")
    assert sum(r["status"] == "running" for r in before.values()) >= 3, log.read_text()
    done = call(tmp_path, "resume", "p")
    assert done.returncode == 0, done.stdout + done.stderr
    after = check_whole(tmp_path, "p")
    assert list(after) == [f"t{i:04d}" for i in range(10)]
    states = [record["status"] for record in after.values()]
    assert states.count("stopped") >= 3 and states.count("finished") >= 2
    for name, record in before.items():
        kept = [rung["metrics"] for rung in record["rungs"]]
        assert [rung["metrics"] for rung in after[name]["rungs"]][: len(kept)] == kept
    one_run_per_trial(tmp_path, "p")
