"""The commands that messages suggest: as they stand, they find the sweep that the message is of.

No torch, Ray or MLflow here: the quick commands use this.
"""

from __future__ import annotations

import shlex

from rc_core.errors import StorageError
from sweeps.folder import SweepFolder, storage_root


def command(folder: SweepFolder, verb: str, *rest: str) -> str:
    """Return `rc-sweep VERB SWEEP ...`, with --storage where the sweep is not found without it.

    A sweep may lie where `--storage`, `storage:` of its YAML, or its own path said.

    Args:
        folder: of the sweep.
        verb: `resume`, `export`, ...
        rest: options, in the order in which they are shown.
    """
    words = ["rc-sweep", verb, folder.name, *rest]
    if not _is_found(folder):
        where = str(folder.storage) if folder.mirror is None else folder.mirror.uri
        words += ["--storage", where]
    return shlex.join(words)


def _is_found(folder: SweepFolder) -> bool:
    """Tell whether the sweep's storage is the one that a command looks in by itself."""
    try:
        return folder.storage == storage_root(None)
    except StorageError:
        # RC_STORAGE names what is none, so the user had to name another one.
        return False
