"""Which artifacts are built before the first trial, which are left to trials, what is kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from rc_core.config import TrialConfig
from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.engine import prepare, trainable
from sweeps.engine.listed import listed
from sweeps.engine.step_shares import Planned
from sweeps.engine.wanted import settle, wanted
from sweeps.folder import SweepFolder
from sweeps.prepared import preparation_of
from sweeps.stored_sweep import StoredSweep
from sweeps.verification.confirm import FIRST_SEED, confirmation
from sweeps.views.status import status_document, status_text
from tests.sweeps.engine.test_listed import DESIGN, finish, finished
from tests.sweeps.test_config import RAW

SEARCHED: dict[str, Any] = {
    "model": "tiny:bert",
    "task": {"name": "shortcut_nli", "train_size": 100, "dev_size": 60, "test_size": 60},
    "training": {"epochs": 1, "rungs": 1, "precision": "fp32"},
    "compression": {"name": "magnitude"},
    "space": {"compression.sparsity": {"uniform": [0.1, 0.9]}},
}
# sparsity -> ID and OOD accuracy; the last one is behind the front.
FOUND = {0.3: (0.90, 0.80), 0.5: (0.92, 0.70), 0.8: (0.60, 0.55)}


@pytest.fixture
def sweep(tmp_path: Path) -> StoredSweep:
    config = SweepConfig(SEARCHED)
    folder = SweepFolder.create(tmp_path, "found", "x")
    folder.write_config(config.as_dict())
    trials = [config.reference(), *(config.trial({"compression.sparsity": s}) for s in FOUND)]
    for i, (trial, values) in enumerate(zip(trials, [(0.93, 0.81), *FOUND.values()], strict=True)):
        metrics = dict(zip(("id_dev/accuracy", "ood_dev/accuracy"), values, strict=True))
        record = finished(f"t{i:04d}", trial).model_copy(update={"metrics": metrics})
        folder.trial(record.id).commit(record)
    return StoredSweep(folder)


def teachers(configs: list[TrialConfig]) -> set[int]:
    return {config.reference().training.seed for config in configs}


def test_artifacts_are_built_for_what_is_open_only(tmp_path: Path) -> None:
    design, folder = SweepConfig(DESIGN), SweepFolder(tmp_path)
    found = listed(design)
    assert wanted(design, folder).first == list(found.values())
    finish(folder, design, "t0005")
    assert wanted(design, folder).first == [found["t0005"]]
    search = SweepConfig(RAW)
    assert wanted(search, folder).first == [search.reference(), *search.structures()]


def test_a_race_begins_with_two_seeds_teachers_and_leaves_the_others_to_its_trials(
    sweep: StoredSweep,
) -> None:
    config = confirmation(sweep, seeds=10, whole=True)
    folder = SweepFolder.create(sweep.folder.storage, "found.confirm", "x")
    folder.write_config(config.as_dict())
    needed = wanted(config, folder)
    assert teachers(needed.first) == {0, FIRST_SEED, FIRST_SEED + 1}
    assert len(needed.later) == 4 * 10 - 3 * 2, "the row behind the front may get no seed at all"
    values = [each.as_dict() for each in (*needed.first, *needed.later)]
    artifacts = str(sweep.folder.artifacts)
    planned, judged, _ = prepare._plan(
        values,
        folder.address,
        reference=config.reference().as_dict(),
        artifacts=artifacts,
        threads=1,
        device="cpu",
    )
    assert judged is None, "neither the reference's record nor its teacher is there"
    assert Counter(step.title for step in planned) == {"teacher": 11}
    said: list[str] = []
    now = settle(folder, planned, len(needed.first), said.append)
    assert len(now) == 3
    assert said == ["prepare: left to the first trial that needs each: 8 x teacher"]
    kept = preparation_of(folder.path)
    assert kept.keys == {step.key for step in planned} and kept.later == {"teacher": 8}
    with folder.driving():
        shown = status_text(StoredSweep(folder))
    assert "not built before the first trial: 8 x teacher; the first trial that needs" in shown
    assert status_document(StoredSweep(folder))["artifacts_later"] == {}, "nothing runs"


def test_a_race_that_goes_on_builds_for_what_it_has_begun(sweep: StoredSweep) -> None:
    config = confirmation(sweep, seeds=10, whole=True)
    folder = SweepFolder.create(sweep.folder.storage, "found.confirm", "x")
    begun = [config.trial(point) for point in config.first_points()]
    ids = list(config.first_trials())
    for place in (0, 1, 10, 11, 20, 21):
        folder.trial(ids[place]).commit(finished(ids[place], begun[place]))
    later = finished(ids[5], begun[5]).model_copy(update={"status": "running"})
    folder.trial(ids[5]).commit(later)
    assert teachers(wanted(config, folder).first) == {0, FIRST_SEED + 5}


def test_a_worker_builds_what_was_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Mock(get_accelerator_ids=lambda: {"GPU": []})
    context.get_node_id.return_value = "node"
    monkeypatch.setattr(trainable.ray, "get_runtime_context", lambda: context)  # type: ignore[attr-defined]
    config = SweepConfig(SEARCHED).trial({"compression.sparsity": 0.5})
    folder = SweepFolder.create(tmp_path, "one", "x")
    given = {
        "trial_id": "t0001",
        "config": config.as_dict(),
        "sweep": folder.address,
        "artifacts": folder.artifacts_address,
        "attempt": 0,
        "threads": 1,
        "gpu": 0.0,
        "device": "cpu",
    }

    def run() -> TrialRecord:
        steps = trainable._steps(given)
        with pytest.raises(StopIteration) as end:
            while True:
                next(steps)
        record: TrialRecord = end.value.value
        return record

    record = run()
    assert record.status == "finished"
    # A worker that was lost right after that costs no second training.
    folder.trial("t0001").checkpoint.mkdir()
    assert run() == folder.trial("t0001").read() == record
    assert not folder.trial("t0001").has_checkpoint()
    assert (folder.artifacts / "teacher" / record.artifacts["teacher"] / "artifact.json").is_file()


def test_where_nothing_can_be_written_preparation_goes_on(tmp_path: Path) -> None:
    step = Planned(0, 0, "teacher", "teacher", "1", (), False, stored=False)
    said: list[str] = []
    assert settle(SweepFolder(tmp_path / "not there"), [step], 1, said.append) == [step]
    assert len(said) == 1 and said[0].startswith("warning: ")
