"""Values of `--storage`: a folder, `file:///path` or `s3://bucket/prefix`.

Commands work on a bucket in its mirror, a folder on this machine (sweeps/remote/mirror.py).
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rc_core.errors import Problem, StorageError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HALF = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_STATE = "RC_STATE"


@dataclass(frozen=True)
class Address:
    """Where the objects of a storage are.

    Attributes:
        bucket: its name.
        prefix: of all keys, without slashes at its ends; may be empty.
        endpoint: of the service; empty for Amazon's own.
    """

    bucket: str
    prefix: str
    endpoint: str = ""

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def mirror(self) -> Path:
        """Folder on this machine kept in step with it: below RC_STATE, else ~/.cache/rc-sweep."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "rc-sweep"
        base = Path(os.environ.get(_STATE) or cache).expanduser()
        digest = hashlib.sha256(f"{self.endpoint} {self.uri}".encode()).hexdigest()[:12]
        return (base / f"{self.bucket}-{digest}").resolve()


def local_path(storage: str) -> Path | None:
    """Return the folder that a storage names, None if it is a URI of another kind.

    Raises:
        StorageError: a `file://` URI of another machine, or a URI with one slash only.
    """
    scheme = _SCHEME.match(storage)
    if scheme is None:
        if _HALF.match(storage):
            raise StorageError(
                "--storage must be a folder, file:///path or s3://bucket/prefix with two slashes, "
                f"but got {storage}; for a folder of that name, write ./{storage}"
            )
        return Path(storage)
    if scheme[1].lower() != "file":
        return None
    parts = urlsplit(storage)
    if parts.netloc not in ("", "localhost"):
        raise StorageError(
            f"a file:// storage must be on this machine, file:///path, but got {storage}"
        )
    return Path(unquote(parts.path))


def problems(storage: str | None) -> list[Problem]:
    """Return problems with the configuration key `storage`; None is the default."""
    try:
        if storage is not None and local_path(storage) is None:
            parse(storage)
    except StorageError as error:
        return [Problem("storage", str(error).removeprefix("--storage "))]
    return []


def parse(storage: str) -> Address:
    """Parse an address. Raises StorageError if it is not a supported one."""
    parts = urlsplit(storage)
    if parts.scheme.lower() != "s3":
        raise StorageError(
            f"--storage must be a folder, file:///path or s3://bucket/prefix, but got {storage}"
        )
    names = parts.path.strip("/").split("/") if parts.path.strip("/") else []
    wrong = parts.query or parts.fragment or any(name in ("", ".", "..") for name in names)
    if wrong or not _BUCKET.fullmatch(parts.netloc):
        raise StorageError(
            "--storage must be like s3://bucket/prefix (a bucket's name has 3 to 63 lower-case "
            "letters, digits, '-' or '.'; endpoint and keys come from AWS_ENDPOINT_URL, "
            f"AWS_ACCESS_KEY_ID, ...), but got {storage}"
        )
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return Address(parts.netloc, "/".join(names), endpoint.rstrip("/"))
