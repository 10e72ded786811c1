"""Storages: the folder of each, and commands that find a sweep in it.

No torch, Ray or MLflow here: the quick commands use this.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from rc_core.errors import StorageError
from sweeps.remote.address import local_path, parse
from sweeps.remote.mirror import Mirror

DEFAULT_STORAGE = "rc_storage"


def storage_root(given: str | Path | None) -> Path:
    """Return the storage folder: as given, else RC_STORAGE, else ./rc_storage.

    For an s3:// URI it is the local mirror, created if missing. Raises StorageError for others.
    """
    asked = str(given or os.environ.get("RC_STORAGE") or DEFAULT_STORAGE)
    path = local_path(asked)
    return Mirror.of(parse(asked)).root if path is None else path.expanduser().resolve()


def command_at(storage: Path, name: str, verb: str, *rest: str) -> str:
    """Return `rc-sweep VERB NAME ...`, with --storage if the sweep is not found without it.

    Args:
        storage: the folder that the sweep is in.
        name: the sweep's.
        verb: `resume`, `export`, ...
        rest: options, in the order in which they are shown.
    """
    words = ["rc-sweep", verb, name, *rest]
    if not _is_found(storage):
        mirror = Mirror.at(storage)
        words += ["--storage", str(storage) if mirror is None else mirror.uri]
    return shlex.join(words)


def _is_found(storage: Path) -> bool:
    """Tell whether a storage is the default one of commands."""
    try:
        return storage == storage_root(None)
    except StorageError:
        # RC_STORAGE is invalid, so the user must have named another.
        return False
