"""The commands that messages suggest: as they stand, they find the sweep that the message is of.

No torch, Ray or MLflow here: the quick commands use this.
"""

from __future__ import annotations

from sweeps.folder import SweepFolder
from sweeps.storages import command_at


def command(folder: SweepFolder, verb: str, *rest: str) -> str:
    """Return `rc-sweep VERB SWEEP ...`, with --storage where the sweep is not found without it.

    A sweep may lie where `--storage`, `storage:` of its YAML, or its own path said.

    Args:
        folder: of the sweep.
        verb: `resume`, `export`, ...
        rest: options, in the order in which they are shown.
    """
    return command_at(folder.storage, folder.name, verb, *rest)
