"""Shared estimates on a tiny encoder: levels one by one, experts, the first stage of JTT."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rc_core import estimates, stages
from rc_core.alpha import alpha_key
from rc_core.compression._masks import sparsity
from rc_core.config import TrialConfig, decode
from rc_core.errors import DifficultyError
from rc_core.estimates import (
    difficulty,
    difficulty_artifact,
    difficulty_key,
    expert_log_probs,
    expert_of,
    first_stage_artifact,
    first_stage_log_probs,
)
from rc_core.preparation import steps
from rc_core.stages import level_artifact, level_key, load_outputs
from rc_core.teacher import teacher, teacher_key
from rc_core.training import num_steps
from rc_core.workspace import Workspace
from tests.rc_core._trials import tiny_trial

BASE: dict[str, Any] = tiny_trial(
    train_size=160,
    held_out=120,
    epochs=2,
    compression={"name": "magnitude", "sparsity": 0.6},
    loss={"name": "rmc", "alpha": 0.3},
    difficulty={"name": "loss_variance", "levels": [0.3, 0.8]},
)


def config(**changes: Any) -> TrialConfig:
    return decode({**BASE, **changes})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    yield Workspace(tmp_path_factory.mktemp("artifacts"))


def kinds(wanted: TrialConfig, workspace: Workspace) -> list[str]:
    return [step.key.kind for step in steps(wanted, workspace)]


def test_independent_levels_are_artifacts_that_may_be_built_side_by_side(
    workspace: Workspace,
) -> None:
    wanted = config(difficulty=BASE["difficulty"] | {"mode": "independent"})
    found = steps(wanted, workspace)
    assert [step.key.kind for step in found].count("pruned_level") == 2
    dense = next(step.key.key for step in found if step.key.kind == "teacher")
    levels = [step for step in found if step.key.kind == "pruned_level"]
    assert [step.needs for step in levels] == [(dense,), (dense,)]
    assert found[-1].needs == (dense, *(step.key.key for step in levels))
    for step in found:
        step.build()
    stacked = load_outputs(difficulty_artifact(wanted, workspace)).log_probs["train"]
    for i, level in enumerate((0.3, 0.8)):
        single = level_artifact(wanted, workspace, level)
        assert not single.built
        assert torch.equal(load_outputs(single).log_probs["train"][0], stacked[i])


def test_too_few_steps_for_the_levels_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    short = BASE["difficulty"] | {"epochs": 0.1, "levels": [0.2, 0.3, 0.4, 0.5]}
    with pytest.raises(DifficultyError, match=r"each of its 4 levels, but .* gives 1; raise it"):
        steps(config(difficulty=short), Workspace(tmp_path))
    assert not list(tmp_path.rglob("artifact.json"))
    # Levels of their own runs share no steps.
    assert steps(config(difficulty=short | {"mode": "independent"}), Workspace(tmp_path))


@pytest.mark.parametrize("settings", [{"name": "hypothesis_only"}, BASE["difficulty"]])
def test_independent_levels_are_trained_as_the_plugin_asks(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the plugin's settings are called."""
    wanted, space = config(difficulty=settings), Workspace(tmp_path)
    teacher(wanted, space)
    trained: list[tuple[float, float]] = []
    fit = stages.fit_vanilla  # type: ignore[attr-defined]

    def seen(*given: Any, **rest: Any) -> Any:
        trained.append((given[2].epochs, given[2].learning_rate))
        return fit(*given, **rest)

    monkeypatch.setattr(stages, "fit_vanilla", seen)
    for epochs, rate in ((0.5, 3e-3), (0.5, 3e-3), (1.0, 3e-3), (0.5, None)):
        found = stages.prune_levels(
            wanted, space, (0.3,), mode="independent", epochs=epochs, learning_rate=rate
        )
        assert [each.level for each in found] == [0.3]
    assert trained == [(0.5, 3e-3), (1.0, 3e-3), (0.5, 1e-3)]
    # A plugin that hands on its settings finds what `steps` lists, and what was stored before.
    assert level_key(wanted, space, 0.3) == level_key(wanted, space, 0.3, epochs=1.0)


def test_levels_are_trained_and_judged_in_the_references_precision(
    workspace: Workspace, tmp_path: Path
) -> None:
    """The trial's own is not in the key."""
    other = config(training=BASE["training"] | {"precision": "bf16"}, teacher={"precision": "fp32"})
    assert level_key(other, workspace, 0.8) == level_key(config(), workspace, 0.8)
    found, expected = (
        load_outputs(level_artifact(wanted, space, 0.8)).log_probs
        for wanted, space in ((other, Workspace(tmp_path)), (config(), workspace))
    )
    assert torch.equal(found["train"], expected["train"])
    assert torch.equal(found["id_dev"], expected["id_dev"])


def test_each_level_is_judged_at_its_sparsity_where_steps_do_not_divide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = (0.2, 0.35, 0.5, 0.65, 0.85)
    task, training = BASE["task"] | {"train_size": 152}, BASE["training"] | {"batch_size": 8}
    wanted, space = config(task=task, training=training), Workspace(tmp_path)
    teacher(wanted, space)
    monkeypatch.setattr(stages, "predict", lambda model, *_, **__: np.array(sparsity(model)))
    train = space.data(wanted).task.train
    assert num_steps(len(train), wanted.training) == 2 * 19
    found = [
        float(each.predict(train))
        for each in stages.prune_levels(
            wanted, space, levels, mode="gradual", epochs=1.0, learning_rate=None
        )
    ]
    assert found == pytest.approx(levels, abs=1e-4)


def test_both_ways_report_their_cost_and_their_rank_correlation(workspace: Workspace) -> None:
    from scipy.stats import spearmanr

    both = config(difficulty=BASE["difficulty"] | {"mode": "both"})
    report = difficulty(both, workspace).report
    gradual = difficulty(config(), workspace).scores
    independent = difficulty(
        config(difficulty=BASE["difficulty"] | {"mode": "independent"}), workspace
    ).scores
    expected = spearmanr(gradual.numpy(), independent.numpy()).statistic
    assert report["independent"]["rank_correlation"] == pytest.approx(expected, abs=1e-6)
    assert report["gradual_seconds"] > 0 and report["independent_seconds"] > 0
    assert torch.equal(difficulty(both, workspace).scores, gradual)


def test_difficulty_report_says_what_the_levels_and_other_estimates_say(
    workspace: Workspace,
) -> None:
    for step in steps(config(), workspace):
        step.build()
    found = difficulty(config(), workspace)
    task = workspace.data(config()).task
    assert found.scores.shape == (len(task.train),)
    assert found.hard_id_dev.sum() == len(task.id_dev) // 2
    assert sum(found.report["variance_share"].values()) == pytest.approx(1.0)
    assert set(found.report["variance_share"]) == {"0.3", "0.8"}
    conflicting = task.bias_conflicting
    assert conflicting is not None
    assert found.report["mean_score"]["conflicting"] == pytest.approx(
        float(found.scores[torch.from_numpy(conflicting)].mean())
    )
    # By hand: as many of the largest variances are hard as the classifier of one text gets wrong.
    labels, samples = task.id_dev.labels, np.arange(len(task.id_dev))
    levels = load_outputs(difficulty_artifact(config(), workspace)).log_probs["id_dev"].numpy()
    variance = np.var(levels[:, samples, labels].astype(np.float64), axis=0)
    alone = config(difficulty={"name": "hypothesis_only"})
    second = load_outputs(difficulty_artifact(alone, workspace)).log_probs["id_dev"][0].numpy()
    wrong = second.argmax(axis=1) != labels
    hard = np.zeros(len(labels), np.bool_)
    hard[np.argsort(variance)[len(labels) - int(wrong.sum()) :]] = True
    share = wrong.mean()
    assert 0 < share < 1 and share != 0.5
    agreed = found.report["hypothesis_only"]
    assert agreed["agreement"] == pytest.approx((hard == wrong).mean())
    assert agreed["by_chance"] == pytest.approx(share**2 + (1 - share) ** 2)


def test_an_expert_among_the_levels_is_the_milestone_of_that_run(workspace: Workspace) -> None:
    wanted = config(loss={"name": "poe", "expert": {"level": 0.8}})
    assert expert_of(wanted, workspace).key.kind == "difficulty"
    outputs = load_outputs(difficulty_artifact(wanted, workspace)).log_probs["train"]
    assert torch.equal(expert_log_probs(wanted, workspace), outputs[1])


def test_any_other_expert_level_is_pruned_by_itself(workspace: Workspace) -> None:
    wanted = config(loss={"name": "poe", "expert": {"level": 0.75}})
    assert kinds(wanted, workspace) == ["teacher", "teacher_log_probs", "pruned_level"]
    artifact = expert_of(wanted, workspace).build()
    assert torch.equal(
        expert_log_probs(wanted, workspace), load_outputs(artifact).log_probs["train"][0]
    )


def test_a_hypothesis_only_expert_needs_no_pruning(workspace: Workspace) -> None:
    wanted = config(loss={"name": "poe", "expert": "hypothesis_only"})
    assert kinds(wanted, workspace) == ["teacher", "teacher_log_probs", "difficulty"]
    task = workspace.data(wanted).task
    log_probs = expert_log_probs(wanted, workspace)
    assert log_probs.shape == (len(task.train), 2)
    np.testing.assert_allclose(log_probs.exp().sum(-1).numpy(), 1.0, atol=1e-5)


def test_first_stage_is_trained_for_its_own_epochs(workspace: Workspace) -> None:
    short, long = (config(loss={"name": "jtt", "first_epochs": epochs}) for epochs in (0.5, 2.0))
    assert kinds(short, workspace) == ["teacher", "first_stage"]
    first, second = first_stage_log_probs(short, workspace), first_stage_log_probs(long, workspace)
    assert first.shape == second.shape and not torch.allclose(first, second)
    assert not first_stage_artifact(short, workspace).built


def test_a_first_stage_as_long_as_the_teacher_is_the_teacher(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = config(loss={"name": "jtt", "first_epochs": 2.0})
    dense = teacher_key(wanted, workspace).key
    assert [step.needs for step in steps(wanted, workspace)] == [(), (dense,)]
    other = config(loss={"name": "jtt", "first_epochs": 1.0})
    assert steps(other, workspace)[1].needs == ()
    judge = stages.fit_dense(wanted, workspace, np.arange(160))
    expected = judge(workspace.data(wanted).task.train)
    teacher(wanted, workspace)
    monkeypatch.setattr(estimates, "fit_dense", None)
    assert torch.equal(first_stage_log_probs(wanted, workspace), torch.from_numpy(expected))


def test_dense_trainings_have_seeds_of_their_own(workspace: Workspace) -> None:
    train = workspace.data(config()).task.train
    rows = np.arange(160)
    found = [
        stages.fit_dense(config(), workspace, rows, epochs=0.5, seed=seed)(train)
        for seed in (None, 0, 1)
    ]
    assert np.array_equal(found[0], found[1]) and not np.allclose(found[0], found[2])


def test_points_are_those_of_one_training(workspace: Workspace) -> None:
    train = workspace.data(config()).task.train
    rows = np.arange(160)
    seen, kept = [], []
    for predict in stages.fit_points(config(), workspace, rows, points=4, epochs=1):
        seen.append(predict(train))
        kept.append(predict)
    assert len(seen) == 4 and len({each.tobytes() for each in seen}) == 4
    # The last one is at its end, and looking at it meanwhile has changed nothing.
    whole = stages.fit_dense(config(), workspace, rows, epochs=1)(train)
    np.testing.assert_allclose(seen[-1], whole, atol=1e-6)
    with pytest.raises(
        ValueError, match="before the next one is requested, but it has been trained further"
    ):
        kept[0](train)
    with pytest.raises(DifficultyError, match=r"9 points .* but it has 5"):
        next(stages.fit_points(config(), workspace, rows, points=9, epochs=1))


def test_a_level_that_is_asked_too_late_is_told(workspace: Workspace) -> None:
    """Each would answer as the last one, and no loss would vary."""
    levels = stages.prune_levels(
        config(), workspace, (0.3, 0.8), mode="gradual", epochs=1.0, learning_rate=None
    )
    first, second = levels
    for level in (first, second):
        with pytest.raises(ValueError, match="call predict inside the loop that yields it"):
            level.predict(workspace.data(config()).task.id_dev)


def test_what_is_stored_does_not_depend_on_rungs_nor_on_how_precision_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = Workspace(tmp_path)
    monkeypatch.setattr(space, "precision", lambda _: "fp32")
    names: dict[str, dict[str, Any]] = {
        "rmc": {"alpha": "auto"},
        "jtt": {},
        "poe": {"expert": {"level": 0.75}},
        "conf_reg": {"expert": "hypothesis_only"},
    }

    def keys(**training: object) -> list[str]:
        found = [
            step.key.key
            for name, values in names.items()
            for mode in ("gradual", "independent")
            for step in steps(
                config(
                    training=BASE["training"] | training,
                    loss={"name": name, **values},
                    difficulty=BASE["difficulty"] | {"mode": mode},
                ),
                space,
            )
        ]
        return list(dict.fromkeys(found))

    assert len(keys()) > 8
    assert keys(rungs=3) == keys() == keys(precision="auto")
    assert len({*keys(epochs=3)} & {*keys()}) == 1, "only the first stage has epochs of its own"


def test_teacher_errors_drive_rmc_as_well(workspace: Workspace) -> None:
    wanted = config(difficulty={"name": "teacher_errors", "epochs": 0.5})
    found = difficulty(wanted, workspace)
    assert found.report["name"] == "teacher_errors" and "train_accuracy" in found.report
    assert float(found.scores.min()) >= 0 and float(found.scores.max()) <= 1


def test_level_errors_score_the_outputs_of_loss_variance(workspace: Workspace) -> None:
    wanted = config(difficulty=BASE["difficulty"] | {"name": "level_errors"})
    stored = difficulty_artifact(config(), workspace)
    found = difficulty_artifact(wanted, workspace)
    assert found.path == stored.path and not found.built
    other = config(difficulty=BASE["difficulty"] | {"name": "level_errors", "levels": [0.3, 0.7]})
    assert difficulty_key(other, workspace) != difficulty_key(wanted, workspace)
    labels = workspace.data(wanted).task.train.labels
    outputs = load_outputs(found).log_probs["train"].double().numpy()
    expected = [
        sum(1 - math.exp(level[i, y]) for level in outputs) / len(outputs)
        for i, y in enumerate(labels)
    ]
    estimate = difficulty(wanted, workspace)
    assert estimate.scores.numpy() == pytest.approx(expected, abs=1e-12)
    assert estimate.report["name"] == "level_errors"
    # What is chosen by these scores is not what is chosen by the variance.
    auto = [
        alpha_key(
            config(difficulty=one.difficulty.as_dict(), loss={"name": "rmc", "alpha": "auto"}),
            workspace,
        )
        for one in (config(), wanted)
    ]
    assert auto[0] != auto[1]


@pytest.mark.parametrize("mode", ["gradual", "independent"])
def test_a_diverged_level_is_named_and_is_the_user_s_to_change(
    workspace: Workspace, mode: str
) -> None:
    wild = BASE["difficulty"] | {"mode": mode, "learning_rate": 1e30}
    # Without clipping, one step of that size is enough.
    teacher = {"max_grad_norm": 0.0, "warmup": 0.0}
    with pytest.raises(DifficultyError, match=r"difficulty level 0\.3 diverged") as caught:
        difficulty_artifact(config(difficulty=wild, teacher=teacher), workspace)
    assert caught.value.exit_code == 2


def test_single_texts_have_no_hypothesis(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": i % 2} for i in range(60)]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "ood.jsonl").write_text(
        "\n".join(json.dumps(row | {"text": f"other {i}"}) for i, row in enumerate(rows))
    )
    task = {
        "name": "files",
        "data_dir": str(tmp_path),
        "text": "text",
        "labels": {0: "a", 1: "b"},
        "roles": {"train": "all.jsonl", "ood_dev": {"x": "ood.jsonl"}},
    }
    wanted = config(task=task, difficulty={"name": "hypothesis_only"})
    with pytest.raises(DifficultyError, match=r"needs pairs of texts.*or as loss\.expert a level"):
        difficulty_artifact(wanted, Workspace(tmp_path / "artifacts"))
