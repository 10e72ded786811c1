"""Files that a reader finds old or new, never in part, however many processes write at once.

Lines that are appended may be cut short by a kill: see `drop_half_line`.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CHUNK = 1 << 16


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new place beside a file; what is written there replaces the file.

    After an error the file is as it was, and nothing is left beside it.

    Raises:
        OSError: it cannot be replaced.
    """
    # A process's number is not enough: its threads write too, and so do other machines' processes.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, sync: bool = False) -> None:
    """Write a text file as a whole.

    Args:
        path: of the file.
        text: all of it.
        sync: wait until the disk has it, so that a machine that fails leaves no empty file.

    Raises:
        OSError: it cannot be written; the old file, if there is one, is as it was.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        if sync:
            stream.flush()
            os.fsync(stream.fileno())


def drop_half_line(path: Path) -> None:
    """Cut off what a killed process has left of a last line; the file is made where there is none.

    For files to which lines are appended: what is written next would make one of the two.
    """
    path.touch()
    size = whole = path.stat().st_size
    with path.open("rb") as stream:
        # From the end: such a file may be larger than the memory that is left.
        while whole:
            start = max(whole - _CHUNK, 0)
            stream.seek(start)
            found = stream.read(whole - start).rfind(b"\n")
            whole = start + found + 1
            if found >= 0:
                break
    if whole < size:
        os.truncate(path, whole)


def flush(path: Path) -> None:
    """Wait until the disk has a file that something else wrote.

    Raises:
        OSError: there is none, or the disk fails.
    """
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def write_json(path: Path, content: Any) -> None:
    """Write plain values as JSON, as a whole, and wait until the disk has them.

    Raises:
        OSError: it cannot be written; the old file, if there is one, is as it was.
        ValueError: a value is NaN or infinite, which JSON does not know.
    """
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n", sync=True)
