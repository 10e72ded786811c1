"""Small JSON files on the state of a sweep; a damaged one is an error that says what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rc_core.errors import StorageError

ReadT = TypeVar("ReadT")


def read_json(path: Path, read: Callable[[Any], ReadT], *, what: str, advice: str) -> ReadT | None:
    """Return the content of a JSON file, None if there is no file.

    Args:
        path: the file.
        read: converts the plain values; raises a built-in error if they are wrong.
        what: what the file must be, for messages: `what rc-sweep latency wrote`.
        advice: what to do if it is not.

    Raises:
        StorageError: it cannot be read, is not JSON (cut short), or `read` fails.
    """
    try:
        return read(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise StorageError(f"{path} must be {what}, but is not ({reason}); {advice}") from error
