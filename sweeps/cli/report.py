"""The report and the comparison of sweeps. Registered in sweeps/cli/entry.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rc_core.errors import InputError
from sweeps.cli.options import JsonOption, StorageOption, SweepArgument, load, searched

OutOption = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder to write to.")]


def report(
    sweep: SweepArgument,
    out: OutOption = None,
    storage: StorageOption = None,
) -> None:
    """Write a report of the sweep: one HTML file, PNG pictures and a Markdown summary."""
    from sweeps.reporting.write import write_report

    found = load(sweep, storage)
    page = write_report(found, out)
    found.folder.share()
    typer.echo(f"wrote {page} ({page.stat().st_size / 1e6:.1f} MB, works offline)")


def compare(
    sweeps: Annotated[
        list[str], typer.Argument(metavar="SWEEP...", help="Names or paths of two or more sweeps.")
    ],
    out: OutOption = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare sweeps: fronts, hypervolumes from a common reference point, best rows."""
    from sweeps.reporting.compare import compare as comparison
    from sweeps.reporting.compare import comparison_json, comparison_text
    from sweeps.reporting.facts import Facts

    loaded = [searched(sweep, storage) for sweep in sweeps]
    paths = [each.path for each in loaded]
    twice = [name for i, name in enumerate(sweeps) if paths[i] in paths[:i]]
    if twice:
        raise InputError(
            f"a comparison needs different sweeps, but '{twice[0]}' is given twice; name another"
        )
    found = comparison([Facts.read(each) for each in loaded])
    typer.echo(json.dumps(comparison_json(found), indent=1) if as_json else comparison_text(found))
    if out is not None:
        from sweeps.reporting.compare_page import write_comparison

        typer.echo(f"wrote {write_comparison(found, out)}", err=as_json)
