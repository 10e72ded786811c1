"""Commands on what a storage holds: list, remove, bring in step. Registered in entry.py."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rc_core.errors import InputError, StorageError
from rc_core.labels import count_of
from sweeps.cli.options import JsonOption, StorageOption, SweepArgument, flag, load, storage_folder

if TYPE_CHECKING:
    from sweeps.folder import SweepFolder
    from sweeps.removal import Removal


def list_sweeps(storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """List the sweeps of a storage: state, trials, age, size, whether confirmed and tested."""
    from sweeps.inventory import as_json as plain
    from sweeps.inventory import as_text, leftovers, stored_sweeps

    root = storage_folder(storage)
    found = stored_sweeps(root)
    if as_json:
        typer.echo(json.dumps(plain(found), indent=1))
    else:
        typer.echo(as_text(found, _shown(root), leftovers(root)))


def remove(
    sweep: SweepArgument,
    storage: StorageOption = None,
    yes: Annotated[bool, flag("--yes", "Do not ask.")] = False,
) -> None:
    """Remove a sweep that has ended, and its confirmation: trials, models, all of it.

    Of a storage at a URI what lies there goes too. What sweeps share stays until rc-sweep
    artifacts prune.
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
        typer.echo(f"what an earlier removal had left of {sweep} is removed")
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
        typer.echo(f"what only it used of the shared artifacts can be freed with: {prune}")
    elif found.freed:
        total = size(sum(stored.size for stored in found.freed))
        typer.echo(
            f"{count_of(len(found.freed), 'shared artifact')}, {total}, used by no sweep now; "
            f"free them with: {prune}"
        )
    for line in removal.forget_runs(found):
        typer.echo(line)
    if searched is not None and not searched.is_running():
        # Its own driver, where there is one, says all of this at its end.
        from sweeps.reporting.write import refresh_report
        from sweeps.stored_sweep import StoredSweep
        from sweeps.tracking.afterwards import tell_unconfirmed

        refresh_report(StoredSweep(searched))
        tell_unconfirmed(StoredSweep(searched))


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
    left = folder.unshared()
    # Nothing is uploaded beside a driver, which does that itself.
    typer.echo(
        f"{left}; it runs on this machine, and its driver uploads what is left"
        if left
        else f"{folder.name} is in step with {folder.mirror.uri}"
    )


def _searched(folder: SweepFolder) -> SweepFolder | None:
    """Return the sweep that a confirmation is of, None for any other one."""
    from sweeps.ending import confirmed_by

    # What is removed may be broken; then nobody knows what it was of.
    with suppress(InputError, OSError, LookupError, TypeError):
        found = confirmed_by(folder, folder.read_config())
        return None if found.path == folder.path else found
    return None


def _shown(root: Path) -> str:
    from sweeps.remote.mirror import Mirror

    mirror = Mirror.at(root)
    return str(root) if mirror is None else mirror.uri


def _described(found: Removal) -> list[str]:
    """Return what would go, a line for each sweep."""
    from sweeps.artifact_uses import size

    lines = []
    for each in found.sweeps:
        counts = f"{each.finished} finished trials of {each.planned}, {size(each.size)}"
        seal = "; its sealed test was opened" if each.tested else ""
        lines.append(f"{each.folder.path}: {each.state}, {counts}{seal}")
    return lines
