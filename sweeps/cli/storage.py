"""Commands on the sweeps of a storage: list, remove, synchronise. Registered in entry.py."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from rc_core.errors import InputError, StorageError
from rc_core.labels import count_of
from sweeps.cli.options import (
    JsonOption,
    StorageOption,
    SweepArgument,
    flag,
    load,
    storage_folder,
    storage_name,
)

if TYPE_CHECKING:
    from sweeps.folder import SweepFolder
    from sweeps.removal import Removal


def list_sweeps(storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """List the sweeps of a storage: state, trials, age, size, and if confirmed and tested."""
    from sweeps.inventory import as_json as plain
    from sweeps.inventory import as_text, leftovers, stored_sweeps

    root = storage_folder(storage)
    found = stored_sweeps(root)
    if as_json:
        typer.echo(json.dumps(plain(found), indent=1))
    else:
        typer.echo(as_text(found, storage_name(storage), leftovers(root)))


def remove(
    sweep: SweepArgument,
    storage: StorageOption = None,
    yes: Annotated[bool, flag("--yes", "Do not ask for confirmation.")] = False,
) -> None:
    """Remove a sweep that has ended, with its confirmation: trials, models, everything.

    In a storage at a URI the copy there is removed too. Artifacts that sweeps share stay until
    rc-sweep artifacts prune.
    """
    from sweeps import removal
    from sweeps.artifact_uses import size
    from sweeps.folder import SweepFolder

    root = storage_folder(storage, sweep)
    try:
        folder = SweepFolder.find(sweep, root)
    except StorageError:
        if not removal.finish_removal(sweep, root):
            raise
        typer.echo(f"removed what an earlier, interrupted removal had left of {sweep}")
        return
    found = removal.plan_removal(folder)
    if not yes:
        if not sys.stdin.isatty():
            raise InputError(
                f"removing {folder.name} must be confirmed, but there is no terminal to ask on; "
                "add --yes"
            )
        typer.echo("\n".join(_described(found)))
        typer.confirm("Remove it for good?", abort=True)
    searched = _searched(folder)
    removal.remove(found)
    names = " and ".join(each.folder.name for each in reversed(found.sweeps))
    typer.echo(f"removed {names}: {size(sum(each.size for each in found.sweeps))}")
    prune = removal.prune_command(found.storage)
    if found.freed is None:
        typer.echo(f"free the shared artifacts that only it used with: {prune}")
    elif found.freed:
        total = size(sum(stored.size for stored in found.freed))
        typer.echo(
            f"no sweep uses {count_of(len(found.freed), 'shared artifact')} ({total}) now; free "
            f"the space with: {prune}"
        )
    for line in removal.forget_runs(found):
        typer.echo(line)
    if searched is not None and not searched.is_running():
        # A running driver does all of this itself when it ends.
        from sweeps.reporting.write import refresh_report
        from sweeps.stored_sweep import StoredSweep
        from sweeps.tracking.afterwards import tell_unconfirmed

        refresh_report(StoredSweep(searched))
        tell_unconfirmed(StoredSweep(searched))


def sync(
    sweep: SweepArgument,
    models: Annotated[
        bool, flag("--models", "Also download the models and predictions of all trials.")
    ] = False,
    storage: StorageOption = None,
) -> None:
    """Synchronise a sweep with its storage's URI: upload what is missing, download what is new."""
    folder = load(sweep, storage).folder
    if folder.mirror is None:
        raise InputError(
            f"rc-sweep sync needs a storage at a URI, but {folder.storage} is a folder, which has "
            "nothing to synchronise; name the other one: --storage s3://bucket/prefix"
        )

    folder.share()
    if models:
        for part in ("model", "predictions"):
            folder.mirror.bring(folder.name, part)
    left = folder.unshared()
    # A running driver uploads its files itself.
    typer.echo(
        f"{left}; the sweep runs on this machine, and its driver will upload the rest"
        if left
        else f"{folder.name} and {folder.mirror.uri} are in sync"
    )


def _searched(folder: SweepFolder) -> SweepFolder | None:
    """Return the sweep that a confirmation confirms, None for any other sweep."""
    from sweeps.ending import confirmed_by

    # The removed sweep may be broken; then its sweep is unknown.
    with suppress(InputError, OSError, LookupError, TypeError):
        found = confirmed_by(folder, folder.read_config())
        return None if found.path == folder.path else found
    return None


def _described(found: Removal) -> list[str]:
    """Return what would be removed, one line per sweep."""
    from sweeps.artifact_uses import size

    lines = []
    for each in found.sweeps:
        counts = f"{each.finished} finished trials of {each.planned}, {size(each.size)}"
        seal = "; its sealed test was opened" if each.tested else ""
        lines.append(f"{each.folder.path}: {each.state}, {counts}{seal}")
    return lines
