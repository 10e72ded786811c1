"""Files that a reader finds old or new, never in part, however many processes write at once."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
