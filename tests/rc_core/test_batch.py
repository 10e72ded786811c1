"""`python -m rc_core.trial LIST.jsonl`: real processes, real folders, no Ray, MLflow or Optuna."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoConfig

from rc_core import batch, former, trial, trial_run
from rc_core.batch import main
from rc_core.errors import ConfigError
from rc_core.job_list import read_list
from rc_core.pool import InProcess
from rc_core.record import TrialFolder, read_records
from rc_core.training import FitPoint
from rc_core.trial import trial_steps
from rc_core.workspace import Workspace
from tests.rc_core._plugins import COMPRESSION, DIFFICULTY, WrittenPlugins, written

__all__ = ["written"]

BASE: dict[str, Any] = {
    "model": "tiny:bert",
    "task": {"name": "shortcut_nli", "train_size": 128, "dev_size": 120, "test_size": 120},
    "training": {"epochs": 1, "precision": "fp32", "max_length": 24},
}
PRUNED = {**BASE, "compression": {"name": "magnitude", "sparsity": 0.5}}
STUDENT = {**BASE, "compression": {"name": "student", "num_layers": 2}, "loss": {"name": "rmc"}}
STUDENT["difficulty"] = {"name": "loss_variance", "epochs": 2}


def write(path: Path, *lines: Any) -> Path:
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


@pytest.mark.slow
def test_two_processes_write_the_folders_of_a_sweep(tmp_path: Path) -> None:
    """What cannot be built fails the trials that read it only."""
    broken = {"name": "loss_variance", "epochs": 2, "learning_rate": 1e30}
    diverges = {**PRUNED, "loss": {"name": "rmc"}, "difficulty": broken}
    listed = write(
        tmp_path / "list.jsonl",
        BASE,
        {"id": "mine", "config": PRUNED},
        STUDENT,
        {"id": "diverges", "config": diverges},
    )
    command = [sys.executable, "-m", "rc_core.trial", str(listed), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--jobs", "2", "--test"], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 3, done.stderr
    name = "diverges magnitude-50 rmc loss_variance epochs=2 learning_rate=1e+30"
    assert f"{name}: failed: difficulty level 0.2 diverged" in done.stdout
    assert done.stdout.count("teacher: built") == 1
    assert "3 finished, 1 failed" in done.stdout
    shares = r"ID \d+\.\d OOD \d+\.\d"
    assert len(re.findall(rf": {shares}, test: {shares} \(\d+ s\)", done.stdout)) == 3
    records = {record.id: record for record in read_records(tmp_path / "out" / "trials")}
    assert sorted(records) == ["mine", "t0000", "t0002"]
    assert records["t0000"].reference and not records["mine"].reference
    for name, record in records.items():
        folder = tmp_path / "out" / "trials" / name
        assert record.status == "finished"
        assert (folder / "model" / "model.safetensors").is_file()
        assert not (folder / "checkpoint").exists()
        predictions = sorted(path.name for path in (folder / "predictions").iterdir())
        roles = [name.split(".")[0] for name in predictions if name.endswith(".parquet")]
        assert roles == ["id_dev", "id_test", "ood_dev", "ood_test"]


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    endless = {**PRUNED, "training": {**BASE["training"], "epochs": 5000}, "teacher": {"epochs": 1}}
    lines = [{"id": name, "config": endless} for name in ("a", "b")]
    listed = write(tmp_path / "list.jsonl", *lines)
    command = [sys.executable, "-m", "rc_core.trial", str(listed), "--out", str(tmp_path / "out")]
    with subprocess.Popen([*command, "--jobs", "2"]) as main_process:
        workers: list[psutil.Process] = []
        deadline = time.monotonic() + 120
        while len(workers) < 3 and time.monotonic() < deadline:
            # Two workers, and multiprocessing's own tracker of resources.
            workers = psutil.Process(main_process.pid).children(recursive=True)
            time.sleep(0.2)
        main_process.kill()
    assert len(workers) == 3
    _, alive = psutil.wait_procs(workers, timeout=30)
    for process in alive:
        process.kill()
    assert not alive


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [True, False], ids=["ctrl-c", "kill-int"])
def test_an_interrupt_ends_workers_at_once_and_without_a_traceback(
    tmp_path: Path, whole_group: bool
) -> None:
    """A terminal tells every process of it; whoever sends a signal by hand tells one."""
    endless = {**PRUNED, "training": {**BASE["training"], "epochs": 5000}, "teacher": {"epochs": 1}}
    listed = write(tmp_path / "list.jsonl", {"id": "a", "config": endless})
    out = tmp_path / "out"
    command = [sys.executable, "-m", "rc_core.trial", str(listed), "--out", str(out)]
    # Tests that run in the background ignore SIGINT, and a process takes that over.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen(
        [*command, "--jobs", "2"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    signal.signal(signal.SIGINT, ours)
    try:
        record = TrialFolder(out / "trials" / "a")
        deadline = time.monotonic() + 120
        while record.read() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        (os.killpg if whole_group else os.kill)(running.pid, signal.SIGINT)
        _, told = running.communicate(timeout=30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
    assert told == (
        "error: interrupted; finished work is kept: run the same command again to continue\n"
    )
    assert running.returncode == 1


def test_after_a_kill_the_same_command_goes_on_from_the_last_rung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {**PRUNED, "training": {**BASE["training"], "epochs": 2, "rungs": 4}}
    listed = write(tmp_path / "list.jsonl", {"id": "x", "config": config})
    out = tmp_path / "out"
    folder = TrialFolder(out / "trials" / "x")
    (job,) = read_list(listed)
    steps = trial_steps(job.config, Workspace(out / "artifacts"), folder, trial_id="x")
    first = next(steps)
    steps.close()
    killed = folder.read()
    assert killed is not None and killed.status == "running" and killed.rungs == (first,)
    begun: list[int] = []

    def fit(*arguments: Any, resume: Any, **options: Any) -> Iterator[FitPoint]:
        begun.append(resume["step"])
        return trained(*arguments, resume=resume, **options)

    trained = trial_run.fit_compressed  # type: ignore[attr-defined]
    monkeypatch.setattr(trial_run, "fit_compressed", fit)
    command = [str(listed), "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "teacher: built" not in printed and "1 finished, 0 failed" in printed
    predicted = (folder.path / "predictions").iterdir()
    roles = sorted(path.name.split(".")[0] for path in predicted)
    assert roles == ["id_dev", "ood_dev"], "without --test the test roles are sealed"
    record = folder.read()
    assert record is not None and record.status == "finished" and begun == [first.step]
    assert record.rungs[0] == first and record.started == killed.started
    assert [rung.step for rung in record.rungs] == [2, 4, 6] and record.steps["own"] == 8
    # And once more: there is nothing left to do.
    assert main(command) == 0
    assert "1 of 1 trial is finished already" in capsys.readouterr().out
    assert begun == [first.step]


def test_an_interrupt_is_told_and_keeps_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = write(tmp_path / "list.jsonl", BASE, {"id": "stopped", "config": PRUNED})
    out = tmp_path / "out"

    def run(*arguments: Any, trial_id: str) -> Any:
        if trial_id == "stopped":
            raise KeyboardInterrupt
        return trial.run_trial(*arguments, trial_id=trial_id)

    monkeypatch.setattr(batch, "run_trial", run)
    assert main([str(listed), "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert printed.err == (
        "error: interrupted; finished work is kept: run the same command again to continue\n"
    )
    assert "failed" not in printed.out
    assert [(r.id, r.status) for r in read_records(out / "trials")] == [("t0000", "finished")]


@pytest.mark.parametrize("broken", ["_build", "_run"])
def test_a_worker_ended_from_outside_is_no_failed_trial(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: str,
) -> None:
    """Memory ran out while an artifact was built, or while a trial ran."""

    class Pool(InProcess):
        def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            if task is not getattr(batch, broken):
                return super().submit(task, *args, **kwargs)
            future: Future[Any] = Future()
            future.set_exception(BrokenProcessPool("a process was terminated abruptly"))
            return future

    monkeypatch.setattr(batch, "open_pool", lambda num_jobs: contextlib.nullcontext(Pool()))
    listed = write(tmp_path / "list.jsonl", PRUNED)
    assert main([str(listed), "--out", str(tmp_path / "out"), "--jobs", "2"]) == 1
    printed = capsys.readouterr()
    assert printed.err == (
        "error: a worker process was killed (out of memory?); finished work is kept: run the same "
        "command again, with fewer --jobs than 2\n"
    )
    assert "failed" not in printed.out


def test_a_teacher_that_all_wait_for_has_every_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And shares them as soon as something else can be done beside it."""
    given: dict[str, int | None] = {}

    class Pool(InProcess):
        def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            found = super().submit(task, *args, **kwargs)
            if task is batch._build:
                given[found.result()[0].partition(":")[0]] = args[3]
            return found

    monkeypatch.setattr(batch, "open_pool", lambda num_jobs: contextlib.nullcontext(Pool()))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    listed = write(tmp_path / "list.jsonl", PRUNED)
    assert main([str(listed), "--out", str(tmp_path / "alone"), "--jobs", "2"]) == 0
    assert given["teacher"] == 2
    # Its difficulty is compared with a text classifier that needs no teacher.
    listed = write(tmp_path / "list.jsonl", STUDENT)
    assert main([str(listed), "--out", str(tmp_path / "beside"), "--jobs", "2"]) == 0
    assert given["teacher"] is None


def test_what_needs_a_lost_artifact_is_not_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The teacher diverges: it is trained once, not again for everything that is built on it."""
    wild = {"teacher": {"learning_rate": 1e30}, "loss": {"name": "rmc"}}
    wild["difficulty"] = {"name": "loss_variance", "epochs": 2}
    listed = write(tmp_path / "list.jsonl", {**PRUNED, **wild}, {**STUDENT, **wild})
    out = tmp_path / "out"
    assert main([str(listed), "--out", str(out)]) == 3
    printed = capsys.readouterr().out
    assert printed.count("failed: the dense reference diverged: its training loss must stay") == 2
    assert "lower teacher.learning_rate" in printed
    assert "0 finished, 2 failed" in printed
    # What was tried leaves its lock behind: nothing but the teacher and what needs none.
    kinds = sorted(path.name for path in (out / "artifacts").iterdir())
    assert kinds in (["difficulty", "teacher"], ["teacher"])


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_whatever_an_artifact_fails_of_costs_the_trials_that_read_it_only(
    written: WrittenPlugins,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    jobs: str,
) -> None:
    written.write("rc_core.difficulty", DIFFICULTY.replace("return Outputs", "{}[0]; Outputs"))
    if jobs == "2":
        # Workers look for the file too.
        place = tmp_path / "sitecustomize.py"
        folder = tmp_path / "plugins" / "rc_core.difficulty"
        place.write_text(
            "import importlib, sys\n"
            "sys.dont_write_bytecode = True\n"
            f"importlib.import_module('rc_core.difficulty').__path__.append({str(folder)!r})\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    broken = {**PRUNED, "loss": {"name": "rmc"}, "difficulty": {"name": "mine"}}
    listed = write(tmp_path / "list.jsonl", broken, {"id": "fine", "config": PRUNED})
    out = tmp_path / "out"
    assert main([str(listed), "--out", str(out), "--jobs", jobs]) == 3
    printed = capsys.readouterr().out
    told = "failed: KeyError: 0 (in outputs, rc_core/difficulty/mine.py:20)"
    assert f"t0000 magnitude-50 rmc mine: {told}" in printed
    assert "1 finished, 1 failed" in printed
    assert [(r.id, r.status) for r in read_records(out / "trials")] == [("fine", "finished")]


def test_a_finished_trial_is_not_overwritten_by_another_with_its_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids that are left out are positions: a line inserted above shifts them all."""
    out = tmp_path / "out"
    listed = tmp_path / "list.jsonl"
    seeded = {**PRUNED, "training": {**BASE["training"], "seed": 1}}
    command = [str(listed), "--out", str(out)]
    write(listed, BASE, PRUNED, seeded)
    assert main(command) == 0
    before = read_records(out / "trials")
    new = {**PRUNED, "compression": {"name": "magnitude", "sparsity": 0.3}}
    write(listed, BASE, new, PRUNED, seeded)
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [
        "error: t0001: is finished as 'magnitude-50 vanilla', but the list has "
        "'magnitude-30 vanilla'",
        "t0002: is finished as 'magnitude-50 vanilla', but the list has 'magnitude-50 vanilla', "
        "with other training.seed",
    ]
    assert len(said) == 3 and said[2].startswith(f"{out / 'trials'}: finished trials must keep")
    for way_out in ("ids of their own", "another --out", "remove the folders"):
        assert way_out in said[2]
    assert read_records(out / "trials") == before
    # What is not finished may become another one: a configuration is mended after it failed.
    folder = TrialFolder(out / "trials" / "t0001")
    folder.commit(before[1].sealed("failed", error="of a mistake"))
    write(listed, BASE, new)
    assert main(command) == 0
    changed = folder.read()
    assert changed is not None and changed.name == "magnitude-30 vanilla"


def test_a_trial_finished_by_an_earlier_version_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record lacks a key that came later, and its fingerprint is of what it has."""
    command = [str(write(tmp_path / "list.jsonl", PRUNED)), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    folder = TrialFolder(tmp_path / "out" / "trials" / "t0000")
    record = folder.read()
    assert record is not None
    compression = dict(record.config["compression"])
    later = compression.popitem()
    monkeypatch.setitem(former.FORMER, "compression.magnitude", dict([later]))
    config = {**record.config, "compression": compression}
    folder.commit(record.model_copy(update={"config": config, "fingerprint": "0" * 16}))
    assert main(command) == 0
    assert "1 of 1 trial is finished already" in capsys.readouterr().out


def test_trials_of_other_data_are_not_put_beside_finished_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file was changed and the list run again: its results were of two sets of data."""
    rows = "".join(f"w{i} x,{i % 2}\n" for i in range(40))
    for name in ("train", "dev", "ood"):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + rows.replace("w", name))
    roles = {"train": "train.csv", "id_dev": "dev.csv", "ood_dev": {"o": "ood.csv"}}
    task = {"name": "files", "data_dir": str(tmp_path), "text": "text", "roles": roles}
    first = {**BASE, "task": {**task, "labels": {0: "no", 1: "yes"}}}
    second = {**first, "compression": {"name": "student", "num_layers": 1}}
    out = ["--out", str(tmp_path / "out")]
    assert main([str(write(tmp_path / "list.jsonl", first)), *out]) == 0
    with (tmp_path / "train.csv").open("a") as stream:
        stream.write("one more,1\n")
    assert main([str(write(tmp_path / "list.jsonl", first, second)), *out]) == 2
    assert "t0000: is finished on other data (digest " in capsys.readouterr().err
    assert [record.id for record in read_records(tmp_path / "out/trials")] == ["t0000"]
    assert main([str(write(tmp_path / "list.jsonl", first)), *out]) == 0, "nothing is to be run"


def test_every_trial_has_halves_where_any_reads_the_difficulty(tmp_path: Path) -> None:
    """In whatever order they are listed: the dense row first, the one that reads it last."""
    difficulty = {"name": "loss_variance", "epochs": 2}
    rows = [
        {**BASE, "compression": {"name": "dense"}, "difficulty": difficulty},
        {**PRUNED, "difficulty": difficulty},
        STUDENT,
    ]
    out = tmp_path / "out"
    assert main([str(write(tmp_path / "list.jsonl", *rows)), "--out", str(out)]) == 0
    records = read_records(out / "trials")
    assert len(records) == 3
    assert all("id_dev/difficulty.easy/accuracy" in record.metrics for record in records)


def test_a_compression_that_cannot_be_is_told_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = {**BASE, "compression": {"name": "student", "num_layers": 9}}
    listed = write(tmp_path / "list.jsonl", PRUNED, {"id": "deep", "config": deep})
    assert main([str(listed), "--out", str(tmp_path / "out")]) == 2
    assert "deep: compression.num_layers: must be at most" in capsys.readouterr().err
    assert not (tmp_path / "out" / "trials").exists()


def test_all_that_is_wrong_with_models_and_data_is_told_at_once_and_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    auto = {"name": "rmc", "alpha": "auto", "alpha_on": {"name": "student", "num_layers": 9}}
    own = {"name": "student", "model": "./elsewhere"}
    gone: dict[str, Any] = {
        "name": "files",
        "data_dir": str(tmp_path),
        "text": "a",
        "labels": ["x", "y"],
    }
    gone["roles"] = {"train": "no.csv", "ood_dev": {"other": "dev.csv"}}
    (tmp_path / "dev.csv").write_text("a,label\none,x\ntwo,y\n")
    lines = [
        {"id": "missing", "config": {**BASE, "model": "./nowhere"}},
        {"id": "again", "config": {**BASE, "model": "./nowhere"}},
        {"id": "data", "config": {**BASE, "task": gone}},
        {"id": "data-too", "config": {**PRUNED, "task": gone}},
        {"id": "judged", "config": {**STUDENT, "loss": auto}},
        {"id": "own", "config": {**BASE, "compression": own}},
    ]
    listed = write(tmp_path / "list.jsonl", *lines)
    assert main([str(listed), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 4
    for line, start in zip(
        told,
        (
            "error: missing: model: model './nowhere' must be a folder",
            "data: task.train.files: ",
            "judged: loss.alpha_on.num_layers: must be at most",
            "own: compression.model: model './elsewhere' must be a folder",
        ),
        strict=True,
    ):
        assert line.startswith(start)
    assert not (tmp_path / "out" / "trials").exists()


def test_a_plugin_s_check_that_breaks_is_told_with_its_file(
    written: WrittenPlugins, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = COMPRESSION.replace("return []", "return [][0]", 1)
    written.write("rc_core.compression", text)
    judged = {"name": "rmc", "alpha": "auto", "alpha_on": {"name": "mine"}}
    configs = {"a": {**BASE, "compression": {"name": "mine"}}, "b": {**STUDENT, "loss": judged}}
    lines = [{"id": name, "config": config} for name, config in configs.items()]
    listed = write(tmp_path / "list.jsonl", *lines)
    assert main([str(listed), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    for name in configs:
        told = f"{name}: rc_core/compression/mine.py: problems() must return a list of Problem, but"
        assert f"{told} raised IndexError" in printed


def test_texts_without_words_cost_the_comparison_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # No second text shares a word with another.
    for name, numbers in (("train", range(128)), ("dev", range(128, 192))):
        pairs = [{"a": f"first {i}", "b": f"n{i}", "y": i % 2} for i in numbers]
        write(tmp_path / f"{name}.jsonl", *pairs)
    task: dict[str, Any] = {"name": "files", "data_dir": str(tmp_path), "text": ["a", "b"]}
    task["label"] = "y"
    task |= {"labels": {"0": "no_", "1": "yes_"}}
    task["roles"] = {"train": "train.jsonl", "ood_dev": {"other": "dev.jsonl"}}
    listed = write(tmp_path / "list.jsonl", {**STUDENT, "task": task})
    assert main([str(listed), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "to compare with: left out: a text classifier needs words" in printed


def test_estimates_that_cannot_work_are_all_named_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {"name": "loss_variance", "epochs": 0.01}
    config = {**PRUNED, "loss": {"name": "rmc"}, "difficulty": short}
    lines = [{"id": name, "config": config} for name in ("a", "b")]
    lines.insert(1, {"id": "fine", "config": PRUNED})
    listed = write(tmp_path / "list.jsonl", *lines)
    assert main([str(listed), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert "a: difficulty needs" in printed and "b: difficulty needs" in printed
    assert not (tmp_path / "out" / "trials").exists()


def test_the_example_of_the_help_is_a_line_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    (line,) = [line.strip() for line in capsys.readouterr().out.splitlines() if "{" in line]
    (tmp_path / "list.jsonl").write_text(line + "\n")
    (job,) = read_list(tmp_path / "list.jsonl")
    assert (job.trial_id, job.config.loss.name) == ("half-rmc", "rmc")


def test_a_yaml_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("model: tiny:bert\ntask: {name: shortcut_nli}\nsearch: {trials: 3}\n3\n")
    with pytest.raises(ConfigError, match="must be JSON Lines") as caught:
        read_list(path)
    assert len(caught.value.problems) == 1 and "rc-sweep launch" in str(caught.value)


def test_every_bad_line_is_named_and_nothing_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "list.jsonl"
    write(listed, BASE, {**BASE, "los": {}}, {**BASE, "compression": {"name": "magnitud"}}, 7)
    listed.write_text(listed.read_text() + "{\n")
    assert main([str(listed), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    for number, text in ((2, "did you mean 'loss'"), (3, "magnitude"), (4, "object"), (5, "JSON")):
        assert f"list.jsonl:{number}" in printed and text in printed
    assert not (tmp_path / "out").exists()


def test_an_encoder_that_is_built_otherwise_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = AutoConfig.for_model("albert", num_hidden_layers=2).to_dict()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    (tmp_path / "m" / "model.safetensors").write_bytes(b"is not read")
    listed = write(tmp_path / "list.jsonl", BASE, {**BASE, "model": str(tmp_path / "m")})
    assert main([str(listed), "--out", str(tmp_path / "out")]) == 2
    assert "t0001: model: '" in (said := capsys.readouterr().err) and "AlbertFor" in said
    assert not list((tmp_path / "out").rglob("record.json"))


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_or_missing_list_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "list.jsonl").write_text(content)
    with pytest.raises(ConfigError, match="at least one configuration"):
        read_list(tmp_path / "list.jsonl")
    with pytest.raises(ConfigError, match="must be a JSON Lines file"):
        read_list(tmp_path / "none.jsonl")


def test_ids_must_differ_and_stay_inside_the_folder(tmp_path: Path) -> None:
    twice = write(tmp_path / "a.jsonl", *[{"id": "x", "config": BASE}] * 2)
    with pytest.raises(ConfigError, match="used 2 times"):
        read_list(twice)
    outside = write(tmp_path / "b.jsonl", {"id": "../x", "config": BASE})
    with pytest.raises(ConfigError, match="id must be"):
        read_list(outside)
