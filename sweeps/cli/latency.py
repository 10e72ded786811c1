"""The command that times models after training. Registered in sweeps/cli/entry.py."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sweeps.cli.options import JsonOption, StorageOption, SweepArgument, flag, load


def latency(
    sweep: SweepArgument,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Samples per batch.")] = 1,
    length: Annotated[int, typer.Option("--length", min=2, help="Tokens per sample.")] = 64,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Measurements of each model.")
    ] = 30,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of torch.")] = 1,
    trial: Annotated[
        list[str] | None,
        typer.Option(
            "--trial",
            metavar="ID",
            help="Time this trial (default: those that may be chosen, and confirmed rows). "
            "Repeatable.",
        ),
    ] = None,
    every: Annotated[bool, flag("--all", "Time every finished trial.")] = False,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu or cuda (default: cuda if available).")
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time models against the dense reference, for --where 'latency/relative <= 0.7'."""
    from rc_core.errors import InputError

    if every and trial:
        raise InputError("--all and --trial cannot be combined: give one of them")
    found = load(sweep, storage)
    from sweeps.deploy.latency import latency_table

    document = found.latency(
        batch=batch,
        length=length,
        rounds=rounds,
        threads=threads,
        trials=trial or [],
        every=every,
        device=device,
    )
    if as_json:
        typer.echo(json.dumps(document, indent=1))
    else:
        typer.echo(latency_table(found, document))
        typer.echo(f"written to {found.folder.latency}")
