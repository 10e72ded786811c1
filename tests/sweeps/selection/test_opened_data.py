"""Test samples that are not those of the launch, or of an earlier opening."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rc_core.config import decode
from rc_core.data._task import Task
from rc_core.errors import StorageError
from rc_core.record import TrialRecord
from rc_core.workspace import Workspace
from sweeps.selection.opened_data import changed_splits, opened_data
from sweeps.selection.stamp import stamp_json, stamp_lines, stamp_of

CONFIG = {
    "model": "tiny:bert",
    "task": {"name": "shortcut_nli", "train_size": 100, "dev_size": 60, "test_size": 60},
}


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialRecord, Task]:
    """Return a record as a trial writes its facts, and the task with its test roles."""
    config = decode(CONFIG)
    root = tmp_path_factory.mktemp("artifacts")
    sealed = Workspace(root, device="cpu").data(config)
    assert not sealed.task.of_role("ood_test")
    facts = sealed.facts([sealed.task.train])
    record = TrialRecord(
        id="t0001", status="finished", config=config.as_dict(), fingerprint="", started=0.0,
        data=facts,
    )  # fmt: skip
    return record, Workspace(root, device="cpu", sealed=False).data(config).task


def with_one_less(task: Task, role: str) -> Task:
    """Return the task after a sample of a test role was removed from its file."""
    return replace(
        task,
        splits=tuple(
            split.take(np.arange(len(split) - 1)) if split.role == role else split
            for split in task.splits
        ),
    )


def test_the_same_samples_are_no_news(launched: tuple[TrialRecord, Task]) -> None:
    record, task = launched
    found = opened_data(task, {}, [record])
    assert set(found) == {"id_test.shortcut_nli", "ood_test.overlap"}
    assert set(record.data["sealed"]) == {"id.shortcut_nli", "ood.overlap"}
    assert not changed_splits({"data": found})
    # Opened again, with the same samples.
    assert opened_data(task, {"data": found, "trials": {"t0001": {}}}, [record]) == found


def test_samples_that_changed_since_the_launch_are_told(launched: tuple[TrialRecord, Task]) -> None:
    record, task = launched
    found = opened_data(with_one_less(task, "id_test"), {}, [record])
    document = {"opened": 1.0, "design": "fixed", "selection": [], "data": found}
    assert changed_splits(document) == ["id_test.shortcut_nli"]
    stamp = stamp_of(document, [], set())
    assert any("id_test.shortcut_nli are not those of the launch" in t for t in stamp_lines(stamp))
    assert (stamp_json(stamp) or {})["other_test_data"] == ["id_test.shortcut_nli"]


def test_samples_that_changed_between_openings_are_refused(
    launched: tuple[TrialRecord, Task],
) -> None:
    record, task = launched
    before = {"data": opened_data(task, {}, [record]), "trials": {"t0001": {}}}
    with pytest.raises(StorageError, match=r"ood_test\..* must hold the samples") as caught:
        opened_data(with_one_less(task, "ood_test"), before, [record])
    assert len(caught.value.problems) == 1 and "put the old file back" in str(caught.value)
    # One that was interrupted before its first trial has opened nothing.
    opened_data(with_one_less(task, "ood_test"), before | {"trials": {}}, [record])


def test_a_record_of_before_says_nothing(
    launched: tuple[TrialRecord, Task], tmp_path: Path
) -> None:
    record, task = launched
    old = record.model_copy(update={"data": {}})
    assert not changed_splits({"data": opened_data(with_one_less(task, "id_test"), {}, [old])})


def test_a_split_of_the_launch_that_is_gone_or_new_is_not_passed_over(
    launched: tuple[TrialRecord, Task],
) -> None:
    """A task's test files may be optional, and another folder may lack them or have more."""
    record, task = launched
    known = dict(record.data["sealed"])
    more = {**known, "ood.another": "0" * 16}
    with pytest.raises(StorageError, match=r"ood\.another: must hold .* but is missing"):
        opened_data(task, {}, [with_sealed(record, more)])
    del known["ood.overlap"]
    found = opened_data(task, {}, [with_sealed(record, known)])
    assert changed_splits({"data": found}) == ["ood_test.overlap"]


def with_sealed(record: TrialRecord, sealed: dict[str, str]) -> TrialRecord:
    return record.model_copy(update={"data": record.data | {"sealed": sealed}})
