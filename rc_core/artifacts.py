"""A content-addressed store for what trials share: the teacher, its outputs, the levels' outputs.

    <root>/<kind>/<key>/artifact.json     inputs, checksums; written last
    <root>/<kind>/<key>/...               the files

The key is a hash of everything that the content depends on. An artifact is written completely into
a temporary folder, which is then renamed, under a lock, so that processes that need the same one
build it once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rc_core.atomic import write_json
from rc_core.config import fingerprint
from rc_core.errors import ArtifactError, StorageError

_MANIFEST = "artifact.json"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArtifactKey:
    """What an artifact is.

    Attributes:
        kind: `teacher`, `difficulty`, ... (see rc_core.preparation).
        version: raised by hand whenever a change of the code that builds this kind changes its
            result.
        inputs: everything that the content depends on, as plain JSON values.
    """

    kind: str
    version: int
    inputs: Mapping[str, Any]

    @property
    def key(self) -> str:
        return fingerprint({"kind": self.kind, "version": self.version, "inputs": self.inputs})


@dataclass(frozen=True)
class Artifact:
    """A stored artifact: its folder, whether this call built it, and how long building took."""

    key: ArtifactKey
    path: Path
    built: bool
    seconds: float


@dataclass(frozen=True)
class Stored:
    """What is in the store under one key, complete or not.

    Attributes:
        kind: as in its key.
        key: 16 hex digits, the name of its folder.
        path: that folder.
        size: bytes of all its files.
        created: seconds since the epoch; for a damaged one, when its folder was last changed.
        seconds: that building it took; 0 if that cannot be read.
    """

    kind: str
    key: str
    path: Path
    size: int
    created: float
    seconds: float


class Backing(Protocol):
    """Where artifacts are kept beyond this machine. If it raises StorageError, they are built."""

    def fetch(self, kind: str, key: str, folder: Path) -> bool:
        """Fill an empty folder with an artifact and its manifest; False if there is none."""
        ...

    def keep(self, kind: str, key: str, folder: Path) -> None:
        """Store an artifact that was built here."""
        ...


class ArtifactStore:
    """Artifacts below one local folder."""

    def __init__(self, root: str | Path, backing: Backing | None = None) -> None:
        self.root = Path(root)
        self._backing = backing
        # Keys whose checksums were compared: once per process and artifact, not on every read.
        self._verified: set[str] = set()

    def path(self, key: ArtifactKey) -> Path:
        return self.root / key.kind / key.key

    def has(self, key: ArtifactKey) -> bool:
        """Tell whether the artifact is complete on disk (sizes compared, not checksums).

        An artifact that only the backing has is fetched first.
        """
        if _damage(self.path(key), checksums=False) is None:
            return True
        if self._backing is None:
            return False
        with self._lock(key.kind, key.key):
            return self._fetch(key) and _damage(self.path(key), checksums=False) is None

    def get(self, key: ArtifactKey) -> Artifact:
        """Return a stored artifact.

        Raises:
            ArtifactError: it is missing or damaged.
        """
        damage = _damage(self.path(key), checksums=key.key not in self._verified)
        if damage is not None:
            raise ArtifactError(
                f"{key.kind} {key.key}: {damage}; delete {self.path(key)} to rebuild"
            )
        self._verified.add(key.key)
        return Artifact(key, self.path(key), built=False, seconds=self.seconds(key))

    def seconds(self, key: ArtifactKey) -> float:
        """Return how long a stored artifact took to build."""
        return float(_manifest(self.path(key))["seconds"])

    def build(self, key: ArtifactKey, builder: Callable[[Path], object]) -> Artifact:
        """Return the artifact, building it first if it is not there, whichever process asks first.

        `builder` fills the empty folder it is given. A damaged artifact is deleted and rebuilt.
        """
        with self._lock(key.kind, key.key):
            # Artifacts appear under their key only when complete, by a rename of the whole folder.
            if self._is_whole(key) or (self._fetch(key) and self._is_whole(key)):
                return self.get(key)
            target = self.path(key)
            if target.exists():
                shutil.rmtree(target)
            temporary = _new_temporary(target)
            start = time.monotonic()
            try:
                builder(temporary)
                seconds = time.monotonic() - start
                _write_manifest(temporary, key, seconds)
                temporary.replace(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            self._verified.add(key.key)
            self._upload(key)
            return Artifact(key, target, built=True, seconds=seconds)

    def _is_whole(self, key: ArtifactKey) -> bool:
        return _damage(self.path(key), checksums=key.key not in self._verified) is None

    def _fetch(self, key: ArtifactKey) -> bool:
        """Fetch an artifact from the backing, holding its lock; tell whether it is here now."""
        if self._backing is None:
            return False
        target = self.path(key)
        temporary = _new_temporary(target)
        try:
            if not self._backing.fetch(key.kind, key.key, temporary):
                return False
            shutil.rmtree(target, ignore_errors=True)
            temporary.replace(target)
            return True
        except StorageError as error:
            _logger.warning("%s %s could not be fetched: %s", key.kind, key.key, error)
            return False
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _upload(self, key: ArtifactKey) -> None:
        """Upload to the backing what was built here; if that fails, the driver tries again."""
        if self._backing is not None:
            try:
                self._backing.keep(key.kind, key.key, self.path(key))
            except StorageError as error:
                _logger.warning("%s %s could not be uploaded: %s", key.kind, key.key, error)

    def entries(self) -> list[Stored]:
        """Return everything in the store, by kind, then oldest first."""
        folders = [path for path in self.root.glob("*/*") if path.is_dir() and _is_key(path.name)]
        return sorted(map(_stored, folders), key=lambda each: (each.kind, each.created))

    def leftovers(self) -> list[Path]:
        """Return folders that builders left behind when they were killed."""
        return [path for path in self.root.glob("*/.*") if path.is_dir() and self._is_idle(path)]

    def remove(self, stored: Stored) -> bool:
        """Remove an artifact, unless someone is building it; tell whether it was removed."""
        with self._lock(stored.kind, stored.key, wait=False) as held:
            if held:
                # Manifest first: without it, a partly removed artifact counts as not stored.
                (stored.path / _MANIFEST).unlink(missing_ok=True)
                shutil.rmtree(stored.path)
            return held

    def _is_idle(self, temporary: Path) -> bool:
        """Tell whether nobody is building into a temporary folder."""
        with self._lock(temporary.parent.name, temporary.name.split(".")[1], wait=False) as held:
            return held

    @contextmanager
    def _lock(self, kind: str, key: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold an artifact's lock and yield True; without waiting, yield whether it was free."""
        folder = self.root / kind
        how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stream = (folder / f".{key}.lock").open("w")
        except OSError as error:
            raise StorageError(f"{folder} must be writable: {error.strerror}") from error
        with stream:
            try:
                fcntl.flock(stream, how)
            except BlockingIOError:
                held = False
            except OSError as error:
                raise StorageError(
                    f"{folder} must lie on a file system with locks (flock), which keep two "
                    f"processes from building the same thing: {error.strerror}"
                ) from error
            else:
                held = True
            yield held


def damage(stored: Stored) -> str | None:
    """Return what is wrong with an artifact, comparing all checksums; None if it is complete."""
    return _damage(stored.path, checksums=True)


def _new_temporary(target: Path) -> Path:
    """Return a new temporary folder beside an artifact's place, whose lock the caller holds.

    Because of the lock, any folder that is there already belongs to a killed builder, and is
    removed.
    """
    for left in target.parent.glob(f".{target.name}.*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    return temporary


def _write_manifest(folder: Path, key: ArtifactKey, seconds: float) -> None:
    """Write the manifest of a folder that is complete but for it."""
    files = {
        str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    manifest = {
        "kind": key.kind,
        "version": key.version,
        "key": key.key,
        "inputs": dict(key.inputs),
        "created": time.time(),
        "seconds": seconds,
        "files": files,
    }
    write_json(folder / _MANIFEST, manifest)


def _stored(path: Path) -> Stored:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    try:
        manifest = _manifest(path)
        created, seconds = float(manifest["created"]), float(manifest["seconds"])
    except (ValueError, KeyError, OSError):
        created, seconds = path.stat().st_mtime, 0.0
    return Stored(path.parent.name, path.name, path, size, created, seconds)


def _is_key(name: str) -> bool:
    return len(name) == 16 and all(character in "0123456789abcdef" for character in name)


def _manifest(path: Path) -> dict[str, Any]:
    content = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("not a mapping")
    return content


def _damage(path: Path, *, checksums: bool) -> str | None:
    """Return what is wrong with a stored artifact, or None if it is complete."""
    try:
        files = _manifest(path)["files"]
    except FileNotFoundError:
        return "is not in the store"
    except (ValueError, KeyError, OSError) as error:
        return f"its {_MANIFEST} cannot be read ({error})"
    for name, facts in files.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != facts["bytes"]:
            return f"{name} is missing or cut short"
        if checksums and sha256(file) != facts["sha256"]:
            return f"{name} does not have the checksum it was stored with"
    return None


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content, as hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
