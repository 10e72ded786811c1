"""What --storage may be, what is said of what it may not be, and what a wrong service costs."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from rc_core.artifacts import ArtifactKey, ArtifactStore
from rc_core.errors import StorageError
from sweeps.cli import app
from sweeps.doctor.storage import with_address
from sweeps.remote.address import local_path, parse
from sweeps.remote.mirror import Mirror
from sweeps.storages import storage_root
from tests._s3 import S3Server

KEY = ArtifactKey(kind="teacher", version=1, inputs={"a": 1})


def test_an_address_has_a_bucket_a_prefix_and_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RC_STATE", str(tmp_path))
    found = parse("s3://my-bucket/a/b/")
    assert (found.bucket, found.prefix, found.uri) == ("my-bucket", "a/b", "s3://my-bucket/a/b")
    assert parse("s3://my-bucket").uri == "s3://my-bucket"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9000")
    other = parse("s3://my-bucket/a/b")
    assert other.endpoint == "http://localhost:9000" and other.mirror != found.mirror
    assert other.mirror.parent == found.mirror.parent == tmp_path


@pytest.mark.parametrize(
    "text",
    ["gs://bucket/x", "s3://", "s3://Big_Bucket/x", "s3://bucket/a//b", "s3://bucket/../x",
     "s3://bucket/x?region=eu", "http://bucket/x", "file://elsewhere/x", "s3:/bucket/x"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(StorageError, match="must be"):
        storage_root(text)


def test_a_file_address_is_its_folder(tmp_path: Path) -> None:
    assert storage_root(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert local_path("plain/folder") == Path("plain/folder")


@pytest.mark.parametrize(
    ("storage", "environment", "told"),
    [
        ("s3://no-such-bucket/x", {}, "must exist"),
        ("gs://bucket/x", {}, "s3://bucket/prefix"),
        ("", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "could not be reached"),
        ("", {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "none were found"),
    ],
)
def test_a_wrong_service_is_the_users_input_and_no_traceback(
    storage: str,
    environment: dict[str, str | None],
    told: str,
    s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    mirror = Mirror.at(storage_root(s3.storage))
    assert mirror is not None
    mirror.objects.write("one/sweep.yaml", b"model: tiny:bert")
    for name, value in environment.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["status", "one", "--storage", storage or s3.storage])
    assert isinstance(done.exception, StorageError) and done.exception.exit_code == 2
    assert told in str(done.exception)


def test_the_doctor_tries_the_address_and_leaves_nothing(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = ("ok", "works", "")
    state, found, _ = with_address(storage_root(s3.storage), local)  # type: ignore[arg-type]
    assert state == "ok" and "writes, reads and deletes" in found
    assert not [key for key in s3.listing() if "doctor" in key]
    s3.fails = lambda request: request.startswith("PUT")
    assert with_address(storage_root(s3.storage), local)[0] == "problem"  # type: ignore[arg-type]


def store(s3: S3Server) -> ArtifactStore:
    mirror = Mirror.at(storage_root(s3.storage))
    assert mirror is not None
    return ArtifactStore(mirror.root / "artifacts", mirror.artifacts)


def write(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_bytes(b"w" * 1000)


def test_an_artifact_is_built_once_for_all_machines(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = store(s3).build(KEY, write)
    assert s3.puts[-1].endswith("artifact.json"), "the manifest is last"
    monkeypatch.setenv("RC_STATE", str(tmp_path / "elsewhere"))
    other = store(s3)
    assert other.has(KEY), "it is brought when it is asked for"
    found = other.build(KEY, lambda folder: pytest.fail("built twice"))
    assert found.path != built.path and not found.built
    assert (found.path / "model" / "weights").read_bytes() == b"w" * 1000


def test_a_damaged_artifact_is_built_anew(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(s3).build(KEY, write)
    mirror = Mirror.at(storage_root(s3.storage))
    assert mirror is not None
    mirror.objects.write(f"artifacts/teacher/{KEY.key}/model/weights", b"x" * 1000)
    monkeypatch.setenv("RC_STATE", str(tmp_path / "elsewhere"))
    assert store(s3).build(KEY, write).built


def test_an_artifact_is_built_where_the_service_is_down_and_uploaded_later(s3: S3Server) -> None:
    s3.fails = lambda request: True
    used = store(s3)
    assert used.build(KEY, write).built
    mirror = Mirror.at(storage_root(s3.storage))
    assert mirror is not None
    assert "1 artifact is" in mirror.unshared("one")
    s3.fails = lambda request: False
    mirror.artifacts.keep_left()
    assert mirror.unshared("one") == "" and len(s3.listing()) == 2
