"""Files that are replaced as a whole, also by two writers at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rc_core import atomic
from rc_core.atomic import drop_half_line, replacing, write_text
from sweeps.folder import SweepFolder


def test_of_two_writers_neither_loses_its_file_nor_publishes_half_of_the_others(
    tmp_path: Path,
) -> None:
    """A report that a user writes while the driver writes its own."""
    path = tmp_path / "report.html"
    with replacing(path) as first:
        first.write_text("half of the")
        with replacing(path) as second:
            second.write_text("the other's")
        assert path.read_text() == "the other's"
        first.write_text("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_the_old_file_is_there_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    write_text(path, "old")
    with pytest.raises(OSError, match="full"), replacing(path) as temporary:
        temporary.write_text("ne")
        raise OSError("the disk is full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_sweeps_configuration_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a sweep cannot be resumed; as for its records."""
    synced: list[bool] = []
    folder = SweepFolder.create(tmp_path, "one", "x")
    monkeypatch.setattr(os, "fsync", lambda _: synced.append((folder.path / "sweep.yaml").exists()))
    folder.write_config({"model": "tiny:bert"})
    assert synced == [False] and folder.read_config() == {"model": "tiny:bert"}


@pytest.mark.parametrize("chunk", [1, 3, 1 << 16])
@pytest.mark.parametrize(
    ("content", "kept"),
    [("", ""), ("half", ""), ("a\nbc\n", "a\nbc\n"), ("a\nbc\nhalf", "a\nbc\n")],
)
def test_only_half_a_line_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, content: str, kept: str
) -> None:
    monkeypatch.setattr(atomic, "_CHUNK", chunk)
    path = tmp_path / "lines"
    if content:
        path.write_text(content)
    drop_half_line(path)
    assert path.read_text() == kept
