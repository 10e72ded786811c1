"""`rc-sweep artifacts`: what is listed, what counts as damaged, and what is never removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rc_core.artifacts import Artifact, ArtifactKey, ArtifactStore
from rc_core.errors import InputError, StorageError
from rc_core.record import TrialRecord
from sweeps.artifact_uses import FolderShelf, age, uses
from sweeps.cli.artifacts import app
from sweeps.folder import SweepFolder
from sweeps.prepared import Preparation, keep_preparation

KINDS = ("teacher", "level", "level", "unused", "precision")


def invoke(storage: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*arguments, "--storage", str(storage)])
    if isinstance(done.exception, InputError):
        raise done.exception
    return done.exit_code, done.output


@pytest.fixture
def stored(tmp_path: Path) -> list[Artifact]:
    """Five artifacts; sweep `one` names the first three, `two` the first."""
    store = ArtifactStore(tmp_path / "artifacts")
    found = []
    for number, kind in enumerate(KINDS):
        key = ArtifactKey(kind, 1, {"number": number})
        found.append(store.build(key, lambda path: (path / "data").write_text("x" * 1000)))
    keys = [artifact.key.key for artifact in found]
    for name, named in (
        ("one", {"teacher": keys[0], "level": f"{keys[1]}+{keys[2]}"}),
        ("two", {"teacher": keys[0]}),
    ):
        folder = SweepFolder.create(tmp_path, name, name)
        folder.write_config({"model": "tiny:bert"})
        record = TrialRecord(
            id="t0001", status="stopped", config={}, fingerprint="f", started=0.0, artifacts=named
        )
        folder.trial("t0001").commit(record)
    return found


def test_each_artifact_is_listed_with_the_sweeps_that_use_it(
    stored: list[Artifact], tmp_path: Path
) -> None:
    found = {use.stored.key: use for use in uses(FolderShelf(tmp_path))}
    assert [found[a.key.key].sweeps for a in stored] == [
        ("one", "two"), ("one",), ("one",), (), (),
    ]  # fmt: skip
    assert [found[a.key.key].removable for a in stored] == [False, False, False, True, False]
    code, out = invoke(tmp_path, "list", "--json")
    assert code == 0
    rows = {row["key"]: row for row in json.loads(out)}
    assert rows[stored[0].key.key]["sweeps"] == ["one", "two"]
    assert rows[stored[0].key.key]["bytes"] > 1000
    code, out = invoke(tmp_path, "list")
    assert code == 0 and "5 artifacts" in out and "1 of them" in out


def test_a_storage_without_artifacts_is_told_so(tmp_path: Path) -> None:
    assert invoke(tmp_path, "list") == (0, f"no artifacts in {tmp_path}\n")


def test_what_an_interrupted_sweep_was_prepared_with_is_used(
    stored: list[Artifact], tmp_path: Path
) -> None:
    """No record names it yet: its trials have not begun."""
    folder = SweepFolder(tmp_path / "two")
    keep_preparation(folder.path, Preparation(frozenset({stored[3].key.key}), {}))
    found = {use.stored.key: use for use in uses(FolderShelf(tmp_path))}
    assert found[stored[3].key.key].sweeps == ("two",)
    assert invoke(tmp_path, "prune", "--yes")[0] == 0 and stored[3].path.is_dir()
    (folder.path / "prepared.json").write_text("{")
    with pytest.raises(StorageError, match=r"prepared\.json .*remove it"):
        uses(FolderShelf(tmp_path))


def test_verify_names_what_is_damaged_and_who_uses_it(
    stored: list[Artifact], tmp_path: Path
) -> None:
    assert invoke(tmp_path, "verify")[0] == 0
    (stored[0].path / "data").write_text("y" * 1000)
    (stored[3].path / "artifact.json").unlink()
    code, out = invoke(tmp_path, "verify")
    assert code == 1
    assert f"teacher/{stored[0].key.key}" in out and "checksum" in out and "one, two" in out
    assert f"unused/{stored[3].key.key}: is not in the store" in out
    assert "3 of 5" in out


def test_prune_removes_what_no_sweep_names_and_what_killed_builders_left(
    stored: list[Artifact], tmp_path: Path
) -> None:
    left = tmp_path / "artifacts" / "teacher" / f".{stored[0].key.key}.4711"
    left.mkdir()
    for arguments in (["prune", "--dry-run"], ["prune"]):
        try:
            invoke(tmp_path, *arguments)
        except InputError as error:
            assert "--yes" in str(error)
        assert left.is_dir() and all(artifact.path.is_dir() for artifact in stored)
    code, out = invoke(tmp_path, "prune", "--yes")
    assert code == 0 and "1 artifact removed" in out
    assert [a.path.is_dir() for a in stored] == [True, True, True, False, True]
    assert not left.exists()


def test_prune_removes_nothing_while_a_sweep_runs_or_a_record_cannot_be_read(
    stored: list[Artifact], tmp_path: Path
) -> None:
    with SweepFolder(tmp_path / "two").driving(), pytest.raises(StorageError, match="two is"):
        invoke(tmp_path, "prune", "--yes")
    (tmp_path / "one" / "trials" / "t0001" / "record.json").write_text("{")
    with pytest.raises(StorageError, match="cannot be read"):
        invoke(tmp_path, "prune", "--yes")
    assert all(artifact.path.is_dir() for artifact in stored)


def test_an_artifact_that_is_being_built_is_not_removed(
    stored: list[Artifact], tmp_path: Path
) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    entry = next(use.stored for use in uses(FolderShelf(tmp_path)) if use.removable)

    def build(folder: Path) -> None:
        assert not ArtifactStore(store.root).remove(entry)
        (folder / "data").write_text("new")

    (stored[3].path / "data").unlink()
    assert store.build(stored[3].key, build).built
    assert store.remove(entry) and not store.has(stored[3].key)


def test_a_storage_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none at"):
        invoke(tmp_path / "nowhere", "list")


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0 min"), (3600, "60 min"), (7200, "2 h"), (864000, "10 d")]
)
def test_age(seconds: float, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.artifact_uses.time.time", lambda: 1e9)
    assert age(1e9 - seconds) == expected
