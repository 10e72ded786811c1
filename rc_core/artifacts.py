"""A content-addressed store for what trials share: the teacher, its outputs, the levels' outputs.

    <root>/<kind>/<key>/artifact.json     inputs, checksums; written last
    <root>/<kind>/<key>/...               the files

The key is a hash of everything the content depends on. An artifact is written whole into a
temporary folder and renamed, under a lock, so that processes that need the same one build it once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rc_core.config import fingerprint
from rc_core.errors import ArtifactError, StorageError
from rc_core.record import write_json

_MANIFEST = "artifact.json"


@dataclass(frozen=True)
class ArtifactKey:
    """What an artifact is.

    Attributes:
        kind: `teacher`, `teacher_log_probs`, `level_log_probs`.
        version: raised by hand whenever the code that builds this kind changes its result.
        inputs: everything the content depends on, as plain JSON values.
    """

    kind: str
    version: int
    inputs: Mapping[str, Any]

    @property
    def key(self) -> str:
        return fingerprint({"kind": self.kind, "version": self.version, "inputs": self.inputs})


@dataclass(frozen=True)
class Artifact:
    """A stored artifact: its folder, and whether this call built it."""

    key: ArtifactKey
    path: Path
    built: bool
    seconds: float


class ArtifactStore:
    """Artifacts below one local folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        # Checksums are compared once per process and artifact, not on every read.
        self._verified: set[str] = set()

    def path(self, key: ArtifactKey) -> Path:
        return self.root / key.kind / key.key

    def has(self, key: ArtifactKey) -> bool:
        """Tell whether the artifact is complete on disk (sizes compared, not checksums)."""
        return self._damage(key, checksums=False) is None

    def get(self, key: ArtifactKey) -> Artifact:
        """Return a stored artifact.

        Raises:
            ArtifactError: it is not there or damaged.
        """
        damage = self._damage(key, checksums=key.key not in self._verified)
        if damage is not None:
            raise ArtifactError(
                f"{key.kind} {key.key}: {damage}; delete {self.path(key)} to rebuild"
            )
        self._verified.add(key.key)
        seconds = float(self._manifest(key)["seconds"])
        return Artifact(key, self.path(key), built=False, seconds=seconds)

    def build(self, key: ArtifactKey, builder: Callable[[Path], None]) -> Artifact:
        """Return the artifact, building it first if it is not there, whoever asks first.

        `builder` fills the empty folder it is given. A damaged artifact is set aside and rebuilt.
        """
        with self._lock(key):
            # Whatever lies under the key now is complete: the manifest is renamed in with it.
            if self._damage(key, checksums=key.key not in self._verified) is None:
                return self.get(key)
            target = self.path(key)
            if target.exists():
                shutil.rmtree(target)
            temporary = target.with_name(f".{target.name}.{os.getpid()}")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            start = time.monotonic()
            try:
                builder(temporary)
                seconds = time.monotonic() - start
                manifest = {
                    "kind": key.kind,
                    "version": key.version,
                    "key": key.key,
                    "inputs": dict(key.inputs),
                    "created": time.time(),
                    "seconds": seconds,
                    "files": {
                        str(file.relative_to(temporary)): {
                            "bytes": file.stat().st_size,
                            "sha256": sha256(file),
                        }
                        for file in sorted(temporary.rglob("*"))
                        if file.is_file()
                    },
                }
                write_json(temporary / _MANIFEST, manifest)
                temporary.replace(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            self._verified.add(key.key)
            return Artifact(key, target, built=True, seconds=seconds)

    def _manifest(self, key: ArtifactKey) -> dict[str, Any]:
        content = json.loads((self.path(key) / _MANIFEST).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("not a mapping")
        return content

    def _damage(self, key: ArtifactKey, *, checksums: bool) -> str | None:
        """Return what is wrong with a stored artifact, or None when it is whole."""
        try:
            files = self._manifest(key)["files"]
        except FileNotFoundError:
            return "is not in the store"
        except (ValueError, KeyError, OSError) as error:
            return f"its {_MANIFEST} cannot be read ({error})"
        for name, facts in files.items():
            file = self.path(key) / name
            if not file.is_file() or file.stat().st_size != facts["bytes"]:
                return f"{name} is missing or cut short"
            if checksums and sha256(file) != facts["sha256"]:
                return f"{name} does not have the checksum it was stored with"
        return None

    @contextmanager
    def _lock(self, key: ArtifactKey) -> Iterator[None]:
        folder = self.root / key.kind
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stream = (folder / f".{key.key}.lock").open("w")
        except OSError as error:
            raise StorageError(f"{folder} must be writable: {error.strerror}") from error
        with stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content, as hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
