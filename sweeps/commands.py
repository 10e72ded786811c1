"""The commands that messages suggest, complete so that they find the sweep concerned.

No torch, Ray or MLflow here: the quick commands use this.
"""

from __future__ import annotations

from sweeps.folder import SweepFolder
from sweeps.storages import command_at


def command(folder: SweepFolder, verb: str, *rest: str) -> str:
    """Return `rc-sweep VERB SWEEP ...`, with --storage if the sweep is not found without it.

    A sweep may be in another storage because of `--storage`, `storage:` in its YAML, or its path.

    Args:
        folder: the sweep's.
        verb: `resume`, `export`, ...
        rest: options, in the order in which they are shown.
    """
    return command_at(folder.storage, folder.name, verb, *rest)
