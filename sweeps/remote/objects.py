"""Whole objects below one address, through pyarrow's S3 client.

An object is visible as a whole or not at all, with one exception: pyarrow completes an upload whose
source fails half-way. Callers therefore compare sizes after uploads, and checksums of downloads
(sweeps/remote/pulling.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from rc_core.errors import StorageError
from sweeps.remote.address import Address

# (bytes, modification time in nanoseconds) of one version of a file or object.
Stamp = tuple[int, int]

_CODE = re.compile(r"AWS Error ([A-Z_]+)")
# Errors that a retry cannot help; any other may come from the network or a busy service.
_REFUSED = {
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "INVALID_CLIENT_TOKEN_ID",
    "MISSING_AUTHENTICATION_TOKEN",
    "SIGNATURE_DOES_NOT_MATCH",
    "UNRECOGNIZED_CLIENT",
}
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)
_CHUNK = 8 * 1024 * 1024
_READS = 5


class RefusedError(StorageError):
    """The service refuses: no bucket, no permission, wrong keys. A retry cannot help."""


class UnreachableError(StorageError):
    """The service did not answer, or answered with an error that a retry may help."""


class Objects:
    """The objects below an address, with keys relative to its prefix. Threads may share it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._base = "/".join(filter(None, (address.bucket, address.prefix)))

    def check(self) -> None:
        """Check that the bucket exists and can be read. Raises StorageError."""
        with self._told():
            if self._fs.get_file_info(self.address.bucket).type.name == "NotFound":
                raise RefusedError(
                    f"the bucket '{self.address.bucket}' must exist at {self.service}, but does "
                    "not; make it, or correct --storage"
                )

    @property
    def service(self) -> str:
        return self.address.endpoint or "Amazon S3"

    def stamps(self, folder: str) -> dict[str, Stamp]:
        """Return key -> stamp of every object below a folder; empty if there is none."""
        from pyarrow.fs import FileSelector

        place = self._path(folder)
        with self._told():
            selector = FileSelector(place, recursive=True, allow_not_found=True)
            found = self._fs.get_file_info(selector)
        return {info.path[len(self._base) + 1 :]: _stamp(info) for info in found if info.is_file}

    def folders(self) -> list[str]:
        """Return the names of the folders directly below the address, sorted."""
        from pyarrow.fs import FileSelector

        with self._told():
            found = self._fs.get_file_info(FileSelector(self._base, allow_not_found=True))
        return sorted(info.base_name for info in found if not info.is_file)

    def of(self, keys: Iterable[str]) -> dict[str, Stamp]:
        """Return key -> stamp of those keys that exist."""
        wanted = list(keys)
        with self._told():
            infos = self._fs.get_file_info([self._path(key) for key in wanted])
        pairs = zip(wanted, infos, strict=True)
        return {key: _stamp(info) for key, info in pairs if info.is_file}

    def read(self, key: str) -> bytes | None:
        """Return an object's content, None if there is none.

        The client asks for the size and then for that many bytes, so if a longer object replaces it
        in between, only a part arrives. It is read again until the sizes agree.
        """
        with self._told():
            for _ in range(_READS):
                try:
                    with self._fs.open_input_file(self._path(key)) as stream:
                        content = bytes(stream.readall())
                except FileNotFoundError:
                    return None
                if self._fs.get_file_info(self._path(key)).size == len(content):
                    return content
        raise UnreachableError(
            f"{self.address.uri}/{key} must not change while it is read, but was replaced "
            f"{_READS} times; try again"
        )

    def write(self, key: str, content: bytes) -> None:
        with self._told(), self._fs.open_output_stream(self._path(key)) as stream:
            stream.write(content)

    def upload(self, file: Path, key: str) -> None:
        """Copy a file to an object; the caller compares the size of what arrived."""
        # Not pyarrow's copy_files: on errors it writes to stderr, past all handlers.
        with (
            self._told(),
            file.open("rb") as source,
            self._fs.open_output_stream(self._path(key)) as target,
        ):
            while chunk := source.read(_CHUNK):
                target.write(chunk)

    def download(self, key: str, file: Path) -> None:
        """Copy an object to a file."""
        with (
            self._told(),
            self._fs.open_input_stream(self._path(key)) as source,
            file.open("wb") as target,
        ):
            while chunk := source.read(_CHUNK):
                target.write(chunk)

    def delete(self, key: str) -> None:
        """Remove an object; no error if there is none."""
        with self._told():
            try:
                self._fs.delete_file(self._path(key))
            except FileNotFoundError:
                return

    def delete_folder(self, folder: str) -> None:
        """Remove every object below a folder; no error if there is none."""
        with self._told():
            try:
                self._fs.delete_dir(self._path(folder))
            except FileNotFoundError:
                return

    def _path(self, key: str) -> str:
        return f"{self._base}/{key}" if key else self._base

    @cached_property
    def _fs(self) -> Any:
        from pyarrow import fs

        endpoint = self.address.endpoint
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        # A small object takes one request instead of three.
        options: dict[str, Any] = {"allow_delayed_open": True}
        if endpoint:
            scheme, _, host = endpoint.rpartition("://")
            options |= {"endpoint_override": host, "scheme": scheme or "https"}
            region = region or "us-east-1"
        elif not region:
            region = fs.resolve_s3_region(self.address.bucket)
        return fs.S3FileSystem(region=region, **options)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the client's errors into ours."""
        try:
            yield
        except FileNotFoundError as error:
            raise UnreachableError(f"{self.address.uri}: {error}") from error
        except (OSError, ValueError) as error:
            # Arrow raises errors of both kinds.
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> StorageError:
        text = " ".join(str(error).split())
        code = match[1] if (match := _CODE.search(text)) else ""
        where = f"{self.address.uri} ({self.service})"
        if code == "NO_SUCH_BUCKET" or ("not found" in text and "ucket" in text):
            return RefusedError(
                f"the bucket '{self.address.bucket}' must exist at {self.service}, but does not; "
                "make it, or correct --storage"
            )
        if code in _REFUSED:
            if not _has_credentials():
                return RefusedError(
                    f"{where} must be reached with credentials, but none were found: set "
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
                )
            return RefusedError(
                f"{where} must let these credentials list, read, write and delete objects, but "
                f"says {code}"
            )
        if code == "NETWORK_CONNECTION":
            return UnreachableError(
                f"{where} must answer, but could not be reached; check the network and "
                f"AWS_ENDPOINT_URL ({text[text.find('curlCode') :][:160]})"
            )
        return UnreachableError(f"{where}: {text[:400]}")


def _stamp(info: Any) -> Stamp:
    return int(info.size), int(info.mtime_ns)


def _has_credentials() -> bool:
    shared = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
    return any(os.environ.get(name) for name in _CREDENTIALS) or shared.expanduser().is_file()
