"""Records: JSON round trip, atomic commits, fencing, old versions stay readable."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from rc_core.errors import StaleAttemptError, StorageError
from rc_core.record import (
    SCHEMA_VERSION,
    RungRecord,
    TrialFolder,
    TrialRecord,
    read_record,
    read_records,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "records"


def record(**changes: object) -> TrialRecord:
    values: dict[str, object] = {
        "id": "t0003",
        "status": "running",
        "config": {"model": "tiny:bert"},
        "fingerprint": "abc",
        "started": 1.0,
    }
    return TrialRecord.model_validate(values | changes)


def test_nan_is_null_in_the_file_and_nan_in_python(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "t0003")
    rung = RungRecord(step=3, progress=0.5, seconds=1.5, metrics={"rung/x": math.nan})
    folder.commit(record(metrics={"a": math.nan, "b": 0.5}, rungs=(rung,)))
    raw = json.loads(folder.record_file.read_text())
    assert raw["metrics"] == {"a": None, "b": 0.5}
    again = folder.read()
    assert again is not None and math.isnan(again.metric("a")) and again.metric("b") == 0.5
    assert math.isnan(again.rungs[0].metrics["rung/x"])
    assert math.isnan(again.metric("never measured"))


def test_a_commit_replaces_the_record_and_leaves_no_other_file(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "t0003")
    folder.commit(record())
    folder.commit(record().sealed("finished"))
    assert [path.name for path in folder.path.iterdir()] == ["record.json"]
    found = folder.read()
    assert found is not None and found.status == "finished" and found.finished is not None


def test_a_superseded_attempt_cannot_commit(tmp_path: Path) -> None:
    newest = [1]
    folder = TrialFolder(tmp_path / "t0003", fence=lambda: newest[0])
    folder.commit(record(attempt=1))
    newest[0] = 2
    with pytest.raises(StaleAttemptError, match="superseded"):
        folder.commit(record(attempt=1, status="finished"))
    found = folder.read()
    assert found is not None and found.status == "running"


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"schema_version": 999}', '{"schema_version": 1, "id": "x"}', "{}"]
)
def test_a_file_that_is_no_record_is_a_storage_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(content)
    with pytest.raises(StorageError):
        read_record(path)


def test_every_schema_version_stays_readable() -> None:
    files = {int(path.stem.removeprefix("v")): path for path in FIXTURES.glob("v*.json")}
    assert sorted(files) == list(range(1, SCHEMA_VERSION + 1))
    for version, path in files.items():
        found = read_record(path)
        assert found.schema_version == version
        assert found.status == "finished" and found.metrics


def test_every_damaged_record_is_named_and_what_to_do(tmp_path: Path) -> None:
    for number in range(4):
        TrialFolder(tmp_path / f"t{number:04d}").commit(record(id=f"t{number:04d}"))
    assert len(read_records(tmp_path)) == 4
    for number in (1, 3):
        (tmp_path / f"t{number:04d}" / "record.json").write_text('{"id": "t0001", ')
    with pytest.raises(StorageError) as found:
        read_records(tmp_path)
    lines = str(found.value).splitlines()
    assert [line.partition("/record.json")[0][-5:] for line in lines] == ["t0001", "t0003"]
    assert all("restore it, or remove its folder" in line for line in lines)


@pytest.mark.parametrize("left", ["checkpoint", ".checkpoint.before"])
def test_a_checkpoint_is_one_wherever_a_kill_left_it(tmp_path: Path, left: str) -> None:
    folder = TrialFolder(tmp_path / "t0003")
    (folder.path / ".checkpoint.tmp").mkdir(parents=True)
    assert not folder.has_checkpoint()
    (folder.path / left).mkdir()
    assert folder.has_checkpoint()
    folder.forget_checkpoint()
    assert not folder.has_checkpoint() and not list(folder.path.iterdir())
