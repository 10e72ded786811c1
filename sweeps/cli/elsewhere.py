"""Commands for trials that run elsewhere, without Ray. Registered in sweeps/cli/entry.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from rc_core.errors import InputError, StorageError
from rc_core.labels import count_of
from sweeps.cli.options import SetOption, StorageOption, load, write_text
from sweeps.commands import command


def trials(
    config: Annotated[
        Path,
        typer.Argument(metavar="CONFIG", help="YAML of a fixed design, a grid or a random search."),
    ],
    overrides: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="LIST.jsonl", help="File to write (default: stdout)."),
    ] = None,
) -> None:
    """List the trials of a fixed design, a grid or a random search for python -m rc_core.trial.

    Ids and configurations are the same as in a launch, including the dense reference. The list may
    be for another machine, so its data is not checked (--set task.data_dir=FOLDER says where it
    is there; a relative folder is made absolute here), nor is a model that is not on this machine.
    """
    from sweeps.config import load_sweep
    from sweeps.engine.listed import listed

    sweep = load_sweep(config, overrides or [], elsewhere=True)
    found = {i: trial.as_dict() for i, trial in listed(sweep).items()}
    lines = [json.dumps({"id": i, "config": values}) for i, values in found.items()]
    if out is None:
        typer.echo("\n".join(lines))
    else:
        write_text(out, "\n".join(lines) + "\n")
        typer.echo(f"{count_of(len(found), 'trial')} written to {out}; run with: {_command(out)}")
    for model in sweep.unknown_models:
        typer.echo(
            f"note: {model} is not on this machine, so its layers and heads were not checked",
            err=True,
        )
    place = sweep.base["task"].get("data_dir")
    if place is not None:
        typer.echo(
            f"note: trials read data from {place}; if it is elsewhere: --set task.data_dir=FOLDER",
            err=True,
        )


def adopt(
    sweep: Annotated[
        str,
        typer.Argument(metavar="SWEEP", help="Name or path of a sweep; a new name with --config."),
    ],
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder given to rc_core.trial --out.")
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="CONFIG", help="Create the sweep from this YAML, without a launch."
        ),
    ] = None,
    overrides: SetOption = None,
    storage: StorageOption = None,
) -> None:
    """Add trial folders made by python -m rc_core.trial to an existing or a new sweep.

    The weights may stay on the other machine: tables, front and report do not need them, nor does
    test if the trials ran with --test; export and latency do.
    """
    from sweeps.engine.adopt import adopt_new, adopt_trials
    from sweeps.reporting.write import refresh_report

    if config is not None:
        from sweeps.config import load_sweep
        from sweeps.storages import storage_root

        values = load_sweep(config, overrides or [], elsewhere=True)
        root = storage_root(storage or values.settings.storage)
        _check_is_new(sweep, root)
        found, adopted = adopt_new(values, sweep, root, folder)
    elif overrides:
        raise InputError("--set changes keys of --config, which is not given; leave --set out")
    else:
        found = _existing(sweep, storage)
        adopted = adopt_trials(found, folder)
        # An existing report would still show fewer trials.
        refresh_report(found)
    found.folder.share()
    for old, new in adopted.trials:
        typer.echo(f"{old} -> {new}")
    typer.echo(f"{count_of(len(adopted.trials), 'trial')} adopted")
    if adopted.completed:
        typer.echo(f"weights or test results added to: {', '.join(adopted.completed)}")
    if adopted.bare:
        typer.echo(
            f"without weights: {count_of(len(adopted.bare), 'trial')} (export and latency need "
            "weights, and so does test for trials that ran without --test)"
        )
    if adopted.missing:
        typer.echo(
            f"still to run: {', '.join(adopted.missing)}; run them with: "
            + command(found.folder, "resume")
        )


def _existing(sweep: str, storage: str | None) -> Any:
    try:
        return load(sweep, storage, live=True)
    except StorageError as error:
        raise StorageError(
            f"{error}. Trials can be added to a sweep that was launched with their model, task and "
            f"training (rc-sweep launch CONFIG --name {Path(sweep).name}), or to a new one "
            "(rc-sweep adopt SWEEP DIR --config CONFIG)"
        ) from error


def _check_is_new(sweep: str, root: Path) -> None:
    """Check that the sweep of --config does not exist yet. Raises StorageError."""
    from sweeps.names import check_name, elsewhere

    there = (Path(sweep).expanduser() / "sweep.yaml").is_file()
    if there or (root / check_name(sweep)).exists() or sweep in elsewhere(root):
        raise StorageError(
            f"--config creates a sweep, but '{sweep}' exists already; leave --config out to add "
            "trials to it, or choose another name"
        )


def _command(listed: Path) -> str:
    return f"python -m rc_core.trial {listed} --out DIR --jobs N"
