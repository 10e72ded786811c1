"""Lists, verifies and removes the artifacts at an address."""

from __future__ import annotations

import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from rc_core.artifacts import ArtifactStore, Stored, damage
from rc_core.errors import StorageError
from sweeps.remote import lease
from sweeps.remote.files import MANIFEST, is_locked
from sweeps.remote.mirror import Mirror
from sweeps.remote.pulling import fetch

_THREADS = 8
# The manifest is uploaded last: an artifact without one may be an upload in progress.
_UPLOAD_SECONDS = 24 * 3600.0


class RemoteShelf:
    """The shelf of a storage at an address; see `artifact_uses.Shelf`."""

    def __init__(self, mirror: Mirror) -> None:
        """Fetch every sweep's records, which say what is used. Raises StorageError."""
        self.root = mirror.root
        self._mirror = mirror
        self._here = ArtifactStore(mirror.root / "artifacts")
        for name in mirror.names():
            if name != "artifacts":
                mirror.pull(name)

    def entries(self) -> list[Stored]:
        """Return every artifact at the address, by kind, then oldest first."""
        sizes: dict[tuple[str, str], int] = {}
        changed: dict[tuple[str, str], float] = {}
        for name, (size, changed_ns) in self._mirror.objects.stamps("artifacts").items():
            _, kind, key, *_ = name.split("/")
            sizes[kind, key] = sizes.get((kind, key), 0) + size
            changed[kind, key] = max(changed.get((kind, key), 0.0), changed_ns / 1e9)

        def one(which: tuple[str, str]) -> Stored:
            kind, key = which
            content = self._mirror.objects.read(f"artifacts/{kind}/{key}/{MANIFEST}")
            manifest = json.loads(content) if content else {}
            created, seconds = manifest.get("created", changed[which]), manifest.get("seconds", 0.0)
            path = self._here.root / kind / key
            return Stored(kind, key, path, sizes[which], float(created), float(seconds))

        with ThreadPoolExecutor(_THREADS) as pool:
            return sorted(pool.map(one, sizes), key=lambda each: (each.kind, each.created))

    def damage(self, stored: Stored) -> str | None:
        """Download an artifact and return what is wrong with it, or None if it is whole."""
        start = _folder(stored)
        with tempfile.TemporaryDirectory() as name:
            for key, (size, _) in self._mirror.objects.stamps(start).items():
                fetch(self._mirror.objects, key, Path(name) / key[len(start) + 1 :], size)
            return damage(replace(stored, path=Path(name)))

    def check_nothing_runs(self) -> None:
        """Check that no sweep at the address runs, here or on another machine.

        Raises:
            StorageError: one does.
        """
        for path in sorted(self.root.glob("[!.]*/sweep.yaml")):
            if is_locked(path.parent):
                raise StorageError(
                    f"no sweep of {self._mirror.uri} may be running while artifacts are removed, "
                    f"but {path.parent.name} is; wait for it, or interrupt it"
                )
            lease.check_free(self._mirror, path.parent)

    def leftovers(self) -> list[Path]:
        """Return folders that killed builders left on this machine."""
        return self._here.leftovers()

    def remove(self, stored: Stored) -> bool:
        """Remove an artifact at the address and on this machine; return whether it was removed.

        One without a manifest that changed within the last day stays: its upload may be in
        progress.
        """
        objects, start = self._mirror.objects, _folder(stored)
        manifest = f"{start}/{MANIFEST}"
        whole = bool(objects.of([manifest]))
        if not whole and time.time() - stored.created < _UPLOAD_SECONDS:
            return False
        # The manifest first: an artifact without one counts as not stored.
        objects.delete(manifest)
        objects.delete_folder(start)
        # The copy here must go too: without its mark the next sweep would upload it again.
        (stored.path.parent / f".{stored.key}.remote").unlink(missing_ok=True)
        if stored.path.is_dir():
            self._here.remove(stored)
        return True


def _folder(stored: Stored) -> str:
    return f"artifacts/{stored.kind}/{stored.key}"
