"""A sweep's folder: paths, names, the lock, and the attempt number that fences off old workers.

    <storage>/mlflow.db  artifacts/
    <storage>/<sweep>/sweep.yaml  attempt.json  study.journal  outbox.jsonl  front.json  front.png
    <storage>/<sweep>/trials/<id>/...

A storage at a URI has a local folder that is kept in sync with it (sweeps/remote/mirror.py).

No torch, Ray or MLflow here: the quick commands use this.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rc_core.atomic import write_json, write_text
from rc_core.errors import StorageError, did_you_mean
from rc_core.record import TrialFolder, TrialRecord, read_records
from rc_core.yaml_files import read_yaml
from sweeps.failure import clear
from sweeps.names import NAME, RESERVED, as_stem, check_free, elsewhere, taken
from sweeps.remote.address import local_path, parse
from sweeps.remote.artifacts import RemoteArtifacts
from sweeps.remote.files import attempt_in, is_locked, lock
from sweeps.remote.lease import other_driver, release_dead
from sweeps.remote.mirror import Mirror
from sweeps.remote.trials import MirroredTrial
from sweeps.remote.worker import AwayTrial, token_in
from sweeps.storages import command_at, storage_root

# Id of the dense reference.
REFERENCE_ID = "t0000"
# Seconds to wait before a record missing at a URI is requested again.
_PAUSES = (1.0, 2.0)


class SweepFolder:
    """Where one sweep lives."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        # Whether all workers of the driver are on this machine.
        self.alone = True

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def storage(self) -> Path:
        return self.path.parent

    @cached_property
    def mirror(self) -> Mirror | None:
        """The storage's mirror, None if it is a plain folder."""
        return Mirror.at(self.storage)

    @property
    def artifacts(self) -> Path:
        return self.storage / "artifacts"

    @property
    def trials(self) -> Path:
        return self.path / "trials"

    @property
    def study(self) -> Path:
        return self.path / "study.journal"

    @property
    def outbox(self) -> Path:
        return self.path / "outbox.jsonl"

    @property
    def usage(self) -> Path:
        return self.path / "usage.json"

    @property
    def front(self) -> Path:
        return self.path / "front.json"

    @property
    def picture(self) -> Path:
        return self.path / "front.png"

    @property
    def test(self) -> Path:
        return self.path / "test.json"

    @property
    def latency(self) -> Path:
        """What rc-sweep latency measured; see sweeps/selection/measured.py."""
        return self.path / "latency.json"

    @property
    def clusters(self) -> Path:
        """Which samples of the dev roles are dependent; see sweeps/selection/answers.py."""
        return self.path / "clusters.json"

    @classmethod
    def create(cls, storage: Path, name: str | None, stem: str) -> SweepFolder:
        """Create the folder of a new sweep; without a name it is called `<stem>-<n>`.

        A sweep of that name that failed before its first trial is replaced.

        Raises:
            StorageError: the name is taken or invalid, or the storage cannot be written.
        """
        if name is not None:
            check_free(storage, name)
            folder = cls(storage / name)
            try:
                clear(folder.path)
                folder.path.mkdir(parents=True)
            except FileExistsError:
                raise taken(storage, name) from None
            except OSError as error:
                raise StorageError(f"{storage} must be writable: {error.strerror}") from error
            return folder
        others, stem, number = elsewhere(storage), as_stem(stem), 1
        while True:
            folder = cls(storage / f"{stem}-{number}")
            try:
                if folder.name in others:
                    raise FileExistsError
                folder.path.mkdir(parents=True)
                return folder
            except FileExistsError:
                number += 1
            except OSError as error:
                raise StorageError(f"{storage} must be writable: {error.strerror}") from error

    @classmethod
    def find(cls, sweep: str, storage: Path) -> SweepFolder:
        """Return an existing sweep by its name under the storage, or by path.

        From a storage at a URI, newer files are downloaded first.

        Raises:
            StorageError: there is none, or the URI's service cannot be reached.
        """
        mirror = Mirror.at(storage)
        if mirror is not None and NAME.fullmatch(sweep):
            try:
                mirror.pull(sweep)
            except StorageError as error:
                if not (storage / sweep / "sweep.yaml").is_file():
                    raise
                raise StorageError(
                    f"{error}. The files that this machine has can be used by giving the path "
                    f"instead of the name: {storage / sweep}"
                ) from error
        for path in (storage / sweep, Path(sweep).expanduser()):
            if (path / "sweep.yaml").is_file():
                return cls(path)
        names = {path.parent.name for path in storage.glob("[!.]*/sweep.yaml")}
        if mirror is not None:
            names |= set(mirror.names()) - set(RESERVED)
        where = storage if mirror is None else mirror.uri
        raise StorageError(f"no sweep '{sweep}' in {where}: {did_you_mean(sweep, sorted(names))}")

    def write_config(self, values: dict[str, Any]) -> None:
        """Write sweep.yaml, the resolved configuration: readers see the old one or the new."""
        text = OmegaConf.to_yaml(OmegaConf.create(values), sort_keys=False)
        write_text(self.path / "sweep.yaml", text, sync=True)

    def read_config(self) -> dict[str, Any]:
        """Return sweep.yaml's plain values."""
        return read_yaml(self.path / "sweep.yaml")

    def records(self) -> list[TrialRecord]:
        return read_records(self.trials)

    def attempt(self) -> int:
        """Return the number of the newest driver; 0 before the first."""
        return attempt_in(self.path)

    def trial(self, trial_id: str) -> TrialFolder:
        """Return a trial's folder; its commits are refused once a newer driver runs."""
        path = self.trials / trial_id
        if self.mirror is not None and not is_locked(self.path):
            return MirroredTrial(path, self.mirror, fence=self.attempt)
        return TrialFolder(path, fence=self.attempt)

    def newest(self, trial_id: str, *, ended: bool = False) -> TrialRecord | None:
        """Return a trial's record; with a storage at a URI, its worker may be on another machine.

        Args:
            trial_id: the trial's.
            ended: its worker says that it has ended, so its record must say so too.

        Raises:
            StorageError: the record cannot be downloaded or read, or has not arrived yet.
        """
        for pause in _PAUSES:
            with suppress(StorageError):
                return self._brought(trial_id, ended)
            time.sleep(pause)
        return self._brought(trial_id, ended)

    def _brought(self, trial_id: str, ended: bool) -> TrialRecord | None:
        if self.mirror is not None and not self.alone:
            self.mirror.bring_record(self.name, trial_id)
        record = self.trial(trial_id).read()
        if ended and (record is None or record.status == "running"):
            raise StorageError(f"the record of {trial_id} must say how it ended, but does not yet")
        return record

    @property
    def address(self) -> str:
        """Where a worker on any node finds the sweep: `trial_at` reads it."""
        if self.mirror is None:
            return str(self.path)
        return f"{self.mirror.uri}/{self.name}#{token_in(self.path)}"

    @property
    def artifacts_address(self) -> str:
        """Where a worker on any node finds the artifacts: `artifacts_at` reads it."""
        return str(self.artifacts) if self.mirror is None else self.mirror.uri

    def refresh(self) -> None:
        """Download what is newer at the storage's URI; does nothing for a folder."""
        if self.mirror is not None:
            self.mirror.pull(self.name)

    def unshared(self) -> str:
        """Say what is not at the storage's URI yet; empty if nothing, or for a folder."""
        return "" if self.mirror is None else self.mirror.unshared(self.name)

    def share(self) -> None:
        """Upload what a command has written here to the storage's URI, if it has one.

        Raises:
            StorageError: the service cannot be reached or refuses.
        """
        if self.mirror is not None and not is_locked(self.path):
            self.mirror.share(self.name)
            self.mirror.artifacts.keep_left()
            release_dead(self.mirror, self.path)

    @contextmanager
    def driving(self) -> Iterator[int]:
        """Hold the sweep's lock and a new attempt number while a driver runs.

        Raises:
            StorageError: another driver runs it, or its folder cannot be written or locked.
        """
        try:
            opened = (self.path / ".lock").open("a+")
        except OSError as error:
            raise self._unwritable(error) from error
        with opened as stream:
            try:
                lock(stream)
            except BlockingIOError:
                raise StorageError(
                    f"sweep '{self.name}' is being run by another process; watch it with: "
                    + command_at(self.storage, self.name, "status", "--watch")
                ) from None
            except OSError as error:
                raise StorageError(
                    f"{self.path} must lie on a file system with locks (flock), which keep two "
                    f"drivers from running one sweep at once: {error.strerror}; copy the storage "
                    "to a local disk, or mount its file system with locks"
                ) from error
            try:
                attempt = self.attempt() + 1
                write_json(self.path / "attempt.json", {"attempt": attempt, "pid": os.getpid()})
            except OSError as error:
                raise self._unwritable(error) from error
            yield attempt

    def check_writable(self) -> None:
        """Raise StorageError if the folder is not writable, before anything is computed for it."""
        try:
            tempfile.TemporaryFile(dir=self.path).close()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self.path} must be writable for this ({error.strerror}); run it as the user who "
            "launched the sweep, or on a copy of the storage"
        )

    def is_running(self) -> bool:
        """Tell whether a driver holds the lock, or another machine reported running it recently."""
        if is_locked(self.path):
            return True
        return self.mirror is not None and other_driver(self.mirror, self.path) is not None


def check_weights(trials: Mapping[str, TrialFolder], what: str) -> None:
    """Check that trials have their weights here; those of adopted trials may be elsewhere.

    Args:
        trials: by name.
        what: what is to be done with them: `exported`.

    Raises:
        StorageError: some have none.
    """
    missing = {name: trial for name, trial in trials.items() if not trial.model.is_dir()}
    if not missing:
        return
    more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
    folder = next(iter(missing.values())).path
    raise StorageError(
        f"to be {what}, trials must have weights here, but these have none: "
        f"{', '.join(list(missing)[:8])}{more}. If they were trained elsewhere, copy "
        "trials/<id>/model from there into the DIR that they were adopted from, then: rc-sweep "
        f"adopt {folder.parents[1].name} DIR (or put it at {folder / 'model'})"
        + ("; or test them there: python -m rc_core.trial ... --test" if what == "tested" else "")
    )


def trial_at(address: str, trial_id: str) -> TrialFolder:
    """Return a trial's folder for its worker, on whatever node it is.

    Args:
        address: its sweep's, as from `SweepFolder.address`.
        trial_id: the trial's.
    """
    if local_path(address) is not None:
        return SweepFolder(address).trial(trial_id)
    place, _, token = address.partition("#")
    uri, _, name = place.rpartition("/")
    folder = SweepFolder(storage_root(uri) / name)
    if folder.mirror is None or token_in(folder.path) == token:
        return folder.trial(trial_id)
    return AwayTrial(folder.trials / trial_id, folder.mirror)


def artifacts_at(address: str) -> tuple[Path, RemoteArtifacts | None]:
    """Return the artifact store's root on this node, and what backs it."""
    path = local_path(address)
    if path is not None:
        return path, None
    mirror = Mirror.of(parse(address))
    return mirror.root / "artifacts", mirror.artifacts
