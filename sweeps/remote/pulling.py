"""Bringing a sweep's files from its address."""

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
    """Bring what is newer of a sweep: its views and records. Nothing where there is none."""
    name = folder.name
    found = objects.stamps(name)
    listed = {key[len(name) + 1 :]: stamp for key, stamp in found.items()}
    if "sweep.yaml" not in listed:
        if (folder / "sweep.yaml").is_file():
            # Removed there. Should this machine go on with it, all that it has goes up again.
            steps = Steps(folder)
            steps.set_listing({})
            steps.save()
        return
    folder.mkdir(parents=True, exist_ok=True)
    steps = Steps(folder)
    steps.set_listing(listed)
    behind = _attempt_there(objects, name, steps) > driven_here(folder)
    # Changed on both sides: the machine that drove last is right.
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
    # The attempt last: with it this folder counts as one that has all of that attempt.
    for part in ([key for key in wanted if key != ATTEMPT], [ATTEMPT] if ATTEMPT in wanted else []):
        bring(objects, folder, part, steps)
    if LEASE not in listed:
        (folder / LEASE).unlink(missing_ok=True)


def bring(objects: Objects, folder: Path, keys: Sequence[str], steps: Steps) -> None:
    """Bring objects of a sweep side by side: trials' files, held against their checksums, first.

    What came is noted also where the rest does not: else it would seem changed here, would hide
    what is newer there, and be uploaded over it.

    Raises:
        StorageError: one is not what its checksum says, or the service fails.
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
    """Bring one trial's record where it says more than the one that is here.

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
        # Noted before it can be seen: the uploads would take it for a change that was made here,
        # and send it back over what its worker has written since.
        steps = Steps(folder)
        steps.is_same(key, there, here)
        steps.save()


def _said(record: bytes) -> tuple[int, bool, int]:
    """Return how much a record says: its attempt, whether it has ended, its rungs."""
    values = json.loads(record)
    return values["attempt"], values["status"] != "running", len(values["rungs"])


def fetch(objects: Objects, key: str, file: Path, size: int, checksum: str | None = None) -> Stamp:
    """Bring one object; it gets its name only when it is whole. Return the file's stamp."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        objects.download(key, temporary)
        right = checksum is None or sha256(temporary) == checksum
        if temporary.stat().st_size != size or not right:
            raise UnreachableError(
                f"{objects.address.uri}/{key} must be what its checksum says, but is not; if its "
                "sweep is running, try again in a moment"
            )
    stamp = stamp_of(file)
    assert stamp is not None
    return stamp


def _read(objects: Objects, key: str, file: Path) -> Stamp | None:
    """Bring a small object as it is now, which may be newer than the listing; None: it is gone."""
    content = objects.read(key)
    if content is not None:
        _put(content, file)
    return None if content is None else stamp_of(file)


def _put(content: bytes, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_bytes(content)


def _attempt_there(objects: Objects, name: str, steps: Steps) -> int:
    # Read, not compared by its stamp: services tell time in seconds, and its size never changes.
    content = objects.read(f"{name}/{ATTEMPT}") if ATTEMPT in steps.listed else None
    return int(json.loads(content)["attempt"]) if content else 0
