"""One trial end to end: record, resume from a rung, failure, the reference, sealed roles."""

from __future__ import annotations

import copy
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rc_core import checkpoint, trial, trial_run
from rc_core.checkpoint import load_checkpoint, rungs_before
from rc_core.config import TrialConfig, decode
from rc_core.errors import ModelError, StaleAttemptError, StorageError, TrialError
from rc_core.estimates import difficulty_artifact
from rc_core.evaluation import read_predictions
from rc_core.models import load_encoder, load_model
from rc_core.preparation import steps
from rc_core.record import TrialFolder, TrialRecord
from rc_core.stages import load_outputs
from rc_core.teacher import health, teacher_facts, teacher_log_probs
from rc_core.teacher import teacher as build_teacher
from rc_core.trial import evaluate_saved, run_trial, trial_steps
from rc_core.workspace import Workspace
from tests.rc_core._trials import tiny_trial

BASE: dict[str, Any] = tiny_trial(
    train_size=160,
    held_out=120,
    epochs=2,
    rungs=4,
    compression={"name": "magnitude", "sparsity": 0.6},
    loss={"name": "rmc", "alpha": 0.3},
    difficulty={"name": "loss_variance", "levels": [0.3, 0.6, 0.8]},
)


def config(**changes: Any) -> TrialConfig:
    # A section that names a plugin is replaced whole: its keys belong to that plugin.
    return decode({**BASE, **changes})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    yield Workspace(tmp_path_factory.mktemp("artifacts"))


def comparable(record: TrialRecord) -> dict[str, Any]:
    """Return what must be equal when a trial is run again."""
    content = json.loads(record.model_dump_json())
    for key in ("started", "finished", "seconds", "environment"):
        del content[key]
    content["training"].pop("samples_per_second", None)
    for rung in content["rungs"]:
        del rung["seconds"]
    return content


def test_the_record_is_valid_after_each_rung_and_at_the_end(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = TrialFolder(tmp_path / "t0001")
    seen = []
    generator = trial_steps(config(), workspace, folder, trial_id="t0001")
    while True:
        try:
            rung = next(generator)
        except StopIteration as end:
            record: TrialRecord = end.value
            break
        stored = folder.read()
        assert stored is not None and stored.status == "running" and stored.rungs[-1] == rung
        assert all(key.startswith("rung/") for key in rung.metrics) and not stored.metrics
        assert folder.checkpoint.is_dir()
        seen.append(rung.progress)
    assert seen == [0.2, 0.5, 0.8]
    stored = folder.read()
    assert stored is not None and comparable(stored) == comparable(record)
    assert record.status == "finished" and not folder.checkpoint.exists()
    assert record.metric("footprint/encoder_sparsity") == pytest.approx(0.6, abs=1e-4)
    assert record.steps == {"own": 10, "counted": 10}
    assert set(record.artifacts) == {"teacher", "teacher_log_probs", "difficulty"}
    assert record.data["notes"] is not None and record.environment["device"] == "cpu"
    accuracy = record.metric("ood_dev/accuracy")
    split = workspace.data(config()).task.of_role("ood_dev")[0]
    log_probs = read_predictions(folder.predictions("ood_dev", split.suite))
    assert (log_probs.argmax(1) == split.labels).mean() == pytest.approx(accuracy)


@pytest.mark.parametrize("dense", [False, True])
def test_easy_and_hard_figures_are_those_of_the_predictions_and_halves(
    workspace: Workspace, tmp_path: Path, dense: bool
) -> None:
    """Reference: the stored predictions, the half of id_dev whose loss varies most."""
    outputs = load_outputs(difficulty_artifact(config(), workspace)).log_probs["id_dev"]
    changes = {"compression": {"name": "dense"}, "loss": {"name": "vanilla"}} if dense else {}
    folder = TrialFolder(tmp_path / "t")
    record = run_trial(config(**changes), workspace, folder, trial_id="t")
    assert record.reference is dense
    split = workspace.data(config()).task.id_dev
    rows = np.arange(len(split))
    variances = outputs.double().numpy()[:, rows, split.labels].var(axis=0)
    hard = variances > np.sort(variances)[len(split) // 2 - 1]
    assert hard.sum() == len(split) // 2
    probabilities = np.exp(read_predictions(folder.predictions("id_dev", split.suite)))
    right = probabilities.argmax(axis=1) == split.labels
    expected = {
        "id_dev/difficulty.easy/accuracy": right[~hard].mean(),
        "id_dev/difficulty.easy/confidence": probabilities.max(axis=1)[~hard].mean(),
        "id_dev/difficulty.hard/accuracy": right[hard].mean(),
        "id_dev/difficulty.hard/confidence": probabilities.max(axis=1)[hard].mean(),
        "id_dev/difficulty_gap": 100 * (right[~hard].mean() - right[hard].mean()),
    }
    found = {key: value for key, value in record.metrics.items() if "/difficulty" in key}
    assert found == pytest.approx(expected, rel=1e-5)
    assert expected["id_dev/difficulty_gap"] != 0


def test_the_same_seed_gives_the_same_record(workspace: Workspace, tmp_path: Path) -> None:
    found = [
        run_trial(config(), workspace, TrialFolder(tmp_path / name / "t0001"), trial_id="t0001")
        for name in ("a", "b")
    ]
    assert comparable(found[0]) == comparable(found[1])
    weights = [(tmp_path / n / "t0001" / "model" / "model.safetensors").read_bytes() for n in "ab"]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    "compression",
    [{"name": "magnitude", "sparsity": 0.6}, {"name": "student", "num_layers": 2}],
    ids=lambda c: c["name"],
)
def test_a_trial_goes_on_from_its_last_rung(
    workspace: Workspace, tmp_path: Path, compression: dict[str, Any]
) -> None:
    wanted = config(compression=compression)
    whole = run_trial(wanted, workspace, TrialFolder(tmp_path / "whole"), trial_id="t0001")
    folder = TrialFolder(tmp_path / "killed")
    generator = trial_steps(wanted, workspace, folder, trial_id="t0001")
    next(generator)
    next(generator)
    del generator
    resumed = run_trial(wanted, workspace, folder, trial_id="t0001")
    assert [rung.step for rung in resumed.rungs] == [rung.step for rung in whole.rungs]
    assert resumed.metrics == pytest.approx(whole.metrics, nan_ok=True)
    assert resumed.training["loss"] == whole.training["loss"] and len(whole.training["loss"]) == 4
    first, second = (
        np.fromfile(tmp_path / name / "model" / "model.safetensors", dtype=np.uint8)
        for name in ("whole", "killed")
    )
    assert (first == second).mean() > 0.99


def test_what_a_trial_took_adds_up_over_its_processes(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, slow = TrialFolder(tmp_path / "t"), 0.5
    with monkeypatch.context() as first:
        for name in ("assemble", "rung_metrics"):
            first.setattr(trial_run, name, slowed(getattr(trial_run, name), slow))
        generator = trial_steps(config(), workspace, folder, trial_id="t")
        next(generator)
        generator.close()
    seconds = run_trial(config(), workspace, folder, trial_id="t").seconds
    assert seconds["prepare"] > slow and seconds["evaluate"] > slow
    parts = seconds["prepare"] + seconds["train"] + seconds["evaluate"]
    assert seconds["total"] == pytest.approx(parts, abs=0.002)


def slowed(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def called(*arguments: Any, **options: Any) -> Any:
        time.sleep(seconds)
        return function(*arguments, **options)

    return called


def test_a_checkpoint_of_another_configuration_is_not_used(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = TrialFolder(tmp_path / "t0001")
    generator = trial_steps(config(), workspace, folder, trial_id="t0001")
    next(generator)
    generator.close()
    other = config(compression={"name": "magnitude", "sparsity": 0.2})
    record = run_trial(other, workspace, folder, trial_id="t0001")
    assert record.metric("footprint/encoder_sparsity") == pytest.approx(0.2, abs=1e-4)
    assert len(record.rungs) == 3


def test_the_dense_vanilla_trial_is_the_teacher(workspace: Workspace, tmp_path: Path) -> None:
    wanted = config(compression={"name": "dense"}, loss={"name": "vanilla"})
    artifact = build_teacher(wanted, workspace)
    record = run_trial(wanted, workspace, TrialFolder(tmp_path / "t0000"), trial_id="t0000")
    assert record.reference
    expected = teacher_facts(artifact)["metrics"]
    assert {key: record.metrics[key] for key in expected} == expected
    assert record.metric("ood_dev/difference") == 0.0
    stored = (artifact.path / "model" / "model.safetensors").read_bytes()
    assert (tmp_path / "t0000" / "model" / "model.safetensors").read_bytes() == stored


def test_an_encoder_without_known_blocks_is_told_before_the_teacher_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("must be refused before")

    def unknown(*arguments: Any) -> Any:
        raise ModelError("must be an encoder with its transformer blocks in a known place")

    monkeypatch.setattr("rc_core.teacher.fit_vanilla", trained)
    monkeypatch.setattr("rc_core.teacher.blocks", unknown)
    with pytest.raises(ModelError, match="transformer blocks"):
        build_teacher(config(), Workspace(tmp_path / "artifacts"))


def test_a_trial_from_the_teacher_counts_the_teachers_steps(
    workspace: Workspace, tmp_path: Path
) -> None:
    wanted = config(
        compression={"name": "student", "num_layers": 2, "init": "teacher"},
        loss={"name": "vanilla"},
    )
    record = run_trial(wanted, workspace, TrialFolder(tmp_path / "t"), trial_id="t")
    assert record.steps == {"own": 10, "counted": 20}
    assert record.name == "student-2 vanilla init=teacher"


def test_too_few_steps_for_the_levels_is_an_error_that_says_so(workspace: Workspace) -> None:
    wanted = config(difficulty={"name": "loss_variance", "epochs": 0.1})
    with pytest.raises(TrialError, match=r"difficulty\.epochs gives 1"):
        difficulty_artifact(wanted, workspace)


def test_a_failure_is_recorded_with_its_reason(workspace: Workspace, tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "t")
    wanted = config(
        compression={"name": "student", "num_layers": 2},
        training=BASE["training"] | {"learning_rate": 1e30, "max_grad_norm": 0.0, "warmup": 0.0},
        teacher=BASE["training"] | {"max_grad_norm": 1.0, "warmup": 0.06},
    )
    with pytest.raises(TrialError, match="finite"):
        run_trial(wanted, workspace, folder, trial_id="t")
    record = folder.read()
    assert record is not None and record.status == "failed"
    assert "training loss must stay finite" in (record.error or "")


def test_what_is_finished_does_not_fail_for_an_upload(workspace: Workspace, tmp_path: Path) -> None:
    class Away(TrialFolder):
        def commit(self, record: TrialRecord) -> None:
            super().commit(record)
            if record.status != "running":
                raise StorageError("the bucket must answer, but does not")

    folder = Away(tmp_path / "t")
    with pytest.raises(StorageError, match="bucket"):
        run_trial(config(), workspace, folder, trial_id="t")
    record = folder.read()
    assert record is not None and (record.status, record.error) == ("finished", None)


def test_a_superseded_worker_writes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    newest = [1]
    folder = TrialFolder(tmp_path / "t", fence=lambda: newest[0])
    generator = trial_steps(config(), workspace, folder, trial_id="t", attempt=1)
    next(generator)
    newest[0] = 2
    with pytest.raises(StaleAttemptError):
        next(generator)
    record = folder.read()
    assert record is not None and record.status == "running" and len(record.rungs) == 1
    # Nor the checkpoint that the newer one goes on from.
    assert json.loads((folder.checkpoint / "checkpoint.json").read_text())["step"] == 2


def test_a_superseded_worker_leaves_the_model_alone(workspace: Workspace, tmp_path: Path) -> None:
    newest = [1]
    folder = TrialFolder(tmp_path / "t", fence=lambda: newest[0])
    wanted = config(training=BASE["training"] | {"rungs": 1})

    def superseded(*arguments: Any, **options: Any) -> Any:
        newest[0] = 2
        return real(*arguments, **options)

    real = trial_run.assemble  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial_run, "assemble", superseded)
        with pytest.raises(StaleAttemptError):
            run_trial_as(wanted, workspace, folder, attempt=1)
    assert not folder.model.exists() and not (folder.path / "predictions").exists()


def test_a_superseded_worker_that_fails_leaves_the_newer_record_alone(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shares a GPU with its successor, and memory runs out for the one that should be gone."""
    newest = [1]
    folder = TrialFolder(tmp_path / "t", fence=lambda: newest[0])

    def out_of_memory(*arguments: Any, **options: Any) -> Any:
        newest[0] = 2
        record = folder.read()
        assert record is not None
        folder.commit(record.model_copy(update={"attempt": 2}))
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(trial_run, "rung_metrics", out_of_memory)
    with pytest.raises(StaleAttemptError) as found:
        run_trial_as(config(), workspace, folder, attempt=1)
    assert "CUDA out of memory" in str(found.value.__context__)
    left = folder.read()
    assert left is not None and (left.attempt, left.status, left.error) == (2, "running", None)


def run_trial_as(
    wanted: TrialConfig, workspace: Workspace, folder: TrialFolder, *, attempt: int
) -> None:
    for _ in trial_steps(wanted, workspace, folder, trial_id="t", attempt=attempt):
        pass


def test_a_kill_between_record_and_checkpoint_loses_no_rung(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_trial(config(), workspace, TrialFolder(tmp_path / "whole"), trial_id="t")
    folder = TrialFolder(tmp_path / "killed")
    generator = trial_steps(config(), workspace, folder, trial_id="t")
    next(generator)

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trial_run, "save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            next(generator)
    left = folder.read()
    assert left is not None and len(left.rungs) == 2
    resumed = run_trial(config(), workspace, folder, trial_id="t")
    assert [rung.step for rung in resumed.rungs] == [rung.step for rung in whole.rungs]


@pytest.mark.parametrize("moment", ["the last is moved away", "the next is torn"])
def test_a_kill_while_a_checkpoint_is_replaced_leaves_the_one_before(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    folder = TrialFolder(tmp_path / "t")
    generator = trial_steps(config(), workspace, folder, trial_id="t")
    next(generator)
    real = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if path.name == ".checkpoint.tmp":
            raise KeyboardInterrupt
        return real(path, target)

    if moment == "the last is moved away":
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killed)
            with pytest.raises(KeyboardInterrupt):
                next(generator)
        assert not folder.checkpoint.exists()
    else:
        generator.close()
        folder.checkpoint.rename(folder.path / ".checkpoint.before")
        folder.checkpoint.mkdir()
        (folder.checkpoint / "checkpoint.json").write_text('{"fingerpr')
    begun: list[int] = []

    def fit(*arguments: Any, resume: Any, **options: Any) -> Any:
        begun.append(resume["step"])
        return trained(*arguments, resume=resume, **options)

    trained = trial_run.fit_compressed  # type: ignore[attr-defined]
    monkeypatch.setattr(trial_run, "fit_compressed", fit)
    assert run_trial(config(), workspace, folder, trial_id="t").status == "finished"
    assert begun == [2]
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "model",
        "predictions",
        "record.json",
    ]


def test_a_checkpoint_of_other_data_is_not_used(workspace: Workspace, tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "t")
    generator = trial_steps(config(), workspace, folder, trial_id="t")
    next(generator)
    generator.close()
    manifest = folder.checkpoint / "checkpoint.json"
    written = json.loads(manifest.read_text())
    assert written["teacher"] == build_teacher(config(), workspace).key.key
    manifest.write_text(json.dumps(written | {"teacher": "of other data"}))
    record = run_trial(config(), workspace, folder, trial_id="t")
    whole = run_trial(config(), workspace, TrialFolder(tmp_path / "whole"), trial_id="t")
    assert comparable(record) == comparable(whole)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def of_another_kind(file: Path) -> None:
    file.write_bytes(b"no such format" * 9)


def of_another_model(file: Path) -> None:
    if file.name == "optimizer.pt":
        torch.save({"step": 2}, file)
    else:
        save_file({"classifier.bias": torch.zeros(2)}, file)


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.pt"])
@pytest.mark.parametrize(
    "damage", [cut_short, emptied, of_another_kind, of_another_model, Path.unlink]
)
def test_a_damaged_checkpoint_is_dropped(
    interrupted: Path, tmp_path: Path, damage: Callable[[Path], None], name: str, caplog: Any
) -> None:
    folder = TrialFolder(shutil.copytree(interrupted, tmp_path / "t"))
    record = folder.read()
    assert record is not None and rungs_before(folder, config(), record) == record.rungs
    teacher = json.loads((folder.checkpoint / "checkpoint.json").read_text())["teacher"]
    model = load_encoder("tiny:bert", label_names=["a", "b"], seed=0)
    before = copy.deepcopy(model.state_dict())
    damage(folder.checkpoint / name)
    assert load_checkpoint(folder, config(), teacher, model) is None
    assert all(torch.equal(before[key], each) for key, each in model.state_dict().items())
    assert "is damaged" in caplog.text and "training from the start" in caplog.text
    assert not folder.has_checkpoint() and rungs_before(folder, config(), record) is None


@pytest.fixture(scope="module")
def interrupted(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a trial that was killed after its first rung."""
    folder = TrialFolder(tmp_path_factory.mktemp("interrupted"))
    generator = trial_steps(config(), workspace, folder, trial_id="t")
    next(generator)
    generator.close()
    return folder.path


def test_a_trial_with_a_damaged_checkpoint_is_trained_from_the_start(
    workspace: Workspace, interrupted: Path, tmp_path: Path
) -> None:
    folder = TrialFolder(shutil.copytree(interrupted, tmp_path / "t"))
    emptied(folder.checkpoint / "optimizer.pt")
    found = run_trial(config(), workspace, folder, trial_id="t")
    whole = run_trial(config(), workspace, TrialFolder(tmp_path / "whole"), trial_id="t")
    assert comparable(found) == comparable(whole)


def test_a_manifest_is_written_when_the_disk_has_the_rest(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    flush, write_json = checkpoint.flush, checkpoint.write_json  # type: ignore[attr-defined]

    def flushed(path: Path) -> None:
        written.append(path.name)
        flush(path)

    def manifest(path: Path, content: Any) -> None:
        written.append(path.name)
        write_json(path, content)

    monkeypatch.setattr(checkpoint, "flush", flushed)
    monkeypatch.setattr(checkpoint, "write_json", manifest)
    next(trial_steps(config(), workspace, TrialFolder(tmp_path / "t"), trial_id="t"))
    assert written == ["weights.safetensors", "optimizer.pt", "checkpoint.json"]


def test_a_model_that_cannot_be_read_again_is_not_finished(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some families would be saved in shapes that their config does not describe."""
    save_model = trial_run.save_model  # type: ignore[attr-defined]

    def save_with_another_config(model: Any, tokenizer: Any, folder: Path, **rest: Any) -> None:
        save_model(model, tokenizer, folder, **rest)
        described = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(described | {"intermediate_size": 48}))

    monkeypatch.setattr(trial_run, "save_model", save_with_another_config)
    wanted, folder = config(loss={"name": "vanilla"}), TrialFolder(tmp_path / "t")
    with pytest.raises(TrialError, match="must load from its folder, but what compression 'mag"):
        run_trial(wanted, workspace, folder, trial_id="t")
    record = folder.read()
    assert record is not None and record.status == "failed"
    assert "another encoder" in (record.error or "")


def test_nothing_of_another_model_is_left_in_the_folder(
    workspace: Workspace, tmp_path: Path
) -> None:
    """A folder is used again where a list was edited: another trial under the same number."""
    folder = TrialFolder(tmp_path / "t")
    cut = config(compression={"name": "heads", "remove": 0.5}, loss={"name": "vanilla"})
    run_trial(cut, workspace, folder, trial_id="t")
    assert (folder.model / "structure.json").is_file()
    for other in (config(), config(compression={"name": "dense"}, loss={"name": "vanilla"})):
        assert run_trial(other, workspace, folder, trial_id="t").status == "finished"
        load_model(folder.model)
        run_trial(cut, workspace, folder, trial_id="t")


def test_test_roles_are_evaluated_only_on_request(workspace: Workspace, tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "t")
    wanted = config(compression={"name": "student", "num_layers": 1}, loss={"name": "vanilla"})
    record = run_trial(wanted, workspace, folder, trial_id="t")
    assert not any("test" in key for key in record.metrics)
    unsealed = Workspace(workspace.store.root, sealed=False)
    metrics = evaluate_saved(wanted, unsealed, folder)
    assert {"id_test/accuracy", "ood_test/accuracy"} <= set(metrics)
    assert len(list((folder.path / "predictions").glob("*_test.*.parquet"))) == 2


def test_shared_outputs_have_the_stated_shapes(workspace: Workspace) -> None:
    task = workspace.data(config()).task
    num_labels = len(task.label_names)
    teacher = teacher_log_probs(config(), workspace)
    assert teacher.shape == (len(task.train), num_labels)
    levels = load_outputs(difficulty_artifact(config(), workspace)).log_probs
    assert levels["train"].shape == (3, len(task.train), num_labels)
    assert levels["id_dev"].shape == (3, len(task.id_dev), num_labels)
    for tensor in (teacher, levels["train"], levels["id_dev"]):
        np.testing.assert_allclose(tensor.exp().sum(-1).numpy(), 1.0, atol=1e-5)
    assert not np.allclose(levels["train"][0], levels["train"][2])


def test_both_ways_to_difficulty_build_their_own_artifact(workspace: Workspace) -> None:
    independent = config(
        difficulty={"name": "loss_variance", "levels": [0.3, 0.6, 0.8], "mode": "independent"}
    )
    first, second = (
        load_outputs(difficulty_artifact(c, workspace)).log_probs["train"]
        for c in (config(), independent)
    )
    assert first.shape == second.shape and not np.allclose(first, second)
    keys = [steps(c, workspace)[-1].key.key for c in (config(), independent)]
    assert keys[0] != keys[1]


def test_artifacts_do_not_depend_on_what_only_a_trial_has(workspace: Workspace) -> None:
    other = config(
        compression={"name": "student", "num_layers": 3},
        loss={"name": "rmc", "alpha": 0.9},
        training=BASE["training"] | {"rungs": 1},
    )
    expected = [step.key.key for step in steps(config(), workspace)]
    found = [step.key.key for step in steps(other, workspace)]
    assert found[:2] == expected[:2]
    for step in steps(other, workspace)[:2]:
        step.build()
    for step in steps(config(), workspace)[:2]:
        assert not step.build().built, step.title


@pytest.mark.parametrize(
    ("accuracy", "majority", "size", "healthy"),
    [
        (0.9, 0.5, 500, True),
        (0.5, 0.5, 500, False),
        (0.54, 0.5, 5000, False),
        (0.6, 0.5, 20, False),
        # 100 samples: a standard error of 4.9 points, twice of it 9.8.
        (0.6, 0.505, 100, False),
        (0.6, 0.5, 100, True),
    ],
)
def test_the_health_gate(accuracy: float, majority: float, size: int, healthy: bool) -> None:
    assert (health({"id_dev/accuracy": accuracy}, majority, size) == []) is healthy


@pytest.mark.parametrize(
    "compression",
    [{"name": "student", "num_layers": 1}, {"name": "dense"}],
    ids=lambda c: c["name"],
)
def test_a_gap_within_the_error_of_so_few_samples_gives_no_relative_bias(
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compression: dict[str, Any],
) -> None:
    """120 samples a role: the error of a gap of 5 points is sqrt(0.16 / 120 + 0.1875 / 120)."""
    accuracies = {"id_dev/accuracy": 0.8, "ood_dev/accuracy": 0.75}

    def facts(artifact: Any) -> dict[str, Any]:
        return teacher_facts(artifact) | {"metrics": accuracies}

    for module in (trial, trial_run):
        monkeypatch.setattr(module, "teacher_facts", facts)
    monkeypatch.setattr(trial_run, "split_metrics", lambda *_: dict(accuracies))
    wanted = config(compression=compression, loss={"name": "vanilla"})
    record = run_trial(wanted, workspace, TrialFolder(tmp_path / "t"), trial_id="t")
    key = "ood_dev/relative_bias"
    assert math.isnan(record.metric(key))
    assert record.undefined[key] == (
        "the reference's ID-OOD gap of 5.0 points is not clear of zero (standard error 5.4 points)"
    )


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "magnitude-60 rmc alpha=0.3 loss_variance levels=0.3,0.6,0.8"),
        ({"difficulty": {"name": "teacher_errors"}}, "magnitude-60 rmc alpha=0.3 teacher_errors"),
        (
            {"difficulty": {"name": "loss_variance", "epochs": 3, "mode": "independent"}},
            "magnitude-60 rmc alpha=0.3 loss_variance mode=independent epochs=3",
        ),
        ({"difficulty": {"name": "loss_variance", "epochs": 1}}, "magnitude-60 rmc alpha=0.3"),
        (
            {"difficulty": {"name": "level_errors", "levels": [0.3, 0.6]}},
            "magnitude-60 rmc alpha=0.3 level_errors levels=0.3,0.6",
        ),
        # Vanilla reads no difficulty, so it is no part of its name.
        (
            {"difficulty": {"name": "teacher_errors"}, "loss": {"name": "vanilla"}},
            "magnitude-60 vanilla",
        ),
    ],
)
def test_names_say_what_differs(changes: dict[str, Any], name: str) -> None:
    assert config(**changes).label() == name
