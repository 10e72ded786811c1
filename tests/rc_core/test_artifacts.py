"""The store: built once, whole, checksummed, by whoever comes first."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from rc_core.artifacts import ArtifactKey, ArtifactStore
from rc_core.errors import ArtifactError, StorageError

KEY = ArtifactKey("thing", 1, {"seed": 0})
# Of a worker process: where both wait before they build, how many builders were called.
_start: Barrier
_calls: Synchronized[int]


def write(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "data.txt").write_text("content")


def test_a_second_build_reuses_the_first(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    assert not store.has(KEY)
    first = store.build(KEY, write)
    second = ArtifactStore(tmp_path).build(KEY, lambda folder: pytest.fail("built twice"))
    assert first.built and not second.built
    assert (second.path / "sub" / "data.txt").read_text() == "content"
    assert store.has(KEY)


def test_the_key_depends_on_kind_version_and_inputs() -> None:
    keys = {
        KEY.key,
        ArtifactKey("other", 1, {"seed": 0}).key,
        ArtifactKey("thing", 2, {"seed": 0}).key,
        ArtifactKey("thing", 1, {"seed": 1}).key,
    }
    assert len(keys) == 4


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("no power")

    with pytest.raises(RuntimeError, match="no power"):
        store.build(KEY, fail)
    assert not store.has(KEY)
    assert [path.name for path in (tmp_path / "thing").iterdir()] == [f".{KEY.key}.lock"]
    assert store.build(KEY, write).built


def test_what_a_killed_builder_left_goes_with_the_next_build(tmp_path: Path) -> None:
    other = f".{'0' * 16}.1"
    for name in (f".{KEY.key}.1", other):
        (tmp_path / "thing" / name / "model").mkdir(parents=True)
    ArtifactStore(tmp_path).build(KEY, write)
    left = {path.name for path in (tmp_path / "thing").iterdir()}
    assert left == {KEY.key, f".{KEY.key}.lock", other}


@pytest.mark.parametrize("damage", ["changed", "cut", "deleted", "manifest"])
def test_a_damaged_artifact_is_noticed_and_rebuilt(tmp_path: Path, damage: str) -> None:
    path = ArtifactStore(tmp_path).build(KEY, write).path
    file = path / "sub" / "data.txt"
    if damage == "changed":
        file.write_text("tampered"[: len("content")])
    elif damage == "cut":
        file.write_text("con")
    elif damage == "deleted":
        file.unlink()
    else:
        (path / "artifact.json").write_text("{")
    store = ArtifactStore(tmp_path)
    with pytest.raises(ArtifactError, match="delete"):
        store.get(KEY)
    assert store.build(KEY, write).built
    assert file.read_text() == "content"


def test_a_store_that_cannot_be_written_is_the_users_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="must be writable"):
        ArtifactStore(tmp_path / "file").build(KEY, write)


def _share(barrier: Barrier, calls: Synchronized[int]) -> None:
    global _start, _calls
    _start, _calls = barrier, calls


def _slow(folder: Path) -> None:
    with _calls.get_lock():
        _calls.value += 1
    # Long enough for the other process to come to the same place, if nothing keeps it.
    time.sleep(0.5)
    write(folder)


def _build(root: Path) -> bool:
    store = ArtifactStore(root)
    _start.wait(timeout=120)
    return store.build(KEY, _slow).built


def test_two_processes_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    calls = context.Value("i", 0)
    with context.Pool(2, initializer=_share, initargs=(context.Barrier(2), calls)) as pool:
        built = pool.map(_build, [tmp_path, tmp_path], chunksize=1)
    assert sorted(built) == [False, True]
    assert calls.value == 1
