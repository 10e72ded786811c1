"""A fixed design without Ray: listed here, run by `rc_core.batch` elsewhere, taken in here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner

from rc_core.batch import run_batch
from rc_core.config import decode
from rc_core.errors import ConfigError, InputError
from rc_core.job_list import Job, read_list
from rc_core.record import TrialFolder, read_records
from rc_core.trial import run_trial
from rc_core.workspace import Workspace
from sweeps import Sweep
from sweeps.cli import app
from sweeps.config import load_sweep
from sweeps.engine.assignments import Assignments
from sweeps.engine.listed import listed
from sweeps.folder import SweepFolder
from sweeps.search import tpe
from tests.sweeps.engine.test_listed import DESIGN

FILES = {
    "name": "files",
    "text": "text",
    "label": "label",
    "labels": ["good", "bad"],
    "roles": {"train": "train.csv", "id_dev": "dev.csv", "ood_dev": {"other": "other.csv"}},
}
IDS = ["t0000", "t0002", "t0003", "t0004", "t0005", "t0006"]


def rc_sweep(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def write(path: Path, task: dict[str, Any] | None = None, **changes: Any) -> Path:
    values = DESIGN | ({} if task is None else {"task": task}) | changes
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(values)))
    return path


def listing(*arguments: Any) -> Any:
    done = rc_sweep("trials", *arguments)
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `data`, `design.yaml`, and `out`: all trials, as another machine made
    them, whose data lay where there is nothing any more.
    """
    root = tmp_path_factory.mktemp("gpu")
    there = root / "there"
    there.mkdir()
    for name, rows in (("train", 60), ("dev", 20), ("other", 20)):
        lines = [f"{name} {i},{('good', 'bad')[i % 2]}" for i in range(rows)]
        (there / f"{name}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    config = write(root / "design.yaml", FILES)
    listing(config, "--set", f"task.data_dir={there}", "--out", root / "list.jsonl")
    assert run_batch(read_list(root / "list.jsonl"), root / "out") == 0
    there.rename(root / "data")
    return root


@pytest.fixture
def out(gpu: Path, tmp_path: Path) -> Path:
    """Return a copy of the other machine's trials; its artifacts and weights were left there."""
    leave = shutil.ignore_patterns("model", "artifacts")
    return Path(shutil.copytree(gpu / "out", tmp_path / "out", ignore=leave))


def adopt(gpu: Path, out: Path, *arguments: Any) -> Any:
    where = ("--config", gpu / "design.yaml", "--set", f"task.data_dir={gpu / 'data'}")
    return rc_sweep("adopt", "new", out, *where, "--storage", gpu / out.parent.name, *arguments)


def test_a_list_is_read_back_as_the_launch_would_run_it(tmp_path: Path) -> None:
    config = write(tmp_path / "design.yaml")
    done = listing(config, "--set", "training.epochs=2", "--out", tmp_path / "list.jsonl")
    assert "6 trials written" in done.stdout and "rc_core.trial" in done.stdout
    jobs = read_list(tmp_path / "list.jsonl")
    expected = listed(load_sweep(config, ["training.epochs=2"]))
    assert {job.trial_id: job.config for job in jobs} == expected
    assert expected["t0004"].training.epochs == 2
    lines = listing(config, "--set", "training.epochs=2").stdout
    assert lines == (tmp_path / "list.jsonl").read_text(), "nothing else on stdout"


def test_data_and_model_need_not_be_here(tmp_path: Path) -> None:
    config = write(tmp_path / "design.yaml", FILES)
    for model in ("/models/bert", "owner/no-such-model"):
        done = listing(config, "--set", "task.data_dir=/data/x", "--set", f"model={model}")
        first = json.loads(done.stdout.splitlines()[0])["config"]
        assert (first["model"], first["task"]["data_dir"]) == (model, "/data/x")
        assert f"{model} is not on this machine" in done.stderr and "/data/x" in done.stderr


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("model=tiny:bart", "did you mean 'bert'"),
        ("compression.sparsty=0.3", "unknown key"),
        ("design=search", "must be fixed"),
        ("space.teacher.seed={choice: [0, 1, 2]}", "as they are paired"),
    ],
)
def test_a_mistake_is_told_as_of_a_launch(tmp_path: Path, setting: str, told: str) -> None:
    # Only a search with one teacher is one.
    space = {"loss.name": {"choice": ["vanilla", "distil"]}}
    changes: Any = {"space": space, "search": {"trials": 9}} if setting == "design=search" else {}
    config = write(tmp_path / "design.yaml", **changes)
    done = rc_sweep("trials", config, "--set", setting)
    assert isinstance(done.exception, InputError), done.output
    assert told in str(done.exception) and done.stdout == ""


def test_adopted_trials_make_a_sweep(gpu: Path, out: Path) -> None:
    done = adopt(gpu, out)
    assert done.exit_code == 0, done.exception
    assert "6 trials adopted" in done.stdout and "without weights: 6" in done.stdout
    assert "still to run" not in done.stdout
    storage = gpu / out.parent.name
    folder = SweepFolder(storage / "new")
    expected = listed(load_sweep(gpu / "design.yaml", [f"task.data_dir={gpu / 'data'}"]))
    records = {record.id: record for record in folder.records()}
    # The place of the data is this sweep's, so that a driver knows its own trials.
    assert {i: r.fingerprint for i, r in records.items()} == {
        i: config.fingerprint() for i, config in expected.items()
    }
    assert [i for i, record in records.items() if record.reference] == ["t0000", "t0004"]

    for command in ("table", "pareto", "report", "status"):
        shown = rc_sweep(command, "new", "--storage", storage)
        assert shown.exit_code == 0, (command, shown.exception)
        if command == "table":
            assert "| magnitude-50 distil | 2 |" in shown.stdout
            assert "a teacher for each seed" in shown.stdout
        if command == "status":
            assert "6 finished; 6 planned" in shown.stdout
            assert "rc-sweep resume" not in shown.stdout, "nothing is left to do"
    for arguments in (
        ("export", "new", "--out", out.parent / "model"),
        ("export", "new", "--pick", "t0003", "--out", out.parent / "model"),
        ("latency", "new"),
    ):
        refused = rc_sweep(*arguments, "--storage", storage)
        assert isinstance(refused.exception, InputError), arguments
        assert "must have weights here" in str(refused.exception)
        assert "rc-sweep adopt new DIR" in str(refused.exception)

    refused = rc_sweep("test", "new", "--storage", storage)
    assert "needs an id_test or ood_test split" in str(refused.exception)
    assert "rc-sweep test" not in Sweep.load("new", storage=storage).closing_lines()

    # What the message advises: the weights come after all.
    again = rc_sweep("adopt", "new", gpu / "out", "--storage", storage)
    assert "0 trials adopted" in again.stdout
    assert f"weights or test results added to: {', '.join(IDS)}" in again.stdout
    exported = rc_sweep(*("export", "new", "--pick", "t0003", "--storage", storage),
                        "--out", out.parent / "model")  # fmt: skip
    assert exported.exit_code == 0, exported.exception


def test_what_did_not_run_elsewhere_is_all_that_is_left(gpu: Path, out: Path) -> None:
    shutil.rmtree(out / "trials" / "t0002")
    shutil.rmtree(out / "trials" / "t0004")
    done = adopt(gpu, out)
    assert "4 trials adopted" in done.stdout
    assert "still to run: t0002, t0004; run them with: rc-sweep resume new" in done.stdout
    folder = SweepFolder(gpu / out.parent.name / "new")
    sweep = load_sweep(folder.path / "sweep.yaml")
    driver = Assignments(sweep, folder, tpe.proposals(sweep, folder.study), 2)
    given = [each for _ in range(4) if (each := driver.next()) is not None]
    assert {each.trial_id: each.config for each in given} == {
        trial_id: listed(sweep)[trial_id] for trial_id in ("t0002", "t0004")
    }


def test_a_report_follows_the_trials_that_come_later(gpu: Path, out: Path) -> None:
    shutil.rmtree(out / "trials" / "t0002")
    assert "5 trials adopted" in adopt(gpu, out).stdout
    storage = gpu / out.parent.name
    assert not (storage / "new" / "report.html").exists(), "nobody asked for one"
    assert rc_sweep("report", "new", "--storage", storage).exit_code == 0
    summary = storage / "new" / "report.md"
    assert "5 of 5 trials finished" in summary.read_text()
    assert "1 trial adopted" in rc_sweep("adopt", "new", gpu / "out", "--storage", storage).stdout
    assert "6 of 6 trials finished" in summary.read_text()


def test_a_sweep_is_made_once_and_only_of_its_own_trials(gpu: Path, out: Path) -> None:
    storage = gpu / out.parent.name
    refused = adopt(gpu, out, "--set", "space.teacher.seed={choice: [0, 9]}")
    assert isinstance(refused.exception, InputError)
    said = str(refused.exception)
    assert len(refused.exception.problems) == 1, "all of teacher 1, told once"
    told = "teacher.seed (t0004, t0005, t0006): must be one of the configuration's (0, 9), but is 1"
    assert told in said and "leave these trials out of the folder" in said
    refused = adopt(gpu, out, "--set", "task.text=other", "--set", "training.batch_size=7")
    said = str(refused.exception)
    assert len(refused.exception.problems) == 2, "not once for each trial"
    assert "task.text (" in said and "): must be the sweep's ['other'], but is " in said
    assert "training.batch_size (" in said
    assert "): of the dense reference must be the sweep's 7, but is " in said
    assert said.count("give the same --config and --set as for rc-sweep trials") == 2
    assert not (storage / "new").exists(), "nothing is left of it"

    alone = rc_sweep("adopt", "new", out, "--set", "training.epochs=2", "--storage", storage)
    assert "--set changes keys of --config" in str(alone.exception)
    assert adopt(gpu, out).exit_code == 0
    twice = adopt(gpu, out)
    assert isinstance(twice.exception, InputError)
    assert "creates a sweep, but 'new' exists already" in str(twice.exception)
    assert len(read_records(storage / "new" / "trials")) == 6


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `design.yaml`, `list.jsonl`, and `out`: all trials, tested."""
    root = tmp_path_factory.mktemp("tested")
    listing(write(root / "design.yaml"), "--out", root / "list.jsonl")
    assert run_batch(read_list(root / "list.jsonl"), root / "out", test=True) == 0
    return root


def open_test(name: str, folder: Path, tested: Path) -> Any:
    """Adopt the trials of a folder and open their test; return what the command said."""
    storage = ("--storage", folder.parent / "storage")
    done = rc_sweep("adopt", name, folder, "--config", tested / "design.yaml", *storage)
    assert done.exit_code == 0, done.exception
    return rc_sweep("test", name, *storage)


def test_an_opened_test_is_shown_again_without_its_data(
    tested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(tested / "out", tmp_path / "out"))
    first = open_test("again", out, tested)
    monkeypatch.setattr(Workspace, "data", lambda *given, **more: pytest.fail("data was read"))
    second = rc_sweep("test", "again", "--storage", tmp_path / "storage")
    assert second.exit_code == 0, second.exception
    assert "magnitude-50 distil" in second.stdout and "magnitude-50 distil" in first.stdout


def test_what_was_tested_elsewhere_needs_no_weights_here(tested: Path, tmp_path: Path) -> None:
    opened = {}
    for name, ignored in (("with", "artifacts"), ("without", "model")):
        out = shutil.copytree(
            tested / "out", tmp_path / name, ignore=shutil.ignore_patterns(ignored)
        )
        done = open_test(name, out, tested)
        assert done.exit_code == 0, done.exception
        opened[name] = json.loads((tmp_path / "storage" / name / "test.json").read_text())
    for part in ("rows", "floors", "data"):
        assert opened["with"][part] == opened["without"][part]
    for key, expected in opened["with"]["trials"].items():
        found = opened["without"]["trials"][key]["metrics"]
        assert found == pytest.approx(expected["metrics"], nan_ok=True)


@pytest.mark.parametrize("what", ["another run", "another test", "a part", "a broken file"])
def test_only_a_trials_own_whole_test_is_taken(tested: Path, tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    shutil.copytree(tested / "out", out, ignore=shutil.ignore_patterns("model"))
    folder = TrialFolder(out / "trials" / "t0003")
    predictions = next((folder.path / "predictions").glob("ood_test.*.parquet"))
    stamp = folder.path / "predictions" / "tested.json"
    if what == "another run":
        record = folder.read()
        assert record is not None
        folder.commit(record.model_copy(update={"started": record.started + 1}))
    elif what == "another test":
        stamp.write_text(stamp.read_text().replace('"ood_test', '"odd_test'))
    elif what == "a part":
        predictions.unlink()
    else:
        predictions.write_bytes(predictions.read_bytes()[:100])
    refused = open_test("mixed", out, tested)
    assert isinstance(refused.exception, InputError), refused.exception
    for part in ("must have weights here", "t0003", "rc_core.trial ... --test"):
        assert part in str(refused.exception)
    assert "t0002" not in str(refused.exception)
    assert not (tmp_path / "storage" / "mixed" / "test.json").exists(), "nothing was opened"


def test_a_test_may_come_after_the_trials(tested: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(
        tested / "out", out, ignore=shutil.ignore_patterns("model", "*_test.*", "tested.json")
    )
    refused = open_test("late", out, tested)
    assert "must have weights here" in str(refused.exception)
    shutil.copytree(tested / "out", out, ignore=shutil.ignore_patterns("model"), dirs_exist_ok=True)
    storage = ("--storage", tmp_path / "storage")
    again = rc_sweep("adopt", "late", out, *storage)
    assert f"test results added to: {', '.join(IDS)}" in again.stdout
    done = rc_sweep("test", "late", *storage)
    assert done.exit_code == 0, done.exception


def test_another_configuration_is_tested_anew(tested: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(tested / "out", tmp_path / "out"))
    (job,) = [each for each in read_list(tested / "list.jsonl") if each.trial_id == "t0003"]
    values = job.config.as_dict()
    values["training"]["learning_rate"] *= 10
    changed = [Job("t0003", decode(values))]
    folder = TrialFolder(out / "trials" / "t0003")
    with pytest.raises(ConfigError, match="finished trials must keep their ids"):
        run_batch(changed, out)
    assert folder.tested_splits() is not None
    run_trial(changed[0].config, Workspace(out / "artifacts"), folder, trial_id="t0003")
    assert folder.tested_splits() is None
    assert not list((folder.path / "predictions").glob("*_test.*"))
    assert run_batch(changed, out, test=True) == 0
    splits = folder.tested_splits()
    assert splits is not None and sorted(splits)[0].startswith("id_test.")
