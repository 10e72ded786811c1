"""Small JSON files that say how a sweep stands: one that is damaged is told, with what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rc_core.errors import StorageError

ReadT = TypeVar("ReadT")


def read_json(path: Path, read: Callable[[Any], ReadT], *, what: str, advice: str) -> ReadT | None:
    """Return what a JSON file holds, None where there is none.

    Args:
        path: of the file.
        read: turns its plain values into what is returned; what they lack is an error of its own.
        what: it must be: `what rc-sweep latency wrote`.
        advice: what to do where it is not.

    Raises:
        StorageError: it cannot be read, is no JSON (was cut short), or is not what it must be.
    """
    try:
        return read(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise StorageError(f"{path} must be {what}, but is not ({reason}); {advice}") from error
