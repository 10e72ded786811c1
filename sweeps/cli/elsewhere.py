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
        Path, typer.Argument(metavar="CONFIG", help="Of a fixed design, a grid or a random search.")
    ],
    overrides: SetOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="LIST.jsonl", help="Default: stdout.")
    ] = None,
) -> None:
    """List the trials of a fixed design, a grid or a random search for python -m rc_core.trial.

    Ids and configurations are those of a launch, the dense reference among them. Not checked, as
    the list may be for another machine: that its data is there (--set task.data_dir=FOLDER says
    where; a relative one is made absolute here), and of a model that is not here, that it exists
    and has the layers and heads asked for.
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
        typer.echo(f"note: {model} is not here, so its layers and heads are not checked", err=True)
    place = sweep.base["task"].get("data_dir")
    if place is not None:
        typer.echo(
            f"note: the data is read from {place}; of another machine: --set task.data_dir=FOLDER",
            err=True,
        )


def adopt(
    sweep: Annotated[
        str, typer.Argument(metavar="SWEEP", help="A sweep's name or path; with --config a new one")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="--out of rc_core.trial.")],
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="CONFIG", help="Make the sweep of this YAML; no launch."),
    ] = None,
    overrides: SetOption = None,
    storage: StorageOption = None,
) -> None:
    """Take trial folders made by python -m rc_core.trial into a sweep: one there is, or a new one.

    Weights may have stayed on the other machine: tables, front and report need none, and test none
    where trials ran with --test; export and latency do.
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
        raise InputError("--set changes the YAML of --config, which is not given; leave it out")
    else:
        found = _existing(sweep, storage)
        adopted = adopt_trials(found, folder)
        # One that is there would go on telling of fewer trials.
        refresh_report(found)
    found.folder.share()
    for old, new in adopted.trials:
        typer.echo(f"{old} -> {new}")
    typer.echo(f"{count_of(len(adopted.trials), 'trial')} adopted")
    if adopted.completed:
        typer.echo(f"weights or a test have come for: {', '.join(adopted.completed)}")
    if adopted.bare:
        typer.echo(
            f"without weights: {count_of(len(adopted.bare), 'trial')} (export and latency need "
            "them, and test where they did not run with --test)"
        )
    if adopted.missing:
        typer.echo(
            f"still to be run: {', '.join(adopted.missing)}; with: "
            + command(found.folder, "resume")
        )


def _existing(sweep: str, storage: str | None) -> Any:
    try:
        return load(sweep, storage, live=True)
    except StorageError as error:
        raise StorageError(
            f"{error}. Trials are taken into a sweep that was launched with their model, task and "
            f"training: rc-sweep launch CONFIG --name {Path(sweep).name}; or one is made for them: "
            "rc-sweep adopt SWEEP DIR --config CONFIG"
        ) from error


def _check_is_new(sweep: str, root: Path) -> None:
    """Check that --config makes a sweep, and does not change one. Raises StorageError."""
    from sweeps.names import check_name, elsewhere

    there = (Path(sweep).expanduser() / "sweep.yaml").is_file()
    if there or (root / check_name(sweep)).exists() or sweep in elsewhere(root):
        raise StorageError(
            f"--config is for a sweep that does not exist yet, but '{sweep}' does; leave --config "
            "out to take trials into it, or give another name"
        )


def _command(listed: Path) -> str:
    return f"python -m rc_core.trial {listed} --out DIR --jobs N"
