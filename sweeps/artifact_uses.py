"""The artifacts of a storage, the sweeps that use them, and which can be removed.

No torch, Ray or MLflow here: `rc-sweep artifacts list` and `prune` use it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rc_core.artifacts import ArtifactStore, Stored, damage
from rc_core.errors import StorageError
from rc_core.record import read_records
from sweeps.folder import SweepFolder
from sweeps.prepared import preparation_of

# Measured once per machine and named by no record; they are tiny, and every new sweep reads them.
MEASURED_KINDS = ("precision", "throughput")


@dataclass(frozen=True)
class Use:
    """One artifact, and the sorted names of the sweeps that have read or may still read it."""

    stored: Stored
    sweeps: tuple[str, ...]

    @property
    def removable(self) -> bool:
        return not self.sweeps and self.stored.kind not in MEASURED_KINDS


class Shelf(Protocol):
    """The artifacts of a storage. `root` is the folder with the sweeps' records."""

    root: Path

    def entries(self) -> list[Stored]:
        """Return every artifact, by kind, then oldest first."""
        ...

    def damage(self, stored: Stored) -> str | None:
        """Compare all checksums of an artifact; return what is wrong with it, or None."""
        ...

    def check_nothing_runs(self) -> None:
        """Check that no sweep runs, as its records may not name yet what it has built.

        Raises:
            StorageError: one does.
        """
        ...

    def leftovers(self) -> list[Path]:
        """Return folders that killed builders left behind."""
        ...

    def remove(self, stored: Stored) -> bool:
        """Remove an artifact unless it is being built; tell whether it was removed."""
        ...


class FolderShelf:
    """The artifacts of a storage folder: a `Shelf`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        store = ArtifactStore(root / "artifacts")
        self.entries, self.leftovers, self.remove = store.entries, store.leftovers, store.remove

    def damage(self, stored: Stored) -> str | None:
        return damage(stored)

    def check_nothing_runs(self) -> None:
        running = [folder.name for folder in sweep_folders(self.root) if folder.is_running()]
        if running:
            raise StorageError(
                f"no sweep of {self.root} may run while artifacts are removed, but "
                f"{', '.join(running)} is running; wait for it, or interrupt it"
            )


def uses(shelf: Shelf) -> list[Use]:
    """Return every artifact of a storage with the sweeps whose records or preparation name it.

    Raises:
        StorageError: a record cannot be read, so it is unknown what it needs.
    """
    named: dict[str, set[str]] = {}
    for folder in sweep_folders(shelf.root):
        # An interrupted sweep needs what was prepared for it once it is resumed.
        for key in preparation_of(folder.path).keys:
            named.setdefault(key, set()).add(folder.name)
        for record in read_records(folder.trials):
            for keys in record.artifacts.values():
                for key in keys.split("+"):
                    named.setdefault(key, set()).add(folder.name)
    return [Use(stored, tuple(sorted(named.get(stored.key, ())))) for stored in shelf.entries()]


def sweep_folders(storage: Path) -> list[SweepFolder]:
    """Return the sweeps of a storage folder."""
    # A folder whose name starts with a dot is a sweep that is being removed.
    return [SweepFolder(path.parent) for path in sorted(storage.glob("[!.]*/sweep.yaml"))]


def age(seconds_since_epoch: float) -> str:
    """Return how long ago something was: `5 min`, `3 h`, `12 d`."""
    minutes = max(0.0, time.time() - seconds_since_epoch) / 60
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 48 * 60 else f"{minutes / 60 / 24:.0f} d"


def size(num_bytes: int) -> str:
    """Return a size in readable units: `12.3 MB`."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
