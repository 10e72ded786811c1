"""The command line, `rc-sweep`. Torch, Ray and MLflow are imported only in commands that use them.

Exit codes: 0 done, 1 failed, 2 wrong input by the user, 3 finished with failed trials.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from rc_core import __version__
from rc_core.errors import ConfigError, InputError, RobustCompressionError
from sweeps.cli import artifacts, elsewhere, engine, report, results
from sweeps.cli import latency as timing
from sweeps.cli.doctor import doctor
from sweeps.cli.interrupted import Commands
from sweeps.cli.listing import list_plugins
from sweeps.cli.options import (
    AddressOption,
    JsonOption,
    ResumeSetOption,
    SetOption,
    StorageOption,
    SweepArgument,
    flag,
    load,
    must_be_free,
)
from sweeps.cli.storage import list_sweeps, remove, sync
from sweeps.cli.unforeseen import told

app = typer.Typer(
    name="rc-sweep",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Sweep ways to compress encoder models, and find those with the best trade-off between "
    "accuracy in and out of the training distribution.",
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"rc-sweep {__version__}")
        raise typer.Exit


@app.callback()
def _before_commands(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version.",
            metavar="",
            is_eager=True,
            callback=_show_version,
        ),
    ] = False,
) -> None:
    del version  # the callback has printed it already


@app.command()
def launch(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the sweep.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the sweep (default: <yaml stem>-<n>).")
    ] = None,
    overrides: SetOption = None,
    storage: StorageOption = None,
    address: AddressOption = "local",
    dry_run: Annotated[bool, flag("--dry-run", "Show what would run; start nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a sweep and print its Pareto front."""
    sweep = _read(config, overrides or [])
    if dry_run:
        from sweeps.engine import dry_run as dry
        from sweeps.engine.launch_check import check_launch
        from sweeps.storages import storage_root

        root, stem = storage_root(storage or sweep.settings.storage), config.stem
        task = check_launch(sweep, root, stem=stem, name=name, address=address)
        found = dry.plan(sweep, task, root, stem=stem, name=name)
        typer.echo(json.dumps(found, indent=1) if as_json else dry.as_text(found))
        return
    from sweeps import launching
    from sweeps.views.progress import Progress

    progress = Progress(Console(stderr=True, soft_wrap=True) if as_json else None)
    done = launching.launch(
        sweep, name=name, storage=storage, address=address, progress=progress, stem=config.stem
    )
    _finish(done, as_json)


@app.command()
def resume(
    sweep: SweepArgument,
    storage: StorageOption = None,
    address: AddressOption = "local",
    overrides: ResumeSetOption = None,
    retry_failed: Annotated[
        bool, flag("--retry-failed", "Also run failed trials again, from the beginning.")
    ] = False,
    take_over: Annotated[
        bool, flag("--take-over", "Resume even if another machine seems to run it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Continue a sweep that was killed or interrupted; finished trials are not run again.

    --set can change how it runs: resources, budget, tracking, health_gate; search.trials only
    upwards; task.data_dir if the same data lies elsewhere now.
    """
    from sweeps import launching
    from sweeps.views.progress import Progress

    progress = Progress(Console(stderr=True, soft_wrap=True) if as_json else None)
    found = launching.resume(
        sweep,
        storage=storage,
        address=address,
        overrides=overrides or [],
        retry_failed=retry_failed,
        take_over=take_over,
        progress=progress,
    )
    _finish(found, as_json)


@app.command()
def validate(
    configs: Annotated[
        list[Path], typer.Argument(metavar="CONFIG...", help="YAML files of sweeps.")
    ],
    overrides: SetOption = None,
) -> None:
    """Check configurations and their data: names, keys, values, files. Runs nothing."""
    from sweeps.engine.data_check import check_data

    failed = 0
    for path in configs:
        try:
            check_data(_read(path, overrides or []))
            typer.echo(f"{path}: valid")
        except InputError as error:
            failed += 1
            # An error of the file itself starts with its name already.
            typer.echo(f"{path}: {_listed(error).removeprefix(f'{path}: ')}", err=True)
    if failed:
        raise typer.Exit(2)


app.command("list")(list_plugins)
app.command("sweeps")(list_sweeps)
for _command in (
    results.status,
    results.pareto,
    results.table,
    report.report,
    report.compare,
    results.confirm,
    results.power,
    results.test,
    timing.latency,
    results.export,
    engine.simulate,
    elsewhere.trials,
    elsewhere.adopt,
    sync,
    remove,
    doctor,
):
    app.command()(_command)
app.add_typer(artifacts.app, name="artifacts")


@app.command()
def ui(
    sweep: SweepArgument,
    storage: StorageOption = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the UI.")] = 5000,
) -> None:
    """Serve the MLflow UI on this machine and print where it shows the sweep."""
    from sweeps.tracking.mlflow_view import serve_ui
    from sweeps.tracking.tracked import read_sweep_id

    found = load(sweep, storage)
    uri, known = found.config["tracking"]["uri"], read_sweep_id(found.folder)
    if not str(uri).startswith("http"):
        must_be_free(port)
    raise typer.Exit(serve_ui(found.folder.storage, uri, found.name, sweep_id=known, port=port))


@app.command()
def init(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Copy only this one, e.g. quickstart."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to copy to.")] = Path("tune_configs"),
) -> None:
    """Copy the starter configurations into a folder, for editing."""
    from sweeps.starters import copy_starters, launch_command

    written = copy_starters(name, out)
    for path in written:
        typer.echo(f"wrote {path}")
    if not written:
        typer.echo(f"all files are in {out} already")
    typer.echo(f"run one with: {launch_command(name or 'quickstart', out)}")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, _interrupt)
    with _readers() as left:
        try:
            app(args=arguments, standalone_mode=True)
        except RobustCompressionError as error:
            text = _listed(error) if isinstance(error, InputError) else str(error)
            with _also_unread(2):
                typer.echo(f"error: {text}", err=True)
            sys.exit(error.exit_code)
        except OSError as error:
            found = told(error, sys.argv[1:] if arguments is None else arguments)
            if found is None:
                raise
            with _also_unread(2):
                typer.echo(f"error: {found[0]}", err=True)
            sys.exit(found[1])
        except SystemExit as end:
            # Typer, and rich for the help, exit with 1 when the reader of a pipe (head, less) has
            # gone. That is no failure; a broken pipe elsewhere, to a service, is one.
            if not isinstance(end.__context__, BrokenPipeError):
                raise
            if not left():
                typer.echo(f"error: {end.__context__}", err=True)
                raise
    sys.exit(0)


@contextmanager
def _readers() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether the reader of standard output or error has gone."""
    # Copies, because rich replaces an output that nobody reads by the null device.
    copies = []
    for stream in (1, 2):
        with suppress(OSError):
            copies.append(os.dup(stream))

    def left() -> bool:
        poll = select.poll()
        for copy in copies:
            poll.register(copy, 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))

    try:
        yield left
    finally:
        for copy in copies:
            os.close(copy)


@contextmanager
def _also_unread(stream: int) -> Iterator[None]:
    """Continue if the reader of standard output (1) or error (2) has gone."""
    try:
        yield
    except BrokenPipeError:
        # Python flushes the rest at exit, which would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def _read(path: Path, overrides: list[str]) -> Any:
    """Read a sweep's YAML. Raises InputError with all problems of the file and of its data."""
    from rc_core.yaml_files import read_yaml
    from sweeps.config import load_sweep

    try:
        return load_sweep(path, overrides)
    except ConfigError as error:
        from sweeps.engine.data_check import data_problems

        # Raises again if the file itself cannot be read.
        values = read_yaml(path, overrides)
        raise InputError([*error.problems, *data_problems(values)]) from None


def _interrupt(signum: int, frame: Any) -> None:
    """Treat SIGTERM (from a job scheduler or a container) as Ctrl-C: shut down in order."""
    del signum, frame
    raise KeyboardInterrupt


def _finish(sweep: Any, as_json: bool) -> None:
    """Print the front and the next commands; exit with 3 if trials failed.

    After the resume of a confirmation, the front is that of the sweep it confirms.
    """
    from sweeps.commands import command

    shown = sweep.searched
    failed = [record for record in sweep.records if record.status == "failed"]
    left = sweep.folder.unshared()
    with _also_unread(1):
        if as_json:
            typer.echo(json.dumps(shown.document(), indent=1))
        else:
            typer.echo(shown.table())
            typer.echo(shown.closing_lines())
    if failed:
        for record in failed:
            typer.echo(f"failed: {record.id} {record.name}: {record.error}", err=True)
        again = command(sweep.folder, "resume", "--retry-failed")
        typer.echo(f"once the cause is fixed, run them again with: {again}", err=True)
    if left:
        typer.echo(f"{left}; upload the rest with: {command(sweep.folder, 'sync')}", err=True)
        raise typer.Exit(1)
    if failed:
        raise typer.Exit(3)


def _listed(error: InputError) -> str:
    if len(error.problems) == 1:
        return str(error.problems[0])
    lines = [f"  - {problem}" for problem in error.problems]
    return "\n".join([f"{len(lines)} problems:", *lines])
