"""Files that a reader finds old or new, never partial, however many processes write at once.

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
    """Yield a temporary path beside a file; what is written there replaces the file.

    After an error the file is as it was, and no temporary file is left.

    Raises:
        OSError: it cannot be replaced.
    """
    # The process id is not unique enough: its threads write too, and processes on other machines.
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
        text: its whole content.
        sync: wait until the content is on disk, so that a crash of the machine leaves no empty
            file.

    Raises:
        OSError: it cannot be written; the old file, if there is one, is as it was.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        if sync:
            stream.flush()
            os.fsync(stream.fileno())


def drop_half_line(path: Path) -> None:
    """Cut off a last line that a killed process left unfinished; create the file if it is missing.

    For files to which lines are appended: the next one would be joined to the unfinished one.
    """
    path.touch()
    size = whole = path.stat().st_size
    with path.open("rb") as stream:
        # Read from the end, because the file may not fit into memory.
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
    """Wait until a file that something else wrote is on disk.

    Raises:
        OSError: the file does not exist, or the disk fails.
    """
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def write_json(path: Path, content: Any) -> None:
    """Write plain values as JSON, as a whole, and wait until they are on disk.

    Raises:
        OSError: it cannot be written; the old file, if there is one, is as it was.
        ValueError: a value is NaN or infinite, which JSON does not have.
    """
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n", sync=True)
