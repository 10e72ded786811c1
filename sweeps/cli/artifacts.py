"""`rc-sweep artifacts`: what the sweeps of a storage share. Registered in sweeps/cli/entry.py."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from rc_core.errors import InputError
from rc_core.labels import count_of
from sweeps.cli.options import JsonOption, StorageOption, flag, storage_folder, storage_name

if TYPE_CHECKING:
    from sweeps.artifact_uses import Shelf

app = typer.Typer(
    no_args_is_help=True,
    help="List, verify and prune what the sweeps of a storage share (teachers, difficulty, ...).",
)


@app.command("list")
def list_artifacts(storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """List shared artifacts: kind, size, age, build time, and the sweeps that use each."""
    from sweeps.artifact_uses import MEASURED_KINDS, age, size, uses

    found = uses(_shelf(storage))
    if as_json:
        rows = [
            {
                "kind": use.stored.kind,
                "key": use.stored.key,
                "bytes": use.stored.size,
                "created": use.stored.created,
                "seconds": use.stored.seconds,
                "sweeps": list(use.sweeps),
            }
            for use in found
        ]
        typer.echo(json.dumps(rows, indent=1))
        return
    if not found:
        typer.echo(f"no artifacts in {storage_name(storage)}")
        return
    for use in found:
        measured = "measured on a machine" if use.stored.kind in MEASURED_KINDS else "no sweep"
        typer.echo(
            f"{use.stored.kind:<20} {use.stored.key}  {size(use.stored.size):>9}  "
            f"{age(use.stored.created):>7} old  built in {use.stored.seconds:.0f} s  "
            f"{', '.join(use.sweeps) or measured}"
        )
    total = sum(use.stored.size for use in found)
    free = [use for use in found if use.removable]
    typer.echo(
        f"{count_of(len(found), 'artifact')}, {size(total)}; {len(free)} of them, "
        f"{size(sum(use.stored.size for use in free))}, used by no sweep (rc-sweep artifacts prune)"
    )


@app.command()
def verify(storage: StorageOption = None) -> None:
    """Verify the checksums of all shared artifacts; exit with 1 if one is damaged."""
    from sweeps.artifact_uses import uses

    shelf = _shelf(storage)
    found = uses(shelf)
    damaged = 0
    for use in found:
        problem = shelf.damage(use.stored)
        if problem is not None:
            damaged += 1
            users = f" (used by {', '.join(use.sweeps)})" if use.sweeps else ""
            typer.echo(f"{use.stored.kind}/{use.stored.key}: {problem}{users}", err=True)
    typer.echo(
        f"{len(found) - damaged} of {count_of(len(found), 'artifact is', 'artifacts are')} intact"
    )
    if damaged:
        typer.echo("the next sweep that needs a damaged artifact builds it again", err=True)
        raise typer.Exit(1)


@app.command()
def prune(
    storage: StorageOption = None,
    dry_run: Annotated[
        bool, flag("--dry-run", "Show what would be removed; remove nothing.")
    ] = False,
    yes: Annotated[bool, flag("--yes", "Do not ask for confirmation.")] = False,
) -> None:
    """Remove shared artifacts that no sweep uses, and what killed builders left behind."""
    from sweeps.artifact_uses import size, uses

    shelf = _shelf(storage)
    shelf.check_nothing_runs()
    free = [use.stored for use in uses(shelf) if use.removable]
    left = shelf.leftovers()
    for stored in free:
        typer.echo(f"{stored.kind}/{stored.key}: {size(stored.size)}, used by no sweep")
    for path in left:
        typer.echo(f"{path.relative_to(shelf.root)}: left by a builder that was killed")
    total = size(sum(stored.size for stored in free))
    if dry_run or not (free or left):
        typer.echo(f"{count_of(len(free), 'artifact')}, {total}, can be removed")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise InputError(
                "removing artifacts must be confirmed, but there is no terminal to ask on; "
                "add --yes"
            )
        typer.confirm(f"Remove {count_of(len(free), 'artifact')}, {total}?", abort=True)
    removed = [stored for stored in free if shelf.remove(stored)]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    gone = size(sum(each.size for each in removed))
    typer.echo(f"{count_of(len(removed), 'artifact')} removed, {gone}")


def _shelf(storage: str | None) -> Shelf:
    from sweeps.artifact_uses import FolderShelf
    from sweeps.remote.mirror import Mirror
    from sweeps.remote.shelf import RemoteShelf

    root = storage_folder(storage)
    mirror = Mirror.at(root)
    return FolderShelf(root) if mirror is None else RemoteShelf(mirror)
