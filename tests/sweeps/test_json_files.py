"""A damaged state file is told with what to do, whatever reads it; it is no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rc_core.errors import StorageError
from sweeps.engine.budget import Usage
from sweeps.failure import failure_of
from sweeps.folder import SweepFolder
from sweeps.remote.files import driven_here
from sweeps.remote.lease import other_driver
from sweeps.remote.mirror import Mirror
from sweeps.selection.answers import read_clusters
from sweeps.selection.measured import read_latency
from sweeps.selection.stamp import read_test
from sweeps.stored_sweep import StoredSweep
from tests.sweeps._made_sweep import make_sweep

READERS: dict[str, tuple[Callable[[SweepFolder], Any], str]] = {
    "test.json": (lambda folder: read_test(StoredSweep(folder)), "rc-sweep test made"),
    "attempt.json": (lambda folder: folder.attempt(), "trials/*/record.json"),
    "attempt.json ": (lambda folder: driven_here(folder.path), "trials/*/record.json"),
    "clusters.json": (lambda folder: read_clusters(folder.clusters), "remove it"),
    "usage.json": (lambda folder: Usage(folder.usage, gpu=0), "counts from 0"),
    "latency.json": (read_latency, "rc-sweep latency made"),
    "failure.json": (lambda folder: failure_of(folder.path), "only shown"),
    "lease.json": (lambda folder: other_driver(None, folder.path), "fetched again"),  # type: ignore[arg-type]
    ".remote.json": (lambda folder: Mirror.at(folder.path), "--storage URI"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    return make_sweep(tmp_path_factory.mktemp("storage"), "made", trials=2, track=False)


@pytest.mark.parametrize("content", ['{"attempt": ', "[]", '{"openings": 3, "x": [1]}'])
@pytest.mark.parametrize("name", READERS)
def test_what_is_damaged_is_told_with_what_to_do(
    folder: SweepFolder, name: str, content: str
) -> None:
    read, advice = READERS[name]
    path = folder.path / name.strip()
    before = path.read_text() if path.is_file() else None
    path.write_text(content)
    try:
        if name == "usage.json" and content.startswith('{"o'):
            return  # has no hours: an older version's
        with pytest.raises(StorageError) as caught:
            read(folder)
        assert str(path) in str(caught.value) and advice in str(caught.value)
    finally:
        path.unlink()
        if before is not None:
            path.write_text(before)


@pytest.mark.parametrize("name", READERS)
def test_what_is_not_there_is_no_damage(folder: SweepFolder, name: str, tmp_path: Path) -> None:
    bare = SweepFolder(tmp_path / "made")
    bare.path.mkdir()
    (bare.path / "sweep.yaml").write_text((folder.path / "sweep.yaml").read_text())
    READERS[name][0](bare)
