"""Downloads a sweep's files from its address."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rc_core.artifacts import sha256
from rc_core.atomic import replacing
from sweeps.remote.files import (
    ATTEMPT,
    LEASE,
    SUMS,
    driven_here,
    is_record,
    is_view,
    part_of,
    record_key,
)
from sweeps.remote.objects import Objects, Stamp, UnreachableError
from sweeps.remote.steps import Steps, stamp_of

_THREADS = 8


def pull(objects: Objects, folder: Path) -> None:
    """Download newer views and records of a sweep; nothing if the address has no such sweep."""
    name = folder.name
    found = objects.stamps(name)
    listed = {key[len(name) + 1 :]: stamp for key, stamp in found.items()}
    if "sweep.yaml" not in listed:
        if (folder / "sweep.yaml").is_file():
            # Removed there. If this machine goes on with it, all its files must be uploaded again.
            steps = Steps(folder)
            steps.set_listing({})
            steps.save()
        return
    folder.mkdir(parents=True, exist_ok=True)
    steps = Steps(folder)
    steps.set_listing(listed)
    behind = _attempt_there(objects, name, steps) > driven_here(folder)
    # Of a file that changed on both sides, the machine that drove last has the right one.
    wanted = [
        key
        for key in listed
        if (is_view(key) or is_record(key))
        and (
            behind
            or not (folder / key).is_file()
            or (steps.changed_there(key) and (key == LEASE or not steps.changed_here(key)))
        )
    ]
    # The attempt comes last: it says that this folder has all files of that attempt.
    for part in ([key for key in wanted if key != ATTEMPT], [ATTEMPT] if ATTEMPT in wanted else []):
        bring(objects, folder, part, steps)
    if LEASE not in listed:
        (folder / LEASE).unlink(missing_ok=True)


def bring(objects: Objects, folder: Path, keys: Sequence[str], steps: Steps) -> None:
    """Download objects of a sweep in parallel: trials' files first, compared with their checksums.

    Downloads are recorded even if a later one fails. Otherwise they would look like changes made
    here, hide newer versions there, and be uploaded over them.

    Raises:
        StorageError: one does not match its checksum, or the service fails.
    """
    try:
        _bring(objects, folder, keys, steps)
    finally:
        steps.save()


def _bring(objects: Objects, folder: Path, keys: Sequence[str], steps: Steps) -> None:
    files = [key for key in keys if part_of(key)[0]]
    trials = sorted({part_of(key)[0] for key in files})
    with ThreadPoolExecutor(_THREADS) as pool:
        read = pool.map(lambda t: objects.read(f"{folder.name}/trials/{t}/{SUMS}"), trials)
        sums = {
            f"trials/{trial}/{file}": str(facts["sha256"])
            for trial, content in zip(trials, read, strict=True)
            for file, facts in (json.loads(content)["files"] if content else {}).items()
        }

        def one(key: str) -> None:
            place, there = f"{folder.name}/{key}", steps.listed[key]
            if part_of(key)[0]:
                here: Stamp | None = fetch(objects, place, folder / key, there[0], sums.get(key))
            else:
                here = _read(objects, place, folder / key)
            if here is not None:
                steps.is_same(key, there, here)

        for part in (files, [key for key in keys if not part_of(key)[0]]):
            list(pool.map(one, part))


def bring_record(objects: Objects, folder: Path, trial: str) -> None:
    """Download one trial's record if it is further on than the one here.

    Raises:
        StorageError: it was replaced meanwhile, or the service fails.
    """
    key = record_key(trial)
    file, place = folder / key, f"{folder.name}/{key}"
    content = objects.read(place)
    if content is None or (file.is_file() and _said(content) <= _said(file.read_bytes())):
        return
    there = objects.of([place]).get(place)
    if there is None or there[0] != len(content):
        raise UnreachableError(f"{objects.address.uri}/{place} was replaced while it was read")
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_bytes(content)
        here = stamp_of(temporary)
        assert here is not None
        # Recorded before the file is visible: the uploads would take it for a change made here and
        # write it over what its worker has uploaded since.
        steps = Steps(folder)
        steps.is_same(key, there, here)
        steps.save()


def _said(record: bytes) -> tuple[int, bool, int]:
    """Return how far a record is: its attempt, whether it has ended, its number of rungs."""
    values = json.loads(record)
    return values["attempt"], values["status"] != "running", len(values["rungs"])


def fetch(objects: Objects, key: str, file: Path, size: int, checksum: str | None = None) -> Stamp:
    """Download one object, named `file` only when it is whole; return the file's stamp."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        objects.download(key, temporary)
        right = checksum is None or sha256(temporary) == checksum
        if temporary.stat().st_size != size or not right:
            raise UnreachableError(
                f"{objects.address.uri}/{key} must match its size and checksum, but does not; if "
                "its sweep is running, try again in a moment"
            )
    stamp = stamp_of(file)
    assert stamp is not None
    return stamp


def _read(objects: Objects, key: str, file: Path) -> Stamp | None:
    """Download a small object as it is now, maybe newer than the listing; None if it is gone."""
    content = objects.read(key)
    if content is not None:
        _put(content, file)
    return None if content is None else stamp_of(file)


def _put(content: bytes, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_bytes(content)


def _attempt_there(objects: Objects, name: str, steps: Steps) -> int:
    # Its stamp does not tell: services have times in seconds, and its size stays the same.
    content = objects.read(f"{name}/{ATTEMPT}") if ATTEMPT in steps.listed else None
    return int(json.loads(content)["attempt"]) if content else 0
