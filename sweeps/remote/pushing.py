"""Uploads changes of a sweep's folder in an order that is always safe to read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rc_core.artifacts import sha256
from sweeps.remote.files import SUMS, file_keys, record_key, trial_ids, views
from sweeps.remote.objects import Objects, Stamp, UnreachableError
from sweeps.remote.steps import Steps, stamp_of

_THREADS = 8
_JOURNAL = ".journal"


def unshared(folder: Path) -> list[str]:
    """Return the keys of a sweep's files that are not at its address, without a request."""
    steps = Steps(folder)
    keys = views(folder)
    for trial in trial_ids(folder):
        keys += [*file_keys(folder, trial), record_key(trial)]
    return [key for key in keys if steps.changed_here(key)]


def share(
    objects: Objects, folder: Path, *, with_views: bool, trials: Iterable[str] | None
) -> None:
    """Upload changes made here: each trial's files before its record, then the views.

    Args:
        objects: at the address.
        folder: of the sweep.
        with_views: whether to upload the files beside the trials too.
        trials: ids of the trials to check; None: all.

    Raises:
        StorageError: an upload failed; the next call continues there.
    """
    steps = Steps(folder)
    if steps.changed_here("sweep.yaml"):
        # With it, other machines see the folder as a sweep.
        _share_views(objects, folder, ["sweep.yaml"], steps)
    chosen = sorted(trial_ids(folder) if trials is None else trials)
    # The search's journal first: it must know each trial whose record says that it has ended.
    if any(steps.changed_here(record_key(trial)) for trial in chosen):
        journals = [key for key in views(folder) if key.endswith(_JOURNAL)]
        _share_views(objects, folder, [k for k in journals if steps.changed_here(k)], steps)
    for trial in chosen:
        _share_trial(objects, folder, trial, steps)
    if with_views:
        changed = [key for key in views(folder) if steps.changed_here(key)]
        _share_views(objects, folder, changed, steps)


def _share_trial(objects: Objects, folder: Path, trial: str, steps: Steps) -> None:
    key = record_key(trial)
    files = [each for each in file_keys(folder, trial) if steps.changed_here(each)]
    here = stamp_of(folder / key)
    if here is None or not (files or steps.changed_here(key)):
        return
    # Read only once, as a worker may write the next one meanwhile.
    record = (folder / key).read_bytes()
    if files and json.loads(record)["status"] != "running":
        _share_files(objects, folder, files, steps)
        _share_sums(objects, folder, trial)
    _write(objects, folder, key, record, here, steps)
    steps.save()


def _share_sums(objects: Objects, folder: Path, trial: str) -> None:
    """Upload the checksums of a trial's files; those of files on other machines stay."""
    start = f"trials/{trial}/"
    place = f"{folder.name}/{start}{SUMS}"
    known = objects.read(place)
    sums = json.loads(known)["files"] if known else {}
    for key in file_keys(folder, trial):
        sums[key.removeprefix(start)] = {"sha256": sha256(folder / key)}
    objects.write(place, json.dumps({"files": sums}, indent=1).encode())


def _share_files(objects: Objects, folder: Path, keys: Sequence[str], steps: Steps) -> None:
    """Upload files in parallel, and check that they arrived whole."""
    if not keys:
        return
    before = {key: stamp_of(folder / key) for key in keys}
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda key: objects.upload(folder / key, f"{folder.name}/{key}"), keys))
    there = objects.of(f"{folder.name}/{key}" for key in keys)
    for key in keys:
        here, arrived = before[key], there.get(f"{folder.name}/{key}")
        if here is None or arrived is None or arrived[0] != here[0]:
            raise UnreachableError(
                f"{objects.address.uri}/{folder.name}/{key} must have the file's "
                f"{here[0] if here else 0} bytes, but has {arrived[0] if arrived else 0}; it was "
                "changed while it was uploaded"
            )
        steps.is_same(key, arrived, here)
    steps.save()


def _share_views(objects: Objects, folder: Path, keys: Sequence[str], steps: Steps) -> None:
    """Upload small files that may change meanwhile: each is read at once, then uploaded."""

    def write(key: str) -> None:
        here = stamp_of(folder / key)
        if here is None:
            return
        content = (folder / key).read_bytes()
        if key.endswith(_JOURNAL):
            # Its last line may be incomplete; the next upload has it.
            content = content[: content.rfind(b"\n") + 1]
        _write(objects, folder, key, content, here, steps)

    if keys:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(write, keys))
        steps.save()


def _write(
    objects: Objects, folder: Path, key: str, content: bytes, here: Stamp, steps: Steps
) -> None:
    """Upload content that was read from the file with the stamp `here`."""
    place = f"{folder.name}/{key}"
    objects.write(place, content)
    there = objects.of([place]).get(place)
    if there is None or there[0] != len(content):
        raise UnreachableError(f"{objects.address.uri}/{place} did not arrive whole")
    steps.is_same(key, there, here)
