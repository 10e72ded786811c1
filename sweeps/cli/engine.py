"""Commands on the search itself: replaying a finished sweep. Registered in sweeps/cli/entry.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from rc_core.errors import InputError
from rc_core.labels import count_of
from sweeps.cli.options import JsonOption, StorageOption, load


def simulate(
    sweep: Annotated[
        str, typer.Argument(metavar="SWEEP", help="Name or path of a sweep, or file of a table.")
    ],
    scheduler: Annotated[
        list[str] | None,
        typer.Option(
            "--scheduler",
            metavar="NAME[:KEY=VALUE,...]",
            help="Scheduler to simulate, e.g. pareto_asha:variant=promotion,eta=2. Repeatable: the "
            "results are shown side by side (default: none and pareto_asha).",
        ),
    ] = None,
    search: Annotated[
        str,
        typer.Option(
            "--search", help="random, or a sampler, whose points stand for their nearest trials."
        ),
    ] = "random",
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Number of random orders of the trials.")
    ] = 200,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Number of trials that run at once.")
    ] = 4,
    export_table: Annotated[
        Path | None,
        typer.Option(
            "--export-table", help="Write the sweep's table to this file; simulate nothing."
        ),
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a sweep that stopped no trial early under schedulers and searches. Trains nothing."""
    if export_table is not None and as_json:
        raise InputError(
            "--export-table simulates nothing, so there is nothing to print: leave --json out"
        )
    from sweeps.simulation import simulated
    from sweeps.simulation.replay import read_table, table_of, write_table

    if Path(sweep).is_file():
        table = read_table(Path(sweep))
    else:
        found = load(sweep, storage)
        table = table_of(found.records, found.config)
    if export_table is not None:
        write_table(table, export_table)
        typer.echo(f"{count_of(len(table.trials), 'trial')} written to {export_table}")
        note = simulated.stopped_note(table)
        if note is not None:
            typer.echo(note, err=True)
        return
    sections = [_section(text) for text in scheduler or ("none", "pareto_asha")]
    results = [
        simulated.simulate(table, section, search=search, seeds=seeds, workers=workers)
        for section in sections
    ]
    if as_json:
        document = simulated.as_json(results, table, search=search, workers=workers)
        typer.echo(json.dumps(document, indent=1))
    else:
        typer.echo(simulated.as_text(results, table, search=search, workers=workers))


def _section(text: str) -> dict[str, Any]:
    """Read `name:key=value,key=value` as a scheduler's section of a YAML. Raises InputError."""
    import yaml

    wrong = InputError(f"--scheduler must look like pareto_asha:eta=2,grace=1, but got '{text}'")
    name, _, rest = text.partition(":")
    section: dict[str, Any] = {"name": name}
    for part in filter(None, rest.split(",")):
        key, sign, value = part.partition("=")
        if not sign:
            raise wrong
        try:
            section[key.strip()] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):  # ValueError: an impossible date
            raise wrong from None
    return section
