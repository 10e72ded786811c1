"""The command on a storage that is a URI. Registered in sweeps/cli/entry.py."""

from __future__ import annotations

from typing import Annotated

import typer

from rc_core.errors import InputError
from sweeps.cli.options import StorageOption, SweepArgument, flag, load


def sync(
    sweep: SweepArgument,
    models: Annotated[
        bool, flag("--models", "Bring every trial's model and predictions too.")
    ] = False,
    storage: StorageOption = None,
) -> None:
    """Bring a sweep in step with its storage's URI: upload what could not be, bring what is new."""
    folder = load(sweep, storage).folder
    if folder.mirror is None:
        raise InputError(
            f"rc-sweep sync is for a storage at a URI (s3://bucket/prefix), but {folder.storage} "
            "is a folder"
        )

    folder.share()
    if models:
        for part in ("model", "predictions"):
            folder.mirror.bring(folder.name, part)
    typer.echo(f"{folder.name} is in step with {folder.mirror.uri}")
