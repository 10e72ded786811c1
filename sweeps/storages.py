"""Storages: the folder that one is, and commands as they find a sweep in it.

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

    Of a URI it is the mirror, made where there is none. Raises StorageError for other URIs.
    """
    asked = str(given or os.environ.get("RC_STORAGE") or DEFAULT_STORAGE)
    path = local_path(asked)
    return Mirror.of(parse(asked)).root if path is None else path.expanduser().resolve()


def command_at(storage: Path, name: str, verb: str, *rest: str) -> str:
    """Return `rc-sweep VERB NAME ...`, with --storage where the sweep is not found without it.

    Args:
        storage: the folder that the sweep lies in.
        name: of the sweep.
        verb: `resume`, `export`, ...
        rest: options, in the order in which they are shown.
    """
    words = ["rc-sweep", verb, name, *rest]
    if not _is_found(storage):
        mirror = Mirror.at(storage)
        words += ["--storage", str(storage) if mirror is None else mirror.uri]
    return shlex.join(words)


def _is_found(storage: Path) -> bool:
    """Tell whether a storage is the one that a command looks in by itself."""
    try:
        return storage == storage_root(None)
    except StorageError:
        # RC_STORAGE names what is none, so the user had to name another one.
        return False
