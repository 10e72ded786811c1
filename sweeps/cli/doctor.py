"""`rc-sweep doctor`. Registered in sweeps/cli/entry.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rc_core.errors import InputError
from sweeps.cli.options import AddressOption, JsonOption, SetOption, StorageOption


def doctor(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="Also check what this sweep needs.")
    ] = None,
    overrides: SetOption = None,
    storage: StorageOption = None,
    address: AddressOption = "local",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the UI.")] = 5000,
    as_json: JsonOption = False,
) -> None:
    """Check this machine: versions, devices, storage, hub, MLflow, Ray; exit 1 on a problem."""
    if overrides and config is None:
        raise InputError(
            "--set changes keys of CONFIG, but none is given: name one, or leave --set out"
        )
    from sweeps.doctor import checks

    found = checks.examine(
        config, overrides=overrides or [], storage=storage, address=address, port=port
    )
    text = json.dumps(checks.as_json(found), indent=1) if as_json else checks.as_text(found)
    typer.echo(text)
    if not checks.healthy(found):
        raise typer.Exit(1)
