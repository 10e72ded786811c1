"""The artifacts at an address, for `rc_core.artifacts.ArtifactStore`."""

from __future__ import annotations

import logging
from pathlib import Path

from rc_core.artifacts import Stored, damage
from sweeps.remote.files import MANIFEST
from sweeps.remote.objects import Objects
from sweeps.remote.pulling import fetch

_logger = logging.getLogger(__name__)


class RemoteArtifacts:
    """Downloads and uploads artifacts; implements `rc_core.artifacts.Backing`."""

    def __init__(self, root: Path, objects: Objects) -> None:
        """Store what is given.

        Args:
            root: of the artifact store on this machine.
            objects: at the address.
        """
        self._root = root
        self._objects = objects

    def fetch(self, kind: str, key: str, folder: Path) -> bool:
        start = f"artifacts/{kind}/{key}"
        found = self._objects.stamps(start)
        if f"{start}/{MANIFEST}" not in found:
            return False
        for each, stamp in found.items():
            fetch(self._objects, each, folder / each[len(start) + 1 :], stamp[0])
        wrong = damage(Stored(kind, key, folder, size=0, created=0.0, seconds=0.0))
        if wrong is not None:
            # Two machines uploaded their own at once. It is built again here; see `keep`.
            _logger.warning("%s %s at %s: %s", kind, key, self._objects.address.uri, wrong)
            self._mixed(kind, key).touch()
            return False
        self._mixed(kind, key).unlink(missing_ok=True)
        self._mark(kind, key).touch()
        return True

    def keep(self, kind: str, key: str, folder: Path) -> None:
        start = f"artifacts/{kind}/{key}"
        # The first upload stays, as files of two builds must not be mixed; a mixture is replaced.
        mixed = self._mixed(kind, key)
        if mixed.exists() or not self._objects.of([f"{start}/{MANIFEST}"]):
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            for path in sorted(files, key=lambda path: path.name == MANIFEST):
                self._objects.upload(path, f"{start}/{path.relative_to(folder).as_posix()}")
        mixed.unlink(missing_ok=True)
        self._mark(kind, key).touch()

    def keep_left(self) -> None:
        """Upload artifacts that are not at the address yet. Raises StorageError."""
        for path in self.left():
            self.keep(path.parent.name, path.name, path)

    def left(self) -> list[Path]:
        """Return the folders of complete artifacts that were not uploaded yet."""
        whole = sorted(path.parent for path in self._root.glob(f"*/[!.]*/{MANIFEST}"))
        return [path for path in whole if not self._mark(path.parent.name, path.name).exists()]

    def _mark(self, kind: str, key: str) -> Path:
        """Return the marker file of an artifact that is at the address too."""
        return self._root / kind / f".{key}.remote"

    def _mixed(self, kind: str, key: str) -> Path:
        """Return the marker file of an artifact whose checksums fail at the address."""
        return self._root / kind / f".{key}.mixed"
