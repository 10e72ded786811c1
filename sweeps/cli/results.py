"""Commands on the results of a sweep: show, confirm, test, export. Registered in entry.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from rc_core.errors import ConfigError, InputError, Problem, StorageError
from rc_core.labels import count_of
from sweeps.cli.interrupted import Interrupted
from sweeps.cli.options import (
    AddressOption,
    JsonOption,
    StorageOption,
    SweepArgument,
    WhereOption,
    checked_wheres,
    flag,
    load,
    searched,
    write_text,
)

if TYPE_CHECKING:
    from sweeps.selection.explain import Standing


def status(
    sweep: SweepArgument,
    storage: StorageOption = None,
    watch: Annotated[bool, flag("--watch", "Follow it until it ends, wherever it runs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the progress of a sweep: trials by state, what runs, what failed."""
    from sweeps.views.status import status_document, status_text

    found = load(sweep, storage, live=watch)
    if watch and as_json:
        raise ConfigError(Problem("--watch", "cannot be combined with --json: give one of them"))
    if watch:
        from sweeps.views.watch import watch as follow

        follow(found, Console(highlight=False))
        return
    typer.echo(json.dumps(status_document(found), indent=1) if as_json else status_text(found))


def pareto(
    sweep: SweepArgument,
    why: Annotated[
        str | None,
        typer.Option(
            "--why", metavar="TRIAL", help="Explain why this trial is or is not on the front."
        ),
    ] = None,
    budgets: Annotated[
        bool,
        flag(
            "--budgets",
            "Show the best trade-off within 10, 25, 50, 100 % of the reference's size, and draw it "
            "as budgets.png in the sweep's folder.",
        ),
    ] = False,
    where: WhereOption = None,
    storage: StorageOption = None,
    as_json: Annotated[
        bool,
        flag(
            "--json",
            "Print one JSON document on stdout: what satisfies every --where, or --why or "
            "--budgets. A confirmation's means are under 'confirmation', trials that an "
            "interrupted run left open under 'interrupted'.",
        ),
    ] = False,
) -> None:
    """Print the Pareto front, beside the dense reference and the vanilla rows."""
    from sweeps.rows import UNITS
    from sweeps.views.status import interrupted, interrupted_line

    found = searched(sweep, storage)
    wheres = checked_wheres(found, where)
    if why is not None and budgets:
        raise InputError("--why and --budgets cannot be combined: give one of them")
    if budgets:
        _budgets(found, wheres, as_json=as_json)
        return
    if why is not None:
        place = _standing(found, why, wheres)
        if as_json:
            document = {
                "sweep": found.name,
                "units": dict(UNITS),
                **place.document(),
                "interrupted": interrupted(found),
            }
            typer.echo(json.dumps(document, indent=1))
            return
        typer.echo(place.text())
        if why in interrupted(found):
            typer.echo(interrupted_line(found))
        return
    if as_json:
        typer.echo(json.dumps(found.document(wheres=wheres), indent=1))
        return
    typer.echo(found.table(wheres=wheres))
    line = interrupted_line(found)
    if line is not None:
        typer.echo(line)


def table(
    sweep: SweepArgument,
    storage: StorageOption = None,
    form: Annotated[
        str, typer.Option("--format", help="markdown or csv.", metavar="FORMAT")
    ] = "markdown",
    role: Annotated[
        str | None,
        typer.Option(help="dev or test (default: test if it was opened).", metavar="ROLE"),
    ] = None,
    every: Annotated[
        bool,
        flag(
            "--trials",
            "For any sweep: one row per trial, with the settings that vary, all metrics, seconds "
            "and error.",
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file.")] = None,
) -> None:
    """Print a fixed design like the paper's tables: mean, interval over seeds; or all trials."""
    from sweeps.reporting.trials_table import trials_table
    from sweeps.selection.stamp import read_test, stamp, stamp_lines
    from sweeps.views.paper_table import paper_table

    if every and role is not None:
        raise InputError("--trials shows the metrics of all roles; leave --role out")
    found = load(sweep, storage)
    seal = stamp_lines(stamp(found))
    if every:
        text = trials_table(found, form=form, stamp=seal)
    else:
        tested = read_test(found)
        text = paper_table(found.records, found.config, tested, role=role, form=form, stamp=seal)
    if out is None:
        typer.echo(text)
    else:
        write_text(out, text + "\n")
        typer.echo(f"wrote {out}")


def test(sweep: SweepArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Open the sealed test, once, for the chosen trials and the rows they are compared with."""
    from sweeps.commands import command
    from sweeps.selection.stamp import read_test
    from sweeps.selection.tested_text import test_table

    found = load(sweep, storage)
    try:
        document = found.test(say=lambda line: typer.echo(line, err=True))
    except KeyboardInterrupt:
        opened = len((read_test(found) or {"trials": {}})["trials"])
        state = f"the test is open for {count_of(opened, 'trial')}, saved in {found.folder.test}"
        again = command(found.folder, "test")
        raise Interrupted(
            f"interrupted; {state if opened else 'nothing was opened'}. Continue with: {again}"
        ) from None
    typer.echo(json.dumps(document, indent=1) if as_json else test_table(document))


def confirm(
    sweep: SweepArgument,
    seeds: Annotated[int, typer.Option("--seeds", help="Most new seeds per configuration.")] = 5,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="TRIAL", help="Train all seeds of this trial. Repeatable."),
    ] = None,
    whole: Annotated[
        bool | None,
        flag(
            "--whole/--one-teacher",
            "New seeds for the teacher and difficulty too, or not (default: --whole if trials "
            "start from the teacher).",
        ),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option("--hours", min=0.001, help="Start no training after so many hours in all."),
    ] = None,
    storage: StorageOption = None,
    address: AddressOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Train new seeds of rows whose rank may be due to noise, and rank by the means."""
    from sweeps.selection.confirmed import confirmed
    from sweeps.selection.confirmed_text import confirmed_json, confirmed_table
    from sweeps.selection.stamp import stamp, stamp_lines
    from sweeps.views.progress import Progress

    found = load(sweep, storage, live=True)
    progress = Progress(Console(stderr=True, soft_wrap=True) if as_json else None)
    found.confirm(
        seeds=seeds,
        also=also or [],
        whole=whole,
        hours=hours,
        address=address,
        progress=progress,
    )
    found = found.still()
    result = confirmed(found)
    assert result is not None
    if as_json:
        typer.echo(json.dumps(confirmed_json(result), indent=1))
    else:
        typer.echo("\n".join([confirmed_table(result), *stamp_lines(stamp(found, result))]))
    if result.failed:
        raise typer.Exit(3)


def power(
    sweep: SweepArgument,
    difference: Annotated[
        float,
        typer.Option(
            "--difference", min=0.01, help="Say how many seeds show this difference, in points."
        ),
    ] = 2.0,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what difference n seeds detect, from the noise of a confirmation or fixed design."""
    from sweeps.selection.noise import measured_noise, power_text, unlearned

    found = searched(sweep, storage)
    if as_json:
        typer.echo(json.dumps(found.power(difference=difference), indent=1))
        return
    noise = measured_noise(found)
    lines = [*unlearned(found), power_text(found.name, noise, difference=difference)]
    typer.echo("\n".join(lines))


def export(
    sweep: SweepArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder to create for the model.")],
    pick: Annotated[
        str,
        typer.Option(
            "--pick",
            help="knee, best-id, best-ood, least-ood-loss, lowest-relative-bias, weighted, or the "
            "id of a trial.",
        ),
    ] = "knee",
    where: WhereOption = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            "--weight",
            metavar="METRIC=NUMBER",
            help="Weight of an objective, for --pick weighted (default: 1 each). Repeatable.",
        ),
    ] = None,
    storage: StorageOption = None,
    trial: Annotated[str | None, typer.Option("--trial", hidden=True)] = None,
) -> None:
    """Export one model as a folder that plain transformers can load."""
    from sweeps.views.status import interrupted_line

    if trial is not None:
        # Many try --trial first; without this, it would be taken for a misspelt --storage.
        raise InputError(f"name the trial with --pick, not --trial: --pick {trial}")
    found = load(sweep, storage)
    try:
        record = found.pick(pick, wheres=checked_wheres(found, where), weights=weight or [])
    except StorageError as error:
        line = interrupted_line(found)
        if line is None:
            raise
        raise StorageError(f"{error}. {line}") from error
    from rc_core.config import decode
    from sweeps.deploy.export import export as write
    from sweeps.deploy.export import floor_note, seal_note, stock_note

    compared: list[str] = []
    folder = write(found, record, out, say=compared.append)
    typer.echo(f"exported {record.id} ({record.name}) to {folder}")
    for note in (
        *compared,
        stock_note(decode(record.config)),
        floor_note(found, record),
        seal_note(found, record),
    ):
        if note:
            typer.echo(f"note: {note}")


def _standing(sweep: Any, trial: str, wheres: list[str]) -> Standing:
    from sweeps.selection.confirmed import confirmed
    from sweeps.selection.explain import standing
    from sweeps.selection.options import alike, constraints, options

    found = confirmed(sweep)
    return standing(
        options(sweep, found),
        sweep.objectives,
        trial,
        wheres=constraints(sweep, wheres),
        alike=alike(found),
    )


def _budgets(sweep: Any, wheres: list[str], *, as_json: bool) -> None:
    """Print size budgets as a table, with a picture in the sweep's folder, or as JSON."""
    from sweeps.rows import UNITS
    from sweeps.selection.budgets import budget_table, budgets, budgets_json
    from sweeps.selection.confirmed import confirmed
    from sweeps.selection.options import constraints, options
    from sweeps.selection.stamp import stamp, stamp_json, stamp_lines
    from sweeps.views.picture import budget_picture

    available = options(sweep, confirmed(sweep))
    found = budgets(available, sweep.objectives, wheres=constraints(sweep, wheres))
    if as_json:
        document = {
            "sweep": sweep.name,
            "units": UNITS | {"share": "of the dense reference's size"},
            "budgets": budgets_json(found, available, sweep.objectives),
            "test": stamp_json(stamp(sweep)),
        }
        typer.echo(json.dumps(document, indent=1))
        return
    typer.echo("\n".join([budget_table(found, available), *stamp_lines(stamp(sweep))]))
    path = sweep.path / "budgets.png"
    try:
        budget_picture(found, available, path, title=sweep.name)
    except OSError as error:
        raise StorageError(
            f"{path} must be a writable file ({error.strerror}); the picture is missing, the table "
            "above is complete"
        ) from error
    typer.echo(f"picture: {path}")
