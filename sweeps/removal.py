"""Removing a sweep: with its confirmation, here and at its storage's URI, and its runs in MLflow.

A kill at any moment leaves a whole sweep, or nothing that looks like one: the folder gets a name
that no sweep has before anything in it goes. At a URI `removed.json` is written, then `sweep.yaml`
goes, without which nobody takes the rest for a sweep. What is left then goes when the removal is
asked for again.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rc_core.artifacts import Stored
from rc_core.errors import InputError, StorageError
from rc_core.labels import count_of
from sweeps.artifact_uses import FolderShelf, sweep_folders, uses
from sweeps.commands import command
from sweeps.folder import SweepFolder
from sweeps.inventory import ListedSweep, look_at
from sweeps.names import NAME, RESERVED
from sweeps.remote import lease
from sweeps.remote.mirror import CONFIRM_SUFFIX, Mirror
from sweeps.remote.shelf import RemoteShelf
from sweeps.storages import command_at
from sweeps.tracking.mlflow_store import EXPERIMENT, default_uri, delete_runs
from sweeps.tracking.tracked import read_sweep_id

# At a URI: what lies beside it is the rest of a removal.
_MARK = "removed.json"


@dataclass(frozen=True)
class Removal:
    """What is removed together.

    Attributes:
        sweeps: the confirmation, if there is one, then the sweep.
        freed: shared artifacts that no other sweep uses; None: a record cannot be read, so that
            nobody knows.
        tracked: their ids for tracking, but for those that a copy of the sweep has as well.
        servers: tracking servers that they name; what is there stays.
    """

    sweeps: Sequence[ListedSweep]
    freed: Sequence[Stored] | None
    tracked: Sequence[str]
    servers: Sequence[str]

    @property
    def storage(self) -> Path:
        return self.sweeps[-1].folder.storage


def plan_removal(folder: SweepFolder) -> Removal:
    """Return what goes with a sweep.

    Raises:
        StorageError: it is no sweep's folder, it or its confirmation is running, or its service
            cannot be reached.
    """
    other = SweepFolder(folder.path.with_name(folder.name + CONFIRM_SUFFIX))
    folders = [other, folder] if (other.path / "sweep.yaml").is_file() else [folder]
    there = _names_there(folder)
    for each in folders:
        _check_removable(each)
    found = [
        look_at(each, here_only=there is not None and each.name not in there) for each in folders
    ]
    names = {each.name for each in folders}
    freed: list[Stored] | None = None
    # Of a record that cannot be read nobody knows what it needs.
    with suppress(StorageError):
        mirror = folder.mirror
        shelf = FolderShelf(folder.storage) if mirror is None else RemoteShelf(mirror)
        freed = [use.stored for use in uses(shelf) if use.sweeps and set(use.sweeps) <= names]
    copies = [each for each in sweep_folders(folder.storage) if each.name not in names]
    others = {read_sweep_id(each) for each in copies}
    ids = [known for each in folders if (known := read_sweep_id(each)) and known not in others]
    return Removal(found, freed, ids, _servers(folders) if ids else [])


def remove(removal: Removal) -> None:
    """Remove sweeps, the confirmation first.

    Raises:
        StorageError: one runs, its folder cannot be moved, or its service fails; what it had
            removed until then does not look like a sweep any more.
    """
    # Of a confirmation that an earlier removal has begun with.
    finish_removal(removal.sweeps[-1].folder.name + CONFIRM_SUFFIX, removal.storage)
    for each in removal.sweeps:
        _remove(each.folder)


def finish_removal(name: str, storage: Path) -> bool:
    """Remove what a removal that was cut short has left of a sweep; tell whether there was any.

    Args:
        name: of the sweep, which there is no more.
        storage: that it lay in.

    Raises:
        StorageError: the URI's service cannot be reached or refuses.
    """
    if not NAME.fullmatch(name) or name in RESERVED:
        return False
    mirror = Mirror.at(storage)
    # A folder without the mark may be anybody's.
    half = mirror is not None and set(mirror.objects.of([f"{name}/{_MARK}", f"{name}/sweep.yaml"]))
    there = half == {f"{name}/{_MARK}"}
    if mirror is not None and there:
        _clear(mirror, name)
    left = list(storage.glob(_away(name, "[0-9a-f]" * 32)))
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return bool(left) or there


def forget_runs(removal: Removal) -> list[str]:
    """Mark the removed sweeps' runs as deleted in the storage's own MLflow; say what became of all.

    What is on a server stays: who else works with it is not known here.
    """
    which = " or ".join(f"tags.`rc.sweep_id` = '{each}'" for each in removal.tracked)
    left = f"stay: experiment {EXPERIMENT}, {which}"
    lines = [f"its runs on {server} {left}" for server in removal.servers]
    if removal.tracked and (removal.storage / "mlflow.db").is_file():
        uri = default_uri(removal.storage)
        try:
            count = sum(delete_runs(uri, each) for each in removal.tracked)
        # Whatever MLflow raises: the sweep is gone, and this is told.
        except Exception as error:
            return [*lines, f"its runs in {uri} {left} ({' '.join(str(error).split())[:200]})"]
        if count:
            runs = count_of(count, "run in MLflow is", "runs in MLflow are")
            lines.append(f"{runs} marked as deleted (for good: mlflow gc)")
    return lines


def prune_command(storage: Path) -> str:
    """Return the command that frees what no sweep uses."""
    return command_at(storage, "prune", "artifacts")


def _check_removable(folder: SweepFolder) -> None:
    """Check that a folder with a sweep.yaml is a sweep's, and none that runs."""
    if not ((folder.path / "attempt.json").is_file() or folder.trials.is_dir()):
        # A user's own folder may hold a file of that name: its configuration.
        raise StorageError(
            f"{folder.path} must be a sweep's folder to be removed, but has neither attempt.json "
            "nor trials/; name a sweep (rc-sweep sweeps)"
        )
    if folder.is_running():
        raise StorageError(
            f"sweep '{folder.name}' must have ended to be removed, but is running; interrupt it "
            f"(Ctrl-C where it runs), or watch it: {command(folder, 'status', '--watch')}"
        )


def _names_there(folder: SweepFolder) -> set[str] | None:
    """Return the names at the storage's URI, None where it is a folder."""
    return None if folder.mirror is None else set(folder.mirror.names())


def _servers(folders: Sequence[SweepFolder]) -> list[str]:
    found = []
    for folder in folders:
        with suppress(InputError, OSError, LookupError, TypeError):
            found.append(folder.read_config()["tracking"]["uri"])
    return list(dict.fromkeys(uri for uri in found if uri))


def _remove(folder: SweepFolder) -> None:
    name, mirror, there = folder.name, folder.mirror, _names_there(folder)
    away = folder.path.with_name(_away(name, uuid.uuid4().hex))
    if mirror is not None and there is not None and name in there:
        # Before a new attempt is begun here, which would fence off another machine's workers.
        lease.check_free(mirror, folder.path)
    # Held to the end: a driver that starts now is told that the sweep is being run.
    with folder.driving() as attempt:
        if mirror is None or there is None or name not in there:
            _move(folder.path, away)
        else:
            lease.take(mirror, folder.path, attempt, over=False)
            _move(folder.path, away)
            try:
                mirror.objects.write(f"{name}/{_MARK}", b"{}")
                mirror.objects.delete(f"{name}/sweep.yaml")
            except BaseException:
                # Nothing has gone yet.
                away.rename(folder.path)
                with suppress(StorageError):
                    lease.release(mirror, name)
                raise
            _clear(mirror, name)
        (away / "sweep.yaml").unlink(missing_ok=True)
        for path in folder.storage.glob(_away(name, "[0-9a-f]" * 32)):
            shutil.rmtree(path, ignore_errors=True)


def _away(name: str, identity: str) -> str:
    """Return the name of a sweep's folder while it is removed: no sweep's begins with a dot."""
    return f".{name}.{identity}.removed"


def _move(path: Path, away: Path) -> None:
    try:
        path.rename(away)
    except OSError as error:
        raise StorageError(f"{path} must be writable: {error.strerror}; nothing went") from error


def _clear(mirror: Mirror, name: str) -> None:
    """Remove what lies at the address of a sweep, the mark last: it says that all of it goes."""
    mirror.objects.delete_folder(f"{name}/trials")
    for key in mirror.objects.stamps(name):
        if key != f"{name}/{_MARK}":
            mirror.objects.delete(key)
    mirror.objects.delete_folder(name)
