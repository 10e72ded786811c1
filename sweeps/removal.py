"""Removing a sweep: with its confirmation, here and at its storage's URI, and its runs in MLflow.

A kill at any moment leaves either a whole sweep or nothing that looks like one: the folder is first
renamed to a name that no sweep can have. At a URI, `removed.json` is written first, then
`sweep.yaml` is deleted, without which the rest does not count as a sweep. Removing the sweep again
removes what was left.
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

# At a URI, marks the files beside it as left by an interrupted removal.
_MARK = "removed.json"


@dataclass(frozen=True)
class Removal:
    """What is removed together.

    Attributes:
        sweeps: the confirmation, if there is one, then the sweep.
        freed: shared artifacts that no other sweep uses; None if unknown, because a record cannot
            be read.
        tracked: their ids in tracking, except those that a copy of the sweep has too.
        servers: tracking servers that they name; the runs there are kept.
    """

    sweeps: Sequence[ListedSweep]
    freed: Sequence[Stored] | None
    tracked: Sequence[str]
    servers: Sequence[str]

    @property
    def storage(self) -> Path:
        return self.sweeps[-1].folder.storage


def plan_removal(folder: SweepFolder) -> Removal:
    """Return what is removed with a sweep.

    Raises:
        StorageError: it is not a sweep's folder, it or its confirmation is running, or its service
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
    # What an unreadable record needs is unknown.
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
        StorageError: one is running, its folder cannot be moved, or its service fails; what was
            removed in part no longer looks like a sweep.
    """
    # An earlier, interrupted removal may have left parts of the confirmation.
    finish_removal(removal.sweeps[-1].folder.name + CONFIRM_SUFFIX, removal.storage)
    for each in removal.sweeps:
        _remove(each.folder)


def finish_removal(name: str, storage: Path) -> bool:
    """Remove what an interrupted removal has left of a sweep; tell whether there was anything.

    Args:
        name: the removed sweep's.
        storage: folder that it was in.

    Raises:
        StorageError: the URI's service cannot be reached or refuses.
    """
    if not NAME.fullmatch(name) or name in RESERVED:
        return False
    mirror = Mirror.at(storage)
    # Without the mark, the folder may be something else.
    half = mirror is not None and set(mirror.objects.of([f"{name}/{_MARK}", f"{name}/sweep.yaml"]))
    there = half == {f"{name}/{_MARK}"}
    if mirror is not None and there:
        _clear(mirror, name)
    left = list(storage.glob(_away(name, "[0-9a-f]" * 32)))
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return bool(left) or there


def forget_runs(removal: Removal) -> list[str]:
    """Mark the removed sweeps' runs as deleted in the storage's own MLflow; return lines to print.

    Runs on a server are kept, as others may be using them.
    """
    which = " or ".join(f"tags.`rc.sweep_id` = '{each}'" for each in removal.tracked)
    left = f"stay: experiment {EXPERIMENT}, {which}"
    lines = [f"its runs on {server} {left}" for server in removal.servers]
    if removal.tracked and (removal.storage / "mlflow.db").is_file():
        uri = default_uri(removal.storage)
        try:
            count = sum(delete_runs(uri, each) for each in removal.tracked)
        # Whatever MLflow raises: the sweep is removed already, so only report it.
        except Exception as error:
            return [*lines, f"its runs in {uri} {left} ({' '.join(str(error).split())[:200]})"]
        if count:
            runs = count_of(count, "run in MLflow is", "runs in MLflow are")
            lines.append(f"{runs} marked as deleted (to delete for good: mlflow gc)")
    return lines


def prune_command(storage: Path) -> str:
    """Return the command that removes artifacts that no sweep uses."""
    return command_at(storage, "prune", "artifacts")


def _check_removable(folder: SweepFolder) -> None:
    """Check that a folder with a sweep.yaml is a sweep's, and that it is not running."""
    if not ((folder.path / "attempt.json").is_file() or folder.trials.is_dir()):
        # A user may have a configuration of that name in another folder.
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
    """Return the names at the storage's URI, None if it is a folder."""
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
        # Before a new attempt starts here, which would fence off another machine's workers.
        lease.check_free(mirror, folder.path)
    # Held to the end, so that no driver can start meanwhile.
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
                # Nothing was removed yet.
                away.rename(folder.path)
                with suppress(StorageError):
                    lease.release(mirror, name)
                raise
            _clear(mirror, name)
        (away / "sweep.yaml").unlink(missing_ok=True)
        for path in folder.storage.glob(_away(name, "[0-9a-f]" * 32)):
            shutil.rmtree(path, ignore_errors=True)


def _away(name: str, identity: str) -> str:
    """Return the name of a sweep's folder during its removal; sweeps' names start with no dot."""
    return f".{name}.{identity}.removed"


def _move(path: Path, away: Path) -> None:
    try:
        path.rename(away)
    except OSError as error:
        raise StorageError(
            f"{path} must be writable ({error.strerror}); nothing was removed"
        ) from error


def _clear(mirror: Mirror, name: str) -> None:
    """Remove all files of a sweep at a URI, and last the mark."""
    mirror.objects.delete_folder(f"{name}/trials")
    for key in mirror.objects.stamps(name):
        if key != f"{name}/{_MARK}":
            mirror.objects.delete(key)
    mirror.objects.delete_folder(name)
