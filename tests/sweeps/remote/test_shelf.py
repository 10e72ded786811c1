"""`rc-sweep artifacts` on a storage at a URI: asked of the bucket, from any machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rc_core.artifacts import Artifact, ArtifactKey, ArtifactStore
from rc_core.errors import StorageError
from rc_core.record import TrialRecord
from sweeps.cli.artifacts import app
from sweeps.folder import SweepFolder
from sweeps.remote import lease
from sweeps.remote.mirror import Mirror
from sweeps.storages import storage_root
from tests._s3 import S3Server


def invoke(s3: S3Server, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*arguments, "--storage", s3.storage])
    if isinstance(done.exception, StorageError):
        raise done.exception
    return done.exit_code, done.output


@pytest.fixture
def mirror(s3: S3Server) -> Mirror:
    found = Mirror.at(storage_root(s3.storage))
    assert found is not None
    return found


@pytest.fixture
def stored(mirror: Mirror) -> list[Artifact]:
    """Two artifacts at the bucket; sweep `one` names the first."""
    store = ArtifactStore(mirror.root / "artifacts", mirror.artifacts)
    found = [
        store.build(ArtifactKey(kind, 1, {}), lambda path: (path / "data").write_text("x" * 1000))
        for kind in ("teacher", "unused")
    ]
    folder = SweepFolder.create(mirror.root, "one", "x")
    folder.write_config({"model": "tiny:bert"})
    named = {"teacher": found[0].key.key}
    record = TrialRecord(
        id="t0001", status="stopped", config={}, fingerprint="f", started=0.0, artifacts=named
    )
    folder.trial("t0001").commit(record)
    folder.share()
    return found


def kinds_there(s3: S3Server) -> set[str]:
    # Keys that end in a slash are pyarrow's marks of empty folders.
    keys = [key for key in s3.listing() if not key.endswith("/")]
    return {key.split("/")[1] for key in keys if key.startswith("artifacts/")}


def test_another_machine_lists_them_with_the_sweeps_that_use_them(
    s3: S3Server, stored: list[Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RC_STATE", str(tmp_path / "elsewhere"))
    code, out = invoke(s3, "list", "--json")
    assert code == 0
    rows = {row["kind"]: row for row in json.loads(out)}
    assert rows["teacher"]["sweeps"] == ["one"] and rows["unused"]["sweeps"] == []
    assert rows["teacher"]["key"] == stored[0].key.key and rows["teacher"]["bytes"] > 1000
    manifest = json.loads((stored[0].path / "artifact.json").read_text())
    assert rows["teacher"]["created"] == manifest["created"]


def test_verify_finds_what_was_damaged_in_the_bucket(
    s3: S3Server, stored: list[Artifact], mirror: Mirror
) -> None:
    assert invoke(s3, "verify") == (0, "2 of 2 artifacts are intact\n")
    mirror.objects.write(f"artifacts/teacher/{stored[0].key.key}/data", b"y" * 1000)
    code, out = invoke(s3, "verify")
    assert code == 1 and "checksum" in out and "used by one" in out and "1 of 2" in out
    assert (stored[0].path / "data").read_text() == "x" * 1000, "what is here is left alone"


def test_prune_removes_there_and_here_so_that_nothing_is_uploaded_again(
    s3: S3Server, stored: list[Artifact], mirror: Mirror
) -> None:
    assert "can be removed" in invoke(s3, "prune", "--dry-run")[1]
    assert kinds_there(s3) == {"teacher", "unused"}
    code, out = invoke(s3, "prune", "--yes")
    assert code == 0 and "1 artifact removed" in out
    assert kinds_there(s3) == {"teacher"} and not stored[1].path.exists()
    mirror.artifacts.keep_left()
    assert kinds_there(s3) == {"teacher"}
    assert stored[0].path.is_dir()


def test_an_upload_that_may_go_on_is_left_alone(
    s3: S3Server, stored: list[Artifact], mirror: Mirror
) -> None:
    mirror.objects.delete(f"artifacts/unused/{stored[1].key.key}/artifact.json")
    code, out = invoke(s3, "prune", "--yes")
    assert code == 0 and "0 artifacts removed" in out
    assert kinds_there(s3) == {"teacher", "unused"}


def test_prune_removes_nothing_while_this_machine_runs_a_sweep(
    s3: S3Server, stored: list[Artifact], mirror: Mirror
) -> None:
    waits = pytest.raises(StorageError, match="but one is; wait for it")
    with SweepFolder(mirror.root / "one").driving(), waits:
        invoke(s3, "prune", "--yes")
    assert kinds_there(s3) == {"teacher", "unused"}


def test_prune_removes_nothing_while_another_machine_runs_a_sweep(
    s3: S3Server,
    stored: list[Artifact],
    mirror: Mirror,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)
    lease.take(mirror, mirror.root / "one", 1, over=False)
    monkeypatch.setenv("RC_STATE", str(tmp_path / "elsewhere"))
    with pytest.raises(StorageError, match="being run by another machine"):
        invoke(s3, "prune", "--yes")
    assert kinds_there(s3) == {"teacher", "unused"}


def test_a_mixture_of_two_uploads_is_built_again_and_repaired(
    s3: S3Server, stored: list[Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = stored[0]

    def mirror_on(machine: str) -> Mirror:
        monkeypatch.setenv("RC_STATE", str(tmp_path / machine))
        found = Mirror.at(storage_root(s3.storage))
        assert found is not None
        return found

    def built_on(machine: str, content: str) -> Artifact:
        mirror = mirror_on(machine)
        store = ArtifactStore(mirror.root / "artifacts", mirror.artifacts)
        return store.build(artifact.key, lambda path: (path / "data").write_text(content))

    # The manifest is that of the first, the file another machine's.
    place = f"artifacts/{artifact.key.kind}/{artifact.key.key}"
    mirror_on("other").objects.write(f"{place}/data", b"y" * 1000)
    s3.fails = lambda request: request == f"PUT some/where/{place}/artifact.json"
    assert built_on("b", "z" * 1000).built, "what was brought is not what its checksum says"
    s3.fails = lambda request: False
    # Another process of this machine uploads what could not be.
    mirror_on("b").artifacts.keep_left()
    again = built_on("c", "not used")
    assert not again.built and (again.path / "data").read_text() == "z" * 1000
    s3.log.clear()
    mirror_on("b").artifacts.keep("teacher", artifact.key.key, again.path)
    assert s3.puts == [], "once it is whole the first upload stays"
