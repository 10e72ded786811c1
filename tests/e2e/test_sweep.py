"""Whole sweeps with real Ray processes, a tiny random encoder and the real command line.

One sweep is launched for the whole module; the tests look at what it left behind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.search._storage import study_storage

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CONFIG = """
model: tiny:bert
task: {name: shortcut_nli, seed: 0, train_size: 200, dev_size: 120, test_size: 120}
training: {epochs: EPOCHS, learning_rate: 1.0e-3, rungs: RUNGS, precision: fp32}
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
"""


def command(storage: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "sweeps.cli", *arguments, "--storage", str(storage)]


def call(storage: Path, *arguments: str, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(storage, *arguments), capture_output=True, text=True, timeout=timeout
    )


def write_config(folder: Path, *, trials: int, epochs: float = 1, rungs: int = 2) -> Path:
    text = CONFIG.replace("TRIALS", str(trials)).replace("EPOCHS", str(epochs))
    path = folder / "tiny.yaml"
    path.write_text(text.replace("RUNGS", str(rungs)))
    return path


def records(storage: Path, sweep: str) -> dict[str, dict[str, Any]]:
    files = sorted((storage / sweep / "trials").glob("*/record.json"))
    return {file.parent.name: json.loads(file.read_text()) for file in files}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("storage")
    config = write_config(root, trials=7)
    done = call(root, "launch", str(config), "--name", "first")
    assert done.returncode == 0, done.stdout + done.stderr
    (root / "first.log").write_text(done.stdout)
    yield root


def test_every_trial_has_a_record_a_model_and_predictions(storage: Path) -> None:
    found = records(storage, "first")
    assert list(found) == [f"t{i:04d}" for i in range(7)]
    assert {record["status"] for record in found.values()} == {"finished"}
    assert [name for name, record in found.items() if record["reference"]] == ["t0000"]
    for name, record in found.items():
        folder = storage / "first" / "trials" / name
        assert (folder / "model" / "model.safetensors").is_file()
        roles = {path.name.split(".")[0] for path in (folder / "predictions").iterdir()}
        assert roles == {"id_dev", "ood_dev"}, "the test roles are sealed"
        assert {"id_dev/accuracy", "ood_dev/accuracy"} <= set(record["metrics"])
        assert not any(key.startswith(("id_test", "ood_test")) for key in record["metrics"])


def test_the_log_shows_artifacts_front_and_next_commands(storage: Path) -> None:
    log = (storage / "first.log").read_text()
    assert "teacher: built" in log
    for text in ("t0000", "rc-sweep test first", "rc-sweep export first", "rc-sweep ui first"):
        assert text in log
    assert (storage / "first" / "front.png").stat().st_size > 10_000


def test_the_front_is_that_of_the_records(storage: Path) -> None:
    """Reference: dominance by two loops over the records."""
    points = {
        name: (record["metrics"]["id_dev/accuracy"], record["metrics"]["ood_dev/accuracy"])
        for name, record in records(storage, "first").items()
    }
    expected = {
        name
        for name, (a, b) in points.items()
        if not any(c >= a and d >= b and (c, d) != (a, b) for c, d in points.values())
    }
    done = call(storage, "pareto", "first", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {entry["id"] for entry in document["front"]} == expected
    assert json.loads((storage / "first" / "front.json").read_text())["front"] == document["front"]


def test_mlflow_has_one_child_run_per_trial_under_one_parent(storage: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{storage / 'mlflow.db'}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments)
    children = [run for run in runs if "rc.trial_id" in run.data.tags]
    parents = [run for run in runs if "rc.trial_id" not in run.data.tags]
    assert len(parents) == 1 and parents[0].info.status == "FINISHED"
    assert sorted(run.data.tags["rc.trial_id"] for run in children) == list(
        records(storage, "first")
    )
    for run in children:
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert run.info.status == "FINISHED"
        record = records(storage, "first")[run.data.tags["rc.trial_id"]]
        expected = record["metrics"]["ood_dev/accuracy"]
        assert run.data.metrics["ood_dev/accuracy"] == pytest.approx(expected)


def test_the_study_has_no_trial_left_running(storage: Path) -> None:
    import optuna

    study = optuna.load_study(
        study_name="sweep", storage=study_storage(storage / "first" / "study.journal")
    )
    states = [trial.state.name for trial in study.trials]
    assert states.count("COMPLETE") == 6 and "RUNNING" not in states


def test_a_second_launch_builds_nothing_and_says_so(storage: Path) -> None:
    config = storage / "tiny.yaml"
    done = call(storage, "launch", str(config), "--set", "search.trials=3")
    assert done.returncode == 0, done.stderr
    assert "reused" in done.stdout and "built in" not in done.stdout
    assert list(records(storage, "tiny-1")) == ["t0000", "t0001", "t0002"]
    first, second = records(storage, "first"), records(storage, "tiny-1")
    for name in ("t0000", "t0001", "t0002"):
        assert first[name]["metrics"] == second[name]["metrics"], "same seed, same record"


def test_test_opens_the_sealed_roles_once(storage: Path) -> None:
    done = call(storage, "test", "first", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    front = {e["id"] for e in json.loads((storage / "first" / "front.json").read_text())["front"]}
    assert front | {"t0000"} <= set(document["trials"])
    assert {"id_test/accuracy", "ood_test/accuracy"} <= set(document["trials"]["t0000"]["metrics"])
    before = (storage / "first" / "test.json").read_text()
    again = call(storage, "test", "first")
    assert again.returncode == 0 and "F_bias" in again.stdout
    assert (storage / "first" / "test.json").read_text() == before


def test_an_exported_model_loads_with_plain_transformers(storage: Path) -> None:
    out = storage / "exported"
    done = call(storage, "export", "first", "--pick", "t0002", "--out", str(out))
    assert done.returncode == 0, done.stderr
    names = {path.name for path in out.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= names
    assert {"trial.yaml", "record.json"} <= names
    script = (
        "from transformers import AutoModelForSequenceClassification as M, AutoTokenizer as T\n"
        f"m, t = M.from_pretrained({str(out)!r}), T.from_pretrained({str(out)!r})\n"
        "logits = m(**t('the dog ran', 'a dog ran', return_tensors='pt')).logits\n"
        "print(m.config.id2label[int(logits.argmax())])\n"
    )
    plain = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert plain.stdout.strip() in ("entailment", "non_entailment"), plain.stderr
    again = call(storage, "export", "first", "--pick", "t0002", "--out", str(out))
    assert again.returncode == 2 and "must be a new or empty folder" in again.stderr


def test_a_tampered_model_is_not_exported(storage: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = storage / "first" / "trials" / "t0003" / "model" / "model.safetensors"
    kept = weights.read_bytes()
    tensors = load_file(weights)
    tensors["classifier.bias"] = tensors["classifier.bias"] + 0.01 * (
        1 - 2 * (tensors["classifier.bias"] > 0).float()
    )
    tensors["classifier.bias"][0] += 0.5
    save_file(tensors, weights, metadata={"format": "pt"})
    try:
        done = call(storage, "export", "first", "--pick", "t0003", "--out", str(tmp_path / "out"))
    finally:
        weights.write_bytes(kept)
    assert done.returncode == 1 and "recorded predictions" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_adopt_takes_in_trials_made_without_ray(storage: Path, tmp_path: Path) -> None:
    config = records(storage, "first")["t0000"]["config"]
    pruned = {**config, "compression": {"name": "magnitude", "sparsity": 0.33}}
    listed = tmp_path / "list.jsonl"
    listed.write_text(json.dumps(pruned) + "\n")
    out = tmp_path / "out"
    made = subprocess.run(
        [sys.executable, "-m", "rc_core.trial", str(listed), "--out", str(out)],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    done = call(storage, "adopt", "first", str(out))
    assert done.returncode == 0, done.stderr
    assert "1 trials adopted" in done.stdout
    new = done.stdout.split("-> ")[1].split()[0]
    assert records(storage, "first")[new]["fingerprint"] not in {
        r["fingerprint"] for n, r in records(storage, "first").items() if n != new
    }
    record_file = out / "trials" / "t0000" / "record.json"
    changed = json.loads(record_file.read_text())
    changed["config"]["training"]["epochs"] = 9.0
    record_file.write_text(json.dumps(changed))
    refused = call(storage, "adopt", "first", str(out))
    assert refused.returncode == 2 and "fingerprint" in refused.stderr


def test_a_killed_driver_is_resumed_without_losing_a_trial(tmp_path: Path) -> None:
    config = write_config(tmp_path, trials=6, epochs=6, rungs=6)
    log = tmp_path / "launch.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            command(tmp_path, "launch", str(config), "--name", "killed"),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + 200
    try:
        while time.monotonic() < deadline:
            states = [record["status"] for record in records(tmp_path, "killed").values()]
            if states.count("finished") >= 2 and "running" in states:
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = records(tmp_path, "killed")
    finished = {name: r for name, r in before.items() if r["status"] == "finished"}
    assert len(finished) >= 2
    done = call(tmp_path, "resume", "killed")
    assert done.returncode == 0, done.stdout + done.stderr
    after = records(tmp_path, "killed")
    assert list(after) == [f"t{i:04d}" for i in range(6)]
    assert {record["status"] for record in after.values()} == {"finished"}
    for name, record in finished.items():
        assert after[name] == record, "a finished trial is not run again"
    _one_run_per_trial(tmp_path, list(after))


def _one_run_per_trial(storage: Path, expected: list[str]) -> None:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{storage / 'mlflow.db'}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    children = [run for run in runs if "rc.trial_id" in run.data.tags]
    assert sorted(run.data.tags["rc.trial_id"] for run in children) == expected
    assert {run.info.status for run in children} == {"FINISHED"}
    assert len(runs) == len(expected) + 1


def test_a_trial_that_fails_is_reported_and_the_exit_code_says_so(tmp_path: Path) -> None:
    config = write_config(tmp_path, trials=4)
    text = config.read_text() + "\n"
    # A learning rate that breaks training, for one trial of the sweep only.
    text = text.replace(
        "search: {name: tpe, trials: 4, seed: 0}",
        "search: {name: tpe, trials: 4, seed: 0, points: [{compression.name: student, "
        "compression.num_layers: 2, loss.name: vanilla, training.learning_rate: 1.0e+30, "
        "training.max_grad_norm: 0.0, training.warmup: 0.0}]}",
    )
    config.write_text(text)
    done = call(tmp_path, "launch", str(config), "--name", "failing")
    assert done.returncode == 3, done.stdout + done.stderr
    found = records(tmp_path, "failing")
    assert [r["status"] for r in found.values()].count("failed") == 1
    assert "training loss must stay finite" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_own_files_given_relative_to_where_the_user_stands(tmp_path: Path) -> None:
    """Workers, and a later test or export from elsewhere, must find them all the same."""
    data = tmp_path / "data"
    data.mkdir()
    for name, size in (("train", 240), ("ood", 60), ("test", 60)):
        rows = [
            {"text": f"{name} says {'yes' if i % 2 else 'no'} {i}", "label": i % 2}
            for i in range(size)
        ]
        (data / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    text = (
        "model: tiny:bert\n"
        "task: {name: files, data_dir: data, text: text, label: label, labels: {0: bad, 1: good},\n"
        "  roles: {train: train.jsonl, ood_dev: {x: ood.jsonl}, ood_test: {y: test.jsonl}}}\n"
        "training: {epochs: 1, learning_rate: 1.0e-3, rungs: 1, precision: fp32}\n"
        "compression: {name: magnitude, sparsity: 0.5}\n"
        "loss: {name: vanilla}\n"
        "search: {name: grid, trials: 3}\n"
        "space: {compression.sparsity: {choice: [0.2, 0.6]}}\n"
        "health_gate: warn\n"
    )
    (tmp_path / "own.yaml").write_text(text)
    arguments = ["launch", "own.yaml", "--name", "own"]
    launched = subprocess.run(
        command(tmp_path / "storage", *arguments),
        capture_output=True, text=True, timeout=280, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert {r["status"] for r in records(tmp_path / "storage", "own").values()} == {"finished"}
    tested = call(tmp_path / "storage", "test", "own")
    assert tested.returncode == 0, tested.stderr
    opened = json.loads((tmp_path / "storage" / "own" / "test.json").read_text())
    assert all("ood_test/accuracy" in t["metrics"] for t in opened["trials"].values())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "resources.gpu=1"], "resources.gpu"),
        (["--set", "trainin.epochs=1"], "did you mean 'training'"),
        (["--name", "../outside"], "must be letters"),
        (["--set", "objectives={ood_dev/nowhere/accuracy: max}"], "no suite 'nowhere'"),
        (["--set", "task={name: files, data_dir: nowhere}"], "task"),
        (["--address", "ray://127.0.0.1:10001"], "ray job submit"),
    ],
)
def test_bad_input_starts_nothing(tmp_path: Path, arguments: list[str], expected: str) -> None:
    config = write_config(tmp_path, trials=3)
    done = call(tmp_path / "storage", "launch", str(config), *arguments)
    assert done.returncode == 2
    assert expected in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "storage").glob("*/sweep.yaml"))
