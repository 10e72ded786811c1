"""The folder on this machine that is kept in step with an address; all other code works on it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from rc_core.atomic import write_json
from rc_core.errors import StorageError
from rc_core.labels import count_of
from sweeps.json_files import read_json
from sweeps.remote import pulling, pushing
from sweeps.remote.address import Address
from sweeps.remote.artifacts import RemoteArtifacts
from sweeps.remote.files import is_locked, part_of
from sweeps.remote.objects import Objects
from sweeps.remote.steps import Steps

# A confirmation's folder is beside its sweep's; see sweeps/verification/confirm.py.
CONFIRM_SUFFIX = ".confirm"
_MARKER = ".remote.json"


class Mirror:
    """The folder of one address; moves files both ways."""

    def __init__(self, root: Path, address: Address, identity: str) -> None:
        """Store what is given; no request is made yet.

        Args:
            root: the folder.
            address: where the objects are.
            identity: unique to this folder; mirrors on other machines have others.
        """
        self.root = root
        self.identity = identity
        self._objects = Objects(address)

    @classmethod
    def of(cls, address: Address) -> Mirror:
        """Return the mirror of an address, made if there is none. Raises StorageError."""
        root = address.mirror
        found = cls.at(root)
        if found is not None:
            return found
        values = {"bucket": address.bucket, "prefix": address.prefix, "endpoint": address.endpoint}
        identity = uuid.uuid4().hex
        temporary = root / f"{_MARKER}.{identity}.tmp"
        try:
            root.mkdir(parents=True, exist_ok=True)
            try:
                write_json(temporary, {**values, "id": identity})
                # Of processes that get here at once, one makes it and the others use that one: with
                # two identities, a lease of this machine would seem to be another machine's.
                with suppress(FileExistsError):
                    os.link(temporary, root / _MARKER)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"{address.uri} is kept in step with the folder {root}, which must be writable and "
                f"support hard links: {error.strerror}; name another folder in RC_STATE"
            ) from error
        made = cls.at(root)
        assert made is not None
        return made

    @classmethod
    def at(cls, root: Path) -> Mirror | None:
        """Return the mirror at a storage folder, None if the folder is not a mirror."""
        return read_json(
            root / _MARKER,
            lambda raw: cls(
                root, Address(raw["bucket"], raw["prefix"], raw.get("endpoint", "")), raw["id"]
            ),
            what="which address the folder is kept in step with",
            advice="remove it, and run a command with --storage URI to write it again",
        )

    @property
    def uri(self) -> str:
        return self._objects.address.uri

    @cached_property
    def objects(self) -> Objects:
        """The objects at the address; the first access checks that the bucket exists."""
        self._objects.check()
        return self._objects

    @cached_property
    def artifacts(self) -> RemoteArtifacts:
        return RemoteArtifacts(self.root / "artifacts", self._objects)

    def names(self) -> list[str]:
        """Return the names of the sweeps (and other folders) at the address."""
        return self.objects.folders()

    def pull(self, name: str) -> None:
        """Fetch what is newer of a sweep and its confirmation, except models and predictions.

        A sweep that is driven from this folder is skipped: it is newest here.

        Raises:
            StorageError: the service cannot be reached or refuses.
        """
        if is_locked(self.root / name):
            return
        base = name.removesuffix(CONFIRM_SUFFIX)
        for each in (base, base + CONFIRM_SUFFIX):
            if not is_locked(self.root / each):
                pulling.pull(self.objects, self.root / each)

    def bring(self, name: str, part: str, *, trial: str | None = None) -> None:
        """Fetch the missing files of one part of each trial, and compare their checksums.

        Args:
            name: of the sweep; the listing of its newest pull is used.
            part: `model` or `predictions`.
            trial: id of the only trial to fetch; None: all.

        Raises:
            StorageError: a file does not match its checksum, or the service fails.
        """
        folder = self.root / name
        steps = Steps(folder)
        missing = [
            key
            for key in steps.listed
            if part_of(key)[1] == part and trial in (None, part_of(key)[0])
            if not (folder / key).is_file()
        ]
        if missing:
            pulling.bring(self.objects, folder, missing, steps)

    def gather(self, name: str) -> None:
        """Fetch records and predictions of a sweep driven here that are only at the address.

        Raises:
            StorageError: the service cannot be reached or refuses.
        """
        pulling.pull(self.objects, self.root / name)
        self.bring(name, "predictions")

    def bring_record(self, name: str, trial: str) -> None:
        """Fetch the record of a trial that ran on another node, if it is newer than the one here.

        Raises:
            StorageError: the service cannot be reached or refuses.
        """
        pulling.bring_record(self.objects, self.root / name, trial)

    def share(self, name: str, *, views: bool = True, trials: Iterable[str] | None = None) -> None:
        """Upload changes of a sweep; see `sweeps.remote.pushing.share`."""
        pushing.share(self.objects, self.root / name, with_views=views, trials=trials)

    def unshared(self, name: str) -> str:
        """Say what of a sweep is not at the address yet, without a request; empty if all is."""
        files, artifacts = len(pushing.unshared(self.root / name)), len(self.artifacts.left())
        what = f"{count_of(files, 'file')} of {name} and {count_of(artifacts, 'artifact')}"
        what += f" {'is' if files + artifacts == 1 else 'are'} not at {self.uri} yet"
        return what if files or artifacts else ""
