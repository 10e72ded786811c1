"""Whole sweeps with real Ray processes, a tiny random encoder and the real command line.

One sweep is launched for the whole module; the tests look at what it left behind.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rc_core import batch
from rc_core.yaml_files import read_yaml
from sweeps.search._storage import study_storage
from tests.e2e._sweeps import call, call_here, records, write_config

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("storage")
    config = write_config(root, trials=7, cpus=1)
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


def test_the_front_is_that_of_the_records(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    done = call_here(capsys, storage, "pareto", "first", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {entry["id"] for entry in document["front"]} == expected
    assert json.loads((storage / "first" / "front.json").read_text())["front"] == document["front"]


def test_mlflow_has_one_child_run_per_trial_under_one_parent(storage: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{storage / 'mlflow.db'}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments)
    children = [run for run in runs if run.data.tags["rc.kind"] == "trial"]
    parents = [run for run in runs if run.data.tags["rc.kind"] == "sweep"]
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
        roles = {each.tags[0].value for each in run.inputs.dataset_inputs}
        assert roles == {"train", "id_dev", "ood_dev"}, "the search saw no test role"


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
    assert "optimizer steps are few" in done.stdout + done.stderr
    assert list(records(storage, "tiny-1")) == ["t0000", "t0001", "t0002"]
    first, second = records(storage, "first"), records(storage, "tiny-1")
    for name in ("t0000", "t0001", "t0002"):
        assert first[name]["metrics"] == second[name]["metrics"], "same seed, same record"


def test_nothing_of_the_test_roles_is_written_before_they_are_opened(storage: Path) -> None:
    """Search, tracking and confirmation: every file, the study, the outbox, MLflow's database."""
    confirmed = call(storage, "confirm", "tiny-1", "--seeds", "2")
    assert confirmed.returncode == 0, confirmed.stderr
    # Its launch said so, of the same data and as many steps.
    assert "optimizer steps are few" not in confirmed.stdout + confirmed.stderr
    assert "on front" in confirmed.stdout and "trainings instead of" in confirmed.stdout
    files = [path for path in storage.rglob("*") if path.is_file()]
    assert len(files) > 100 and any(path.name == "mlflow.db" for path in files)
    # A report says in words that the test roles are sealed; a figure of them has a key below them.
    found = [
        str(path)
        for path in files
        for role in ("id_test", "ood_test")
        if role in path.name
        or (role + "/" * path.name.startswith("report.")).encode() in path.read_bytes()
    ]
    assert not found, found


def test_after_a_confirmation_its_seeds_are_what_the_test_opens(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = call_here(capsys, storage, "test", "tiny-1", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["basis"] == "confirmed" and document["selection"]
    for row in document["rows"]:
        if row["selected"] or row["reference"]:
            assert len(row["seeds"]) == 2
            assert all(key.startswith("confirm/") for key in row["trials"])
    shown = call_here(capsys, storage, "pareto", "tiny-1")
    assert shown.stdout.count("sealed test opened") == 2, shown.stdout
    assert "CHANGED AFTER" not in shown.stdout
    assert "drop" in call_here(capsys, storage, "test", "tiny-1").stdout


def test_choosing_under_constraints_and_saying_why(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    why = call_here(capsys, storage, "pareto", "first", "--why", "t0003")
    assert why.returncode == 0 and "on the front" in why.stdout
    table = call_here(capsys, storage, "pareto", "first", "--budgets")
    assert table.returncode == 0 and "best trade-off" in table.stdout
    assert (storage / "first" / "budgets.png").stat().st_size > 10_000
    out = storage / "never"
    done = call_here(
        capsys, storage, "export", "first", "--out", str(out), "--where", "footprint/bytes <= 10"
    )
    assert done.returncode == 2 and "misses footprint/bytes <= 10" in done.stderr
    assert not out.exists()
    sealed = call_here(capsys, storage, "pareto", "first", "--where", "ood_test/accuracy >= 0.5")
    assert sealed.returncode == 2 and "sealed" in sealed.stderr


def test_test_opens_the_sealed_roles_once(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = call_here(capsys, storage, "test", "first", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    front = {e["id"] for e in json.loads((storage / "first" / "front.json").read_text())["front"]}
    assert front | {"t0000"} <= set(document["trials"])
    assert {"id_test/accuracy", "ood_test/accuracy"} <= set(document["trials"]["t0000"]["metrics"])
    before = (storage / "first" / "test.json").read_text()
    again = call_here(capsys, storage, "test", "first")
    assert again.returncode == 0 and "F_bias" in again.stdout
    assert (storage / "first" / "test.json").read_text() == before


def test_an_exported_model_loads_with_plain_transformers(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = storage / "exported"
    done = call_here(capsys, storage, "export", "first", "--pick", "t0002", "--out", str(out))
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
    again = call_here(capsys, storage, "export", "first", "--pick", "t0002", "--out", str(out))
    assert again.returncode == 2 and "must be a new or empty folder" in again.stderr


def test_a_tampered_model_is_not_exported(
    storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
        done = call_here(
            capsys, storage, "export", "first", "--pick", "t0003", "--out", str(tmp_path / "out")
        )
    finally:
        weights.write_bytes(kept)
    assert done.returncode == 1 and "recorded predictions" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_adopt_takes_in_trials_made_without_ray(
    storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = records(storage, "first")["t0000"]["config"]
    pruned = {**config, "compression": {"name": "magnitude", "sparsity": 0.33}}
    listed = tmp_path / "list.jsonl"
    listed.write_text(json.dumps(pruned) + "\n")
    out = tmp_path / "out"
    assert batch.main([str(listed), "--out", str(out)]) == 0, capsys.readouterr().err
    done = call_here(capsys, storage, "adopt", "first", str(out))
    assert done.returncode == 0, done.stderr
    assert "1 trial adopted" in done.stdout
    new = done.stdout.split("-> ")[1].split()[0]
    assert records(storage, "first")[new]["fingerprint"] not in {
        r["fingerprint"] for n, r in records(storage, "first").items() if n != new
    }
    record_file = out / "trials" / "t0000" / "record.json"
    changed = json.loads(record_file.read_text())
    changed["config"]["training"]["epochs"] = 9.0
    record_file.write_text(json.dumps(changed))
    refused = call_here(capsys, storage, "adopt", "first", str(out))
    assert refused.returncode == 2 and "fingerprint" in refused.stderr


def test_a_trial_that_fails_is_reported_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert "rc-sweep resume failing --retry-failed" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    refused = call_here(capsys, tmp_path, "resume", "failing", "--set", "training.epochs=9")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "training.epochs: cannot change in a launched sweep" in refused.stderr
    # It diverges again: with a new one the only trial that runs, and what was known of it stays.
    again = call(tmp_path, "resume", "failing", "--retry-failed", "--set", "search.trials=5")
    assert again.returncode == 3, again.stdout + again.stderr
    (failed,) = [name for name, record in found.items() if record["status"] == "failed"]
    assert f"running failed trials again: {failed}" in again.stdout
    after = records(tmp_path, "failing")
    assert after.pop(failed)["started"] > found[failed]["started"]
    assert after.pop("t0004")["status"] == "finished"
    assert after == {name: record for name, record in found.items() if name != failed}
    assert read_yaml(tmp_path / "failing" / "sweep.yaml")["search"]["trials"] == 5
    kept = tmp_path / "failing" / "trials" / failed / "failed-1.json"
    assert json.loads(kept.read_text()) == found[failed]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "trainin.epochs=1"], "did you mean 'training'"),
        (["--name", "../outside"], "must consist of letters"),
        (["--set", "objectives={ood_dev/nowhere/accuracy: max}"], "no suite 'nowhere'"),
        (["--set", "task={name: files, data_dir: nowhere}"], "task"),
        (["--address", "ray://127.0.0.1:10001"], "ray job submit"),
    ],
)
def test_bad_input_starts_nothing(
    tmp_path: Path, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, trials=3)
    done = call_here(capsys, tmp_path / "storage", "launch", str(config), *arguments)
    assert done.returncode == 2
    assert expected in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "storage").glob("*/sweep.yaml"))


def test_what_no_machine_has_starts_nothing(tmp_path: Path) -> None:
    """Told when Ray has started: in a process of its own."""
    config = write_config(tmp_path, trials=3)
    held = ("--set", "resources.gpu=1", "--set", "resources.device=cpu")
    done = call(tmp_path / "storage", "launch", str(config), *held)
    assert done.returncode == 2
    assert "resources.gpu" in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "storage").glob("*/sweep.yaml"))
