"""`loss.alpha: auto`: alpha chosen on in-distribution data only.

Du et al. 2023 tune alpha by the relative robustness between the easy and the hard half of the dev
set. Our reading: of 0.1, 0.2, ... 0.9, choose the one with the smallest (A_easy - A_hard) / A_easy
on id_dev among those whose id_dev accuracy is within 0.5 points of the best. This takes nine
training runs with one seed, of the sweep's cheapest compression (`loss.alpha_on`; by default the
trial's own). The result is stored, so they run only once. No out-of-distribution sample is looked
at.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rc_core import plugins
from rc_core.artifacts import Artifact, ArtifactKey
from rc_core.assembly import assemble, compressed_data, fit_compressed
from rc_core.config import PLUGIN_PACKAGES, TrialConfig, decode
from rc_core.errors import DifficultyError
from rc_core.estimates import difficulty, difficulty_key, outputs_of
from rc_core.evaluation import predict_splits
from rc_core.metrics.easy_hard import relative_robustness
from rc_core.teacher import teacher_key, training_inputs
from rc_core.workspace import Workspace, model_digest

# 2: no choice if id_dev lacks one of the halves; an undefined robustness does not count.
ALPHA_VERSION = 2
ALPHAS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# How far below the best id_dev accuracy a choice may be, a share.
MAX_LOSS = 0.005
_ROUNDING = 1e-9


def wants_alpha(config: TrialConfig) -> bool:
    """Tell whether a configuration leaves alpha to be chosen."""
    return bool(getattr(config.loss, "alpha", None) == "auto")


def alpha_title(config: TrialConfig) -> str:
    """Return a progress line: what is done, and what it costs."""
    compression = _with_alpha(config, ALPHAS[0]).compression.label()
    return f"alpha: {len(ALPHAS)} trainings of {compression}, judged on id_dev alone"


def alpha_key(config: TrialConfig, workspace: Workspace) -> ArtifactKey:
    """Return the key of the choice."""
    judged = _with_alpha(config, ALPHAS[0])
    values = judged.as_dict()
    loss = {key: value for key, value in values["loss"].items() if key != "alpha"}
    # The precision of these training runs may differ from the teacher's.
    training = training_inputs(judged.training) | {"precision": workspace.precision(judged)}
    inputs = {
        "teacher": teacher_key(config, workspace).key,
        "difficulty": difficulty_key(config, workspace).key,
        "compression": values["compression"],
        "loss": loss,
        "training": training,
        # An edited plugin may train differently under the same settings.
        "sources": {
            section: plugins.digest(PLUGIN_PACKAGES[section], getattr(judged, section).name)
            for section in ("compression", "loss", "difficulty")
        },
    }
    if outputs_of(config) != config.difficulty.name:
        # The difficulty's key identifies the outputs, which several plugins score differently.
        inputs["scored_by"] = config.difficulty.name
    encoder = judged.compression.encoder(judged.model)
    if encoder != judged.model:
        # The section names the student's folder, not what is in it.
        inputs["encoder"] = model_digest(encoder)
    return ArtifactKey("alpha", ALPHA_VERSION, inputs)


def alpha_artifact(config: TrialConfig, workspace: Workspace) -> Artifact:
    """Return the choice with its evidence, running the training it takes if it is not stored.

    Raises:
        DifficultyError: id_dev has no easy or no hard half, or as `best_alpha`.
    """

    def build(folder: Path) -> None:
        hard = difficulty(config, workspace).hard_id_dev
        if hard.all() or not hard.any():
            raise DifficultyError(
                "loss.alpha: auto compares the easy with the hard samples of id_dev, which must "
                f"hold both, but all count as {'hard' if hard.any() else 'easy'}; give loss.alpha "
                "a number or change difficulty"
            )
        evidence = [_judge(_with_alpha(config, alpha), workspace, hard) for alpha in ALPHAS]
        chosen = best_alpha(evidence)
        report = {
            "chosen": chosen,
            "compression": _with_alpha(config, chosen).compression.label(),
            "evidence": evidence,
        }
        (folder / "alpha.json").write_text(json.dumps(report, indent=1))

    return workspace.store.build(alpha_key(config, workspace), build)


def best_alpha(evidence: list[dict[str, float]]) -> float:
    """Return the alpha with the least relative robustness gap near the best id_dev accuracy.

    Args:
        evidence: for each alpha, `alpha`, `id_dev/accuracy` and `relative_robustness`, as shares.
            Among equal ones the larger alpha wins, which changes the teacher less. Rows whose
            robustness is NaN (no easy sample right) do not count.

    Raises:
        DifficultyError: no row counts.
    """
    known = [row for row in evidence if not math.isnan(row["relative_robustness"])]
    if not known:
        raise DifficultyError(
            "loss.alpha: auto needs models that get some easy sample of id_dev right, but none "
            "does; raise training.epochs or training.learning_rate, or give loss.alpha a number"
        )
    best = max(row["id_dev/accuracy"] for row in known)
    near = [row for row in known if row["id_dev/accuracy"] >= best - MAX_LOSS - _ROUNDING]
    return min(near, key=lambda row: (row["relative_robustness"], -row["alpha"]))["alpha"]


def resolve(config: TrialConfig, workspace: Workspace) -> tuple[TrialConfig, dict[str, Any]]:
    """Return the configuration with alpha chosen, and the evidence.

    If alpha is given, the configuration is returned unchanged, with no evidence.
    """
    if not wants_alpha(config):
        return config, {}
    path = alpha_artifact(config, workspace).path / "alpha.json"
    report: dict[str, Any] = json.loads(path.read_text())
    values = config.as_dict()
    values["loss"]["alpha"] = report["chosen"]
    return decode(values), report


def _judge(config: TrialConfig, workspace: Workspace, hard: NDArray[np.bool_]) -> dict[str, float]:
    """Train one configuration and return its accuracies on id_dev and on its two halves."""
    parts = assemble(config, workspace)
    for _ in fit_compressed(parts):
        pass
    data = compressed_data(config, workspace)
    id_dev = data.task.id_dev
    log_probs = predict_splits(parts.compression.finalize(parts.model), data, [id_dev])[id_dev.name]
    right = log_probs.argmax(axis=1) == id_dev.labels
    easy_accuracy, hard_accuracy = float(right[~hard].mean()), float(right[hard].mean())
    return {
        "alpha": float(config.loss.as_dict()["alpha"]),
        "id_dev/accuracy": float(right.mean()),
        "easy": easy_accuracy,
        "hard": hard_accuracy,
        "relative_robustness": relative_robustness(easy_accuracy, hard_accuracy),
    }


def _with_alpha(config: TrialConfig, alpha: float) -> TrialConfig:
    """Return the configuration that is trained to judge one alpha."""
    values = config.as_dict()
    judged_on = values["loss"].pop("alpha_on", None)
    values["loss"]["alpha"] = alpha
    # The reference's seed, so that one choice serves all seeds of a sweep.
    values["training"]["seed"] = config.reference().training.seed
    if judged_on is not None:
        values["compression"] = judged_on
    return decode(values)
