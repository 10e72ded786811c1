"""The command line, `rc-sweep`. Torch, Ray and MLflow are imported inside the commands using them.

Exit codes: 0 done, 1 failed, 2 the user's input, 3 finished with failed trials.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from rc_core.errors import InputError, RobustCompressionError, did_you_mean

app = typer.Typer(
    name="rc-sweep",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Sweep the compression of encoder models for accuracy inside and outside their training "
    "distribution.",
)

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override, e.g. training.epochs=3. Repeatable."
    ),
]
StorageOption = Annotated[
    Path | None,
    typer.Option("--storage", help="Folder of all sweeps (default: RC_STORAGE or ./rc_storage)."),
]
SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep's name, or its path.")]
AddressOption = Annotated[
    str, typer.Option("--address", help="local, auto, or HOST:PORT of a Ray cluster.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]

PLUGIN_KINDS = {
    "compression": "rc_core.compression",
    "losses": "rc_core.losses",
    "tasks": "rc_core.data",
    "difficulty": "rc_core.difficulty",
    "search": "sweeps.search",
    "schedulers": "sweeps.schedulers",
}


@app.command()
def launch(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The sweep's YAML.")],
    name: Annotated[str | None, typer.Option("--name", help="Default: <yaml stem>-<n>.")] = None,
    overrides: SetOption = None,
    storage: StorageOption = None,
    address: AddressOption = "local",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done; start nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a sweep and print its Pareto front."""
    from sweeps.config import load_sweep

    sweep = load_sweep(config, overrides or [])
    if dry_run:
        from sweeps.dry_run import describe

        typer.echo(describe(sweep, config.stem, name, storage))
        return
    from sweeps import runner
    from sweeps.progress import Progress

    progress = Progress(Console(stderr=True, soft_wrap=True) if as_json else None)
    found = runner.launch(
        sweep, name=name, storage=storage, address=address, progress=progress, stem=config.stem
    )
    _finish(found, as_json)


@app.command()
def resume(
    sweep: SweepArgument,
    storage: StorageOption = None,
    address: AddressOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Go on with a sweep that was killed or interrupted; nothing finished is run again."""
    from sweeps import runner
    from sweeps.progress import Progress

    progress = Progress(Console(stderr=True, soft_wrap=True) if as_json else None)
    _finish(runner.resume(sweep, storage=storage, address=address, progress=progress), as_json)


@app.command()
def validate(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG...")],
    overrides: SetOption = None,
) -> None:
    """Check configurations and their data: every name, key, range, corner, file. Runs nothing."""
    from sweeps.config import load_sweep
    from sweeps.data_check import check_data

    failed = 0
    for path in configs:
        try:
            check_data(load_sweep(path, overrides or []))
            typer.echo(f"{path}: valid")
        except InputError as error:
            failed += 1
            typer.echo(f"{path}: {_listed(error)}", err=True)
    if failed:
        raise typer.Exit(2)


@app.command("list")
def list_plugins(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help=" | ".join([*PLUGIN_KINDS, "metrics"]))
    ],
    as_json: JsonOption = False,
) -> None:
    """List what a configuration may name: compression, losses, tasks, ..."""
    from rc_core import plugins

    if kind == "metrics":
        rows = _metrics()
    elif kind in PLUGIN_KINDS:
        package = PLUGIN_KINDS[kind]
        rows = {name: plugins.summary(package, name) for name in plugins.available(package)}
    else:
        raise InputError(f"unknown kind '{kind}': {did_you_mean(kind, [*PLUGIN_KINDS, 'metrics'])}")
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    width = max(map(len, rows), default=0)
    for name, text in rows.items():
        typer.echo(f"{name:<{width}}  {text}")


@app.command()
def status(
    sweep: SweepArgument, storage: StorageOption = None, as_json: JsonOption = False
) -> None:
    """Show how far a sweep is: trials by state, what runs, what failed."""
    from sweeps.status import status_document, status_text

    found = _load(sweep, storage)
    typer.echo(json.dumps(status_document(found), indent=1) if as_json else status_text(found))


@app.command()
def pareto(
    sweep: SweepArgument, storage: StorageOption = None, as_json: JsonOption = False
) -> None:
    """Print the Pareto front, with the dense reference and the vanilla rows."""
    found = _load(sweep, storage)
    if as_json:
        typer.echo(json.dumps(found.document(), indent=1))
    else:
        typer.echo(found.table())


@app.command()
def table(
    sweep: SweepArgument,
    storage: StorageOption = None,
    form: Annotated[
        str, typer.Option("--format", help="markdown or csv.", metavar="FORMAT")
    ] = "markdown",
    role: Annotated[
        str | None,
        typer.Option(help="dev or test (default: test where it was opened).", metavar="ROLE"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file.")] = None,
) -> None:
    """Print a fixed design as the paper lays its tables out: mean and interval over seeds."""
    from sweeps.paper_table import paper_table

    found = _load(sweep, storage)
    tested = json.loads(found.folder.test.read_text()) if found.folder.test.is_file() else None
    text = paper_table(found.records, found.config, tested, role=role, form=form)
    if out is None:
        typer.echo(text)
    else:
        out.write_text(text + "\n", encoding="utf-8")
        typer.echo(f"written to {out}")


@app.command()
def test(sweep: SweepArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Open the test roles, once, for the front and the rows it is compared with."""
    from sweeps.sealed import open_tests, test_table

    found = _load(sweep, storage)
    document = open_tests(found, say=lambda line: typer.echo(line, err=True))
    typer.echo(json.dumps(document, indent=1) if as_json else test_table(document))


@app.command()
def export(
    sweep: SweepArgument,
    out: Annotated[Path, typer.Option("--out", help="New folder for the model.")],
    pick: Annotated[
        str, typer.Option("--pick", help="knee, best-id, best-ood, or a trial's id.")
    ] = "knee",
    storage: StorageOption = None,
) -> None:
    """Write one model as a folder that plain transformers loads."""
    found = _load(sweep, storage)
    record = found.pick(pick)
    folder = found.export(record.id, out)
    typer.echo(f"exported {record.id} ({record.name}) to {folder}; its logits were checked")


@app.command()
def ui(
    sweep: SweepArgument,
    storage: StorageOption = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 5000,
) -> None:
    """Open the MLflow UI on this machine, at the sweep's experiment."""
    from sweeps.tracking import serve_ui

    found = _load(sweep, storage)
    uri = found.config["tracking"]["uri"]
    raise typer.Exit(serve_ui(found.folder.storage, uri, found.name, port=port))


@app.command()
def init(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One file's stem.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where to copy.")] = Path("tune_configs"),
) -> None:
    """Copy the starter configurations here, to edit them."""
    from sweeps.starters import copy_starters

    for path in copy_starters(name, out):
        typer.echo(f"wrote {path}")
    typer.echo(f"run one with: rc-sweep launch {out}/{name or 'quickstart'}.yaml")


@app.command()
def adopt(
    sweep: SweepArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="--out of rc_core.trial.")],
    storage: StorageOption = None,
) -> None:
    """Take trial folders made by `python -m rc_core.trial` into a sweep."""
    from sweeps.adopt import adopt_trials

    adopted = adopt_trials(_load(sweep, storage), folder)
    for old, new in adopted:
        typer.echo(f"{old} -> {new}")
    typer.echo(f"{len(adopted)} trials adopted")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(args=arguments, standalone_mode=True)
    except InputError as error:
        typer.echo(f"error: {_listed(error)}", err=True)
        sys.exit(error.exit_code)
    except RobustCompressionError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has left; that is no failure.
        sys.stderr.close()
    sys.exit(0)


def _interrupt(signum: int, frame: Any) -> None:
    """Treat SIGTERM (a scheduler's, a container's) as Ctrl-C: close in order."""
    del signum, frame
    raise KeyboardInterrupt


def _load(sweep: str, storage: Path | None) -> Any:
    from sweeps.sweep import Sweep

    return Sweep.load(sweep, storage=storage)


def _finish(sweep: Any, as_json: bool) -> None:
    """Print the front and what a user wants next; exit 3 when trials failed."""
    failed = [record for record in sweep.records if record.status == "failed"]
    if as_json:
        typer.echo(json.dumps(sweep.document(), indent=1))
    else:
        typer.echo(sweep.table())
        typer.echo(sweep.closing_lines())
    if failed:
        for record in failed:
            typer.echo(f"failed: {record.id} {record.name}: {record.error}", err=True)
        raise typer.Exit(3)


def _metrics() -> dict[str, str]:
    from rc_core import plugins

    package = "rc_core.metrics"
    modules = [plugins.load(package, name) for name in plugins.available(package)]
    metrics = [metric for module in modules for metric in module.METRICS.values()]
    return {m.name: f"({m.direction}) {m.description}" for m in metrics}


def _listed(error: InputError) -> str:
    if len(error.problems) == 1:
        return str(error.problems[0])
    lines = [f"  - {problem}" for problem in error.problems]
    return "\n".join([f"{len(lines)} problems:", *lines])


if __name__ == "__main__":
    main()
