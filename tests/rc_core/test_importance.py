"""The importance of units in the dense reference: measured once, the same as measured directly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rc_core.assembly import prepare_model
from rc_core.compression import heads
from rc_core.compression._base import CompressionContext
from rc_core.config import TrialConfig, decode
from rc_core.importance import has_importance, importance, importance_artifact, importance_key
from rc_core.models import load_model
from rc_core.preparation import steps
from rc_core.record import TrialFolder
from rc_core.teacher import teacher
from rc_core.training import batches
from rc_core.trial import run_trial
from rc_core.workspace import Workspace

BASE: dict[str, Any] = {
    "model": "tiny:bert",
    "task": {"name": "shortcut_nli", "train_size": 100, "dev_size": 100, "test_size": 100},
    "training": {"epochs": 1, "learning_rate": 1e-3, "rungs": 1, "precision": "fp32"},
    "compression": {"name": "heads", "remove": 0.25, "num_batches": 2},
    "loss": {"name": "vanilla"},
}


def config(**changes: Any) -> TrialConfig:
    return decode({**BASE, **changes})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    yield Workspace(tmp_path_factory.mktemp("artifacts"))


def test_it_is_that_of_the_reference_on_the_trials_own_batches(workspace: Workspace) -> None:
    wanted = config()
    data = workspace.data(wanted)
    context = CompressionContext(
        batches=lambda: batches(data.encoded(data.task.train), wanted.training, workspace.device),
        device=workspace.device,
    )
    judged = load_model(teacher(wanted, workspace).path / "model")
    expected = heads.importance(judged, context, num_batches=2)
    assert importance(wanted, workspace) == expected
    assert {len(row) for row in expected} == {4} and min(map(min, expected)) > 0


def test_it_does_not_depend_on_the_trials_own_length(workspace: Workspace, tmp_path: Path) -> None:
    """Which is not in its key: whoever measures first would decide for all."""
    teacher = {"max_length": 128}
    short = config(training=BASE["training"] | {"max_length": 8}, teacher=teacher)
    assert importance_key(short, workspace).key == importance_key(config(), workspace).key
    assert importance(short, Workspace(tmp_path)) == importance(config(), workspace)


@pytest.mark.parametrize("name", ["heads", "ffn"])
def test_trials_that_remove_more_or_less_share_it(
    workspace: Workspace, tmp_path: Path, name: str
) -> None:
    records = []
    for number, remove in enumerate((0.25, 0.5)):
        wanted = config(compression={"name": name, "remove": remove, "num_batches": 2})
        folder = TrialFolder(tmp_path / f"t{number}")
        records.append(run_trial(wanted, workspace, folder, trial_id=f"t{number}"))
    first, second = (record.artifacts["importance"] for record in records)
    assert first == second == importance_key(wanted, workspace).key
    assert not importance_artifact(wanted, workspace).built


def test_a_trial_reads_it_and_measures_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = config()
    for step in steps(wanted, workspace):
        step.build()
    monkeypatch.setattr(heads, "importance", lambda *_, **__: pytest.fail("measured again"))
    compression, model = prepare_model(wanted, workspace)
    assert compression.report(model)["asked"] == {"heads": 12.0}


def test_it_depends_on_what_is_read_and_not_on_how_much_goes(workspace: Workspace) -> None:
    def key(**changes: Any) -> str:
        section = BASE["compression"] | changes.pop("compression", {})
        return importance_key(config(compression=section, **changes), workspace).key

    same = key()
    assert key(compression={"remove": 0.5}) == same
    assert key(loss={"name": "focal"}) == same
    assert key(compression={"num_batches": 3}) != same
    assert key(training=BASE["training"] | {"seed": 1}) != same
    assert key(training=BASE["training"] | {"batch_size": 8}) != same


def test_only_compressions_that_choose_by_importance_have_it(workspace: Workspace) -> None:
    magnitude = config(compression={"name": "magnitude", "sparsity": 0.5})
    assert has_importance(config()) and not has_importance(magnitude)
    assert "importance" not in {step.key.kind for step in steps(magnitude, workspace)}
