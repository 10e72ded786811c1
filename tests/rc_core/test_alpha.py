"""`alpha: auto`: the rule on made-up evidence, and one real choice on a tiny encoder."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rc_core import alpha
from rc_core.alpha import ALPHAS, alpha_key, alpha_title, best_alpha, resolve
from rc_core.config import TrialConfig, decode
from rc_core.errors import DifficultyError
from rc_core.models import load_encoder, load_tokenizer, save_model
from rc_core.record import TrialFolder
from rc_core.trial import run_trial
from rc_core.workspace import Workspace
from tests.rc_core._trials import tiny_trial

BASE: dict[str, Any] = tiny_trial(
    train_size=120,
    held_out=120,
    compression={"name": "magnitude", "sparsity": 0.6},
    loss={"name": "rmc", "alpha": "auto", "lambda": 0.5},
    difficulty={"name": "loss_variance", "levels": [0.3, 0.8]},
)


def config(**changes: Any) -> TrialConfig:
    return decode({**BASE, **changes})


def evidence(*rows: tuple[float, float, float]) -> list[dict[str, float]]:
    names = ("alpha", "id_dev/accuracy", "relative_robustness")
    return [dict(zip(names, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (evidence((0.1, 0.90, 0.2), (0.5, 0.90, 0.1), (0.9, 0.90, 0.3)), 0.5),
        # The most robust one has lost more than 0.5 points.
        (evidence((0.1, 0.894, 0.0), (0.5, 0.90, 0.1), (0.9, 0.90, 0.3)), 0.5),
        # Exactly 0.5 points is within.
        (evidence((0.1, 0.895, 0.0), (0.5, 0.90, 0.1)), 0.1),
        # Of equal ones the larger.
        (evidence((0.1, 0.90, 0.1), (0.5, 0.90, 0.1)), 0.5),
        (evidence((0.3, 0.5, -0.2)), 0.3),
    ],
)
def test_best_alpha_is_the_most_robust_near_the_best(
    rows: list[dict[str, float]], expected: float
) -> None:
    assert best_alpha(rows) == expected


def test_the_alphas_that_are_tried_are_the_nine_tenths_below_one() -> None:
    assert list(ALPHAS) == [pytest.approx(tenths / 10) for tenths in range(1, 10)]


def test_an_alpha_whose_robustness_is_undefined_is_never_the_best() -> None:
    assert best_alpha(evidence((0.1, 0.90, math.nan), (0.5, 0.89, 0.3), (0.9, 0.89, 0.4))) == 0.5
    with pytest.raises(DifficultyError, match="get some easy sample of id_dev right"):
        best_alpha(evidence((0.1, 0.90, math.nan), (0.9, 0.90, math.nan)))


@pytest.mark.parametrize(("hard", "kind"), [(True, "hard"), (False, "easy")])
def test_without_an_easy_and_a_hard_half_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard: bool, kind: str
) -> None:
    halves = SimpleNamespace(hard_id_dev=np.full(120, hard))
    monkeypatch.setattr(alpha, "difficulty", lambda *_: halves)
    monkeypatch.setattr(alpha, "_judge", lambda *_: pytest.fail("trained"))
    with pytest.raises(DifficultyError, match=f"all count as {kind}; give loss.alpha"):
        resolve(config(), Workspace(tmp_path))


def test_alpha_is_chosen_once_and_its_evidence_recorded(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "artifacts")
    record = run_trial(config(), workspace, TrialFolder(tmp_path / "a"), trial_id="a")
    found = record.loss["alpha"]
    assert [row["alpha"] for row in found["evidence"]] == list(ALPHAS)
    assert found["chosen"] == best_alpha(found["evidence"])
    assert record.config["loss"]["alpha"] == "auto" and "alpha" in record.artifacts
    # The trial is the one with the chosen alpha written out.
    explicit = config(loss=BASE["loss"] | {"alpha": found["chosen"]})
    other = run_trial(explicit, workspace, TrialFolder(tmp_path / "b"), trial_id="b")
    assert other.metrics == record.metrics
    # Another seed of the same sweep shares the choice.
    seeded = config(training=BASE["training"] | {"seed": 7}, teacher={"seed": 0})
    assert alpha_key(seeded, workspace).key == alpha_key(config(), workspace).key
    resolved, _ = resolve(seeded, workspace)
    assert resolved.loss.as_dict()["alpha"] == found["chosen"]
    assert "9 trainings of magnitude-60" in alpha_title(config())


def test_another_compression_may_be_named_for_the_choice(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    on = {"name": "student", "num_layers": 2}
    wanted = config(loss=BASE["loss"] | {"alpha_on": on})
    assert "9 trainings of student-2" in alpha_title(wanted)
    smaller = config(loss=BASE["loss"] | {"alpha_on": on}, compression={"name": "dense"})
    assert alpha_key(wanted, workspace).key == alpha_key(smaller, workspace).key


def test_a_student_whose_folder_has_changed_gets_a_choice_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "student"
    student = {"name": "student", "model": str(folder)}
    keys = set()
    for seed in (0, 1):
        model = load_encoder("tiny:bert", label_names=("a", "b"), seed=seed)
        save_model(model, load_tokenizer("tiny:bert"), folder)
        keys.add(alpha_key(config(compression=student), Workspace(tmp_path / "artifacts")).key)
    assert len(keys) == 2
    plain = alpha_key(config(), Workspace(tmp_path / "artifacts"))
    assert "encoder" not in plain.inputs
