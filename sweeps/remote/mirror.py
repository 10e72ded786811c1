"""A folder of this machine that is kept in step with an address; all other code works on it."""

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

# A sweep and its confirmation lie side by side; see sweeps/verification/confirm.py.
CONFIRM_SUFFIX = ".confirm"
_MARKER = ".remote.json"


class Mirror:
    """The folder of one address."""

    def __init__(self, root: Path, address: Address, identity: str) -> None:
        """Store what is given; nothing is asked of the service yet.

        Args:
            root: the folder.
            address: what it is kept in step with.
            identity: of this folder, made once; tells it from that of another machine.
        """
        self.root = root
        self.identity = identity
        self._objects = Objects(address)

    @classmethod
    def of(cls, address: Address) -> Mirror:
        """Return the mirror of an address, made where there is none. Raises StorageError."""
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
                # Of processes that come here at once one makes it, all others take that one's:
                # with two identities a lease of this machine would seem another machine's.
                with suppress(FileExistsError):
                    os.link(temporary, root / _MARKER)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"what lies at {address.uri} is worked on in {root}, which must be writable and "
                f"have hard links: {error.strerror}; name another folder in RC_STATE"
            ) from error
        made = cls.at(root)
        assert made is not None
        return made

    @classmethod
    def at(cls, root: Path) -> Mirror | None:
        """Return the mirror that a storage folder is, None for one that is no mirror."""
        return read_json(
            root / _MARKER,
            lambda raw: cls(
                root, Address(raw["bucket"], raw["prefix"], raw.get("endpoint", "")), raw["id"]
            ),
            what="which address the folder is kept in step with",
            advice="remove it, and name the address once: --storage URI",
        )

    @property
    def uri(self) -> str:
        return self._objects.address.uri

    @cached_property
    def objects(self) -> Objects:
        """What lies at the address, once it was looked whether there is a bucket."""
        self._objects.check()
        return self._objects

    @cached_property
    def artifacts(self) -> RemoteArtifacts:
        return RemoteArtifacts(self.root / "artifacts", self._objects)

    def names(self) -> list[str]:
        """Return the names of the sweeps (and other folders) at the address."""
        return self.objects.folders()

    def pull(self, name: str) -> None:
        """Bring what is newer of a sweep and its confirmation: all but models and predictions.

        A sweep that is driven from this folder is left alone: here it is newest.

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
        """Bring the files that are missing of a part of each trial; checksums are compared.

        Args:
            name: of the sweep, as the newest pull knows it.
            part: `model` or `predictions`.
            trial: of one trial only.

        Raises:
            StorageError: a file is not what its trial's checksums say.
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
        """Bring what is only at the address of a sweep that is driven here: records, predictions.

        Raises:
            StorageError: the service cannot be reached or refuses.
        """
        pulling.pull(self.objects, self.root / name)
        self.bring(name, "predictions")

    def bring_record(self, name: str, trial: str) -> None:
        """Bring the record of a trial that ran on another node, if it is newer than what is here.

        Raises:
            StorageError: the service cannot be reached or refuses.
        """
        pulling.bring_record(self.objects, self.root / name, trial)

    def share(self, name: str, *, views: bool = True, trials: Iterable[str] | None = None) -> None:
        """Upload what has changed of a sweep; see `sweeps.remote.pushing.share`."""
        pushing.share(self.objects, self.root / name, with_views=views, trials=trials)

    def unshared(self, name: str) -> str:
        """Say what of a sweep is not at the address yet; empty where all is. Asks nothing of it."""
        files, artifacts = len(pushing.unshared(self.root / name)), len(self.artifacts.left())
        what = f"{count_of(files, 'file')} of {name} and {count_of(artifacts, 'artifact')}"
        what += f" {'is' if files + artifacts == 1 else 'are'} not at {self.uri} yet"
        return what if files or artifacts else ""
