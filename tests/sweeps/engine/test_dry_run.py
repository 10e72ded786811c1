"""`launch --dry-run` refuses what a launch refuses, and counts the data that is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from rc_core.errors import InputError
from rc_core.record import TrialFolder, TrialRecord
from sweeps.cli import app

CONFIG = """
model: tiny:bert
task:
  name: files
  text: text
  label: label
  labels: [good, bad]
  roles: {train: train.csv, id_dev: dev.csv, ood_dev: {other: other.csv}}
space: {loss.name: {choice: [vanilla, smooth]}}
search: {name: random, trials: 4}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for name, rows in (("train", 60), ("dev", 10), ("other", 10)):
        lines = [f"{name} {i},{('good', 'bad')[i % 2]}" for i in range(rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    (tmp_path / "sweep.yaml").write_text(f"{CONFIG}resources: {{cpu: 1}}\n")
    return tmp_path / "sweep.yaml"


def dry_run(config: Path, *arguments: str) -> Any:
    where = [] if "--storage" in arguments else ["--storage", str(config.parent / "storage")]
    data = ["--set", f"task.data_dir={config.parent}"]
    return CliRunner().invoke(app, ["launch", str(config), "--dry-run", *data, *where, *arguments])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--name", "a/b c"], "must consist of letters"),
        (["--name", "artifacts"], "not be one of artifacts"),
        (["--name", "taken"], "choose another --name"),
        (["--storage", "sweep.yaml"], "sweep.yaml is a file"),
        (["--storage", "sweep.yaml/below"], "sweep.yaml is a file"),
        (["--address", "ray://head:10001"], "ray job submit"),
        (["--address", "127.0.0.1:1"], "nothing answers at '127.0.0.1:1'"),
        (["--set", "resources.cpu=100000"], "resources.cpu: a trial must fit on this machine"),
        (["--set", "search.warm_start=[nosuch]"], "no sweep 'nosuch'"),
        (["--set", "task.roles.train=gone.csv"], "no such file"),
    ],
)
def test_it_refuses_what_a_launch_refuses(
    config: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(config.parent)
    (config.parent / "storage" / "taken").mkdir(parents=True)
    done = dry_run(config, *arguments)
    assert isinstance(done.exception, InputError), done.output
    assert told in str(done.exception)


def test_data_that_may_be_a_mistake_is_told(config: Path) -> None:
    assert "warning:" not in dry_run(config, "--set", "training.epochs=100").output
    done = dry_run(config, "--set", "task.labels=[good, bad, neither]")
    assert "warning:    no row of train has the label 'neither'" in done.output


def test_how_long_is_trained_is_told_and_that_few_steps_are_few(config: Path) -> None:
    options = ("--set", "training.epochs=3", "--set", "training.batch_size=10")
    text = dry_run(config, *options).output
    assert "training:   18 optimizer steps a trial (3 epochs, batches of 10)" in text
    assert "warning:    18 optimizer steps are few" in text and "epochs (to 34, say)" in text
    found = json.loads(dry_run(config, "--json", *options).stdout)
    assert found["steps"] == 18 and len(found["warnings"]) == 1


def test_texts_that_will_be_cut_are_told(config: Path) -> None:
    train = config.parent / "train.csv"
    train.write_text(f"{train.read_text()}{'long ' * 50},good\n{'so ' * 50},bad\n")
    told = "are longer than 32 tokens and are cut; raise training.max_length if"
    found = json.loads(dry_run(config, "--json", "--set", "training.max_length=32").stdout)
    assert [line for line in found["warnings"] if told in line] == [
        f"3 % of the samples of train.files {told} what is lost matters"
    ]


def test_what_was_read_is_told_and_of_a_sealed_test_its_size_alone(config: Path) -> None:
    train = config.parent / "train.csv"
    train.write_text(f"{train.read_text()}train 0,good\ntrain 0,good\nother 0,good\nodd,maybe\n")
    more = ("task.drop_labels=[maybe]", "task.roles.id_test=dev.csv", "task.roles.id_dev=null")
    options = [part for each in more for part in ("--set", each)]
    found = json.loads(dry_run(config, "--json", *options).stdout)["data"]
    assert [*found] == ["train.files", "id_dev.files", "ood_dev.other", "id_test.files"]
    train_part, carved = found["train.files"], found["id_dev.files"]
    assert train_part["left_out"] == {"dropped_labels": 1, "removed_overlap": 1}
    assert train_part["samples"] + carved["samples"] == 62 and carved["carved"]
    assert train_part["repeats"] + carved["repeats"] == 2
    assert found["ood_dev.other"]["labels"] == {"good": 5, "bad": 5}
    assert found["id_test.files"] == {"samples": 10}
    text = dry_run(config, *options).output
    told = "1 row left out: drop_labels; 1 row left out: also in a split that takes precedence"
    assert told in text and "repeat the texts of another" in text
    assert f"data:       id_dev.files: {carved['samples']} samples carved from train: " in text
    assert "data:       ood_dev.other: 10 samples: good 5, bad 5\n" in text
    assert "data:       id_test.files: 10 samples, sealed\n" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_told_beside_other_mistakes(config: Path) -> None:
    done = dry_run(config, "--set", "resources={cpu: 100000, gpu: 0.5}", "--name", "artifacts")
    assert isinstance(done.exception, InputError), done.output
    for told in (
        "resources.cpu: a trial must fit",
        "resources.gpu: a trial asks for 0.5",
        "not be one",
    ):
        assert told in str(done.exception)
    # Trials that leave a held GPU alone, and those of a cluster, are placed by what Ray finds.
    held = "resources={cpu: 1, gpu: 0.5, device: cpu}"
    assert dry_run(config, "--set", held).exit_code == 0


@pytest.mark.parametrize(("setting", "samples"), [("task.limit=null", 60), ("task.limit=20", 20)])
def test_the_time_follows_from_the_data_that_is_there(
    config: Path, setting: str, samples: int
) -> None:
    done = dry_run(config, "--json", "--set", setting)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["trials"] == 4 and found["configuration"]["model"] == "tiny:bert"
    assert f"blocks and {samples} training samples" in found["seconds_from"]
    assert 0 < found["seconds_a_trial"] < 60 and found["at_once_here"] >= 1
    assert not (config.parent / "storage").exists(), "starts nothing"
    text = dry_run(config, "--set", setting).output
    assert "rough" in text and "takes extra time" in text
    assert " 0.0 " not in text and "less than 0.1 GB for 4 models" in text


def test_the_time_is_that_of_trials_whose_teacher_trains_otherwise(config: Path) -> None:
    asked = ("--json", "--set", "training.epochs=8", "--set", "teacher.epochs=2")
    values = json.loads(dry_run(config, *asked).stdout)["configuration"]
    # What ran before counts by its own training, not by its teacher's.
    for number, epochs in enumerate((2, 8)):
        trial = TrialFolder(config.parent / "storage" / "before" / "trials" / f"t{number:04d}")
        trained = values["training"] | {"epochs": epochs}
        record = TrialRecord(
            id=trial.path.name,
            status="running",
            config={"model": values["model"], "task": values["task"], "training": trained},
            fingerprint="f",
            started=0.0,
            seconds={"total": 10.0 * epochs},
        )
        trial.commit(record.sealed("finished"))
    # What cannot be read of another sweep is no matter of this one.
    damaged = TrialFolder(config.parent / "storage" / "other" / "trials" / "t0001").record_file
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    found = json.loads(dry_run(config, *asked).stdout)
    assert found["seconds_a_trial"] == 80.0
    assert found["seconds_from"] == "median of 1 earlier trial"
