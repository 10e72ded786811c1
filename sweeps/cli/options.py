"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override, e.g. training.epochs=3. Repeatable."
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Folder or s3://bucket/prefix of all sweeps (default: RC_STORAGE or ./rc_storage).",
    ),
]
SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep's name, or its path.")]
AddressOption = Annotated[
    str, typer.Option("--address", help="local, auto, or HOST:PORT of a Ray cluster.")
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONSTRAINT",
        help="E.g. 'footprint/parameters <= 20e6', 'id_dev/accuracy >= reference - 0.02', "
        "'latency/relative <= 0.7' (after rc-sweep latency). Repeatable.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def load(sweep: str, storage: str | Path | None) -> Any:
    """Return a sweep by name or path. Raises StorageError."""
    from sweeps.sweep import Sweep

    return Sweep.load(sweep, storage=storage)
