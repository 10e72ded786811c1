"""Names of sweeps: which are valid, and which are taken in a storage."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rc_core.errors import StorageError
from sweeps.failure import came_to_nothing, failure_of, resume_options, stopped_by_gate
from sweeps.remote.files import is_locked
from sweeps.remote.mirror import CONFIRM_SUFFIX, Mirror
from sweeps.storages import command_at

MOST_CHARACTERS = 100
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MOST_CHARACTERS - 1}}}")
# Names that would collide with other folders of a storage.
RESERVED = ("artifacts", "mlflow_artifacts", "mlruns")


def check_name(name: str) -> str:
    """Return a sweep's name if it is valid. Raises StorageError."""
    if len(name) > MOST_CHARACTERS:
        raise StorageError(
            f"a sweep's name must have at most {MOST_CHARACTERS} characters, but '{name[:20]}...' "
            f"has {len(name)}; give a shorter one with --name"
        )
    if not NAME.fullmatch(name) or name in RESERVED:
        raise StorageError(
            "a sweep's name must consist of letters, digits, '.', '_' and '-', begin with a letter "
            "or a digit, and not be one of "
            f"{', '.join(RESERVED)} (it becomes a folder in the storage), but got '{name}'"
        )
    return name


def check_new(storage: Path, name: str, *, confirms: str | None = None) -> None:
    """Check that a new sweep may be given this name in a storage.

    Args:
        storage: folder of all sweeps.
        name: the requested name.
        confirms: the sweep that the new one confirms (`confirm.sweep`), None if it confirms none.

    Raises:
        StorageError: it is invalid, taken, or reserved for another sweep's confirmation, which
            every view of that sweep reads.
    """
    if name.endswith(CONFIRM_SUFFIX) and name != f"{confirms}{CONFIRM_SUFFIX}":
        raise StorageError(
            f"a sweep's name must not end in '{CONFIRM_SUFFIX}', which is for the new seeds that "
            f"rc-sweep confirm trains, but got '{name}'; choose another --name"
        )
    check_free(storage, name)


def check_free(storage: Path, name: str) -> None:
    """Check that a name is valid and not taken in a storage. Raises StorageError.

    A sweep that came to nothing may be replaced, but not at a URI, as other machines may know it.
    """
    path = storage / check_name(name)
    here = os.path.lexists(path) and not came_to_nothing(path)
    if here or name in elsewhere(storage):
        raise taken(storage, name)


def as_stem(text: str) -> str:
    """Return a text (the stem of a YAML's name) as a valid prefix of names. Raises StorageError."""
    return check_name(re.sub(r"[^A-Za-z0-9._-]", "-", text))


def elsewhere(storage: Path) -> set[str]:
    """Return the names of the sweeps at a storage's URI; empty for a plain folder."""
    mirror = Mirror.at(storage)
    return set(mirror.names()) if mirror is not None else set()


def taken(storage: Path, name: str) -> StorageError:
    """Return the error that the name of a sweep is taken, and what to do."""
    path, another = storage / name, "choose another --name"
    if is_locked(path):
        watch = command_at(storage, name, "status", "--watch")
        what = f"exists in {storage} and is running; watch it: {watch}, or {another}"
    elif path.exists() and not (path / "sweep.yaml").is_file():
        what = f"cannot be created, as {path} exists and is not a sweep; {another}, or move it away"
    elif came_to_nothing(path):
        as_it_is = command_at(storage, name, "resume", *resume_options(path))
        what = (
            f"exists, but came to nothing: {failure_of(path)}. To correct it, {another}; {as_it_is}"
        )
        what += " tries it again unchanged"
    elif stopped_by_gate(path):
        free = command_at(storage, name, "remove")
        what = f"exists, but was stopped: {failure_of(path)}. For a corrected one, {another}"
        what += f", or remove it first: {free}"
    else:
        go_on = command_at(storage, name, "resume")
        what = f"exists in {storage}; {another}, or continue it: {go_on}"
    return StorageError(f"sweep '{name}' {what}")
