"""Arguments and options that several commands share, and the checks of their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rc_core.errors import ConfigError, InputError, Problem, StorageError, did_you_mean
from sweeps.local_port import why_not_free

# The sections of a sweep's configuration that the commands read.
_SECTIONS = ("task", "objectives", "search", "resources", "tracking")


def flag(name: str, help: str) -> Any:
    """Return an option that takes no value; its help shows no `<bool>`."""
    return typer.Option(name, help=help, metavar="")


SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key, e.g. training.epochs=3. Repeatable."
    ),
]
ResumeSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key, e.g. search.trials=100. Repeatable."
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Folder or s3://bucket/prefix that holds the sweeps (default: RC_STORAGE, else "
        "./rc_storage).",
    ),
]
SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="Name or path of a sweep.")]
AddressOption = Annotated[
    str,
    typer.Option("--address", help="Where Ray runs: local, auto, or a cluster's HOST:PORT."),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONSTRAINT",
        help="Only trials that satisfy it, e.g. 'footprint/parameters <= 20e6', 'id_dev/accuracy "
        ">= reference - 0.02', 'latency/relative <= 0.7' (after rc-sweep latency). Accuracies are "
        "shares: 0.80, not 80. Repeatable.",
    ),
]
JsonOption = Annotated[bool, flag("--json", "Print one JSON document on stdout.")]


def searched(sweep: str, storage: str | Path | None) -> Any:
    """Return a sweep as `load` does; for a confirmation the sweep that it confirms."""
    asked = load(sweep, storage)
    found = asked.searched
    if found is not asked:
        typer.echo(
            f"{asked.name} only holds new seeds of {found.name}: showing {found.name}", err=True
        )
    return found


def storage_folder(storage: str | Path | None, sweep: str = "") -> Path:
    """Return a storage's folder.

    Raises:
        StorageError: there is no such folder, and `sweep` is not the path of a sweep either.
    """
    from sweeps.storages import storage_root

    root = storage_root(storage)
    if not root.is_dir() and not (sweep and (Path(sweep).expanduser() / "sweep.yaml").is_file()):
        raise StorageError(
            f"the storage must be a folder, but there is none at {root}; name the right one with "
            "--storage DIR or RC_STORAGE"
        )
    return root


def storage_name(storage: str | Path | None) -> str:
    """Return the URI of a storage, or else its folder. Raises StorageError: there is none."""
    from sweeps.remote.mirror import Mirror

    root = storage_folder(storage)
    mirror = Mirror.at(root)
    return str(root) if mirror is None else mirror.uri


def load(sweep: str, storage: str | Path | None, *, live: bool = False) -> Any:
    """Return a sweep by name or path, its records read only once: see `sweeps.Sweep.still`.

    Args:
        sweep: name or path.
        storage: as `--storage`.
        live: read the records anew each time, for a command that adds or follows them.

    Raises:
        StorageError: no such storage or sweep, or its sweep.yaml is not a launched sweep's.
    """
    from sweeps.api import Sweep

    storage_folder(storage, sweep)
    found = Sweep.load(sweep, storage=storage)
    missing = [key for key in _SECTIONS if not isinstance(found.config.get(key), Mapping)]
    if missing:
        raise StorageError(
            f"{found.path / 'sweep.yaml'} must be the configuration of a launched sweep, but has "
            f"no section {', '.join(missing)}; name the folder of a sweep (rc-sweep launch CONFIG "
            "makes one)"
        )
    return found if live else found.still()


def checked_wheres(sweep: Any, wheres: Sequence[str] | None) -> list[str]:
    """Return the constraints of --where, checked against the metrics of the sweep's trials.

    Raises:
        ConfigError: a constraint cannot be read, or no trial has its metric.
    """
    from rc_core.metrics import latency
    from sweeps.selection.choose import check_wheres

    asked = [constraint.metric for constraint in check_wheres(wheres or [])]
    known = {key for record in sweep.records for key in (*record.metrics, *record.undefined)}
    # Without a finished trial no metric is known; latency is measured afterwards.
    unknown = [name for name in asked if known and name not in known | set(latency.METRICS)]
    # A suite has dozens of slices: list only whole suites.
    whole = sorted(key for key in known if "." not in key and not key.startswith("rung/"))
    if unknown:
        raise ConfigError(
            Problem("--where", f"no trial has a metric '{name}': {did_you_mean(name, whole)}")
            for name in unknown
        )
    return list(wheres or [])


def write_text(path: Path, text: str) -> None:
    """Write a file that the user named. Raises StorageError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"{path} must be a writable file ({error.strerror}); name another"
        ) from error


def must_be_free(port: int) -> None:
    """Check that nothing listens on a port of this machine.

    Raises:
        InputError: something does, or this user may not open the port.
    """
    reason = why_not_free(port)
    if reason is not None:
        raise InputError(
            f"--port: {port} must be free on this machine for the UI, but is not ({reason}); if a "
            "UI runs there already, it shows all sweeps of its storage; otherwise choose another "
            "port, for example --port 5001"
        )
