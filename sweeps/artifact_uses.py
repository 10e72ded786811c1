"""What lies in a storage's artifact store, which sweeps use it, and what can go.

No torch, Ray or MLflow here: `rc-sweep artifacts list` and `prune` use it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from rc_core.artifacts import ArtifactStore, Stored
from rc_core.errors import StorageError
from rc_core.record import read_records
from sweeps.folder import SweepFolder

# Measured once on a machine and named by no record; tiny, and every new sweep asks for them.
MEASURED_KINDS = ("precision", "throughput")


@dataclass(frozen=True)
class Use:
    """One artifact, and the sweeps whose records name it (by name, sorted)."""

    stored: Stored
    sweeps: tuple[str, ...]

    @property
    def removable(self) -> bool:
        return not self.sweeps and self.stored.kind not in MEASURED_KINDS


def uses(storage: Path) -> list[Use]:
    """Return every artifact of a storage folder, by kind, then oldest first.

    Raises:
        StorageError: a record cannot be read, so that nobody knows what it needs.
    """
    named: dict[str, set[str]] = {}
    for folder in sweep_folders(storage):
        for record in read_records(folder.trials):
            for keys in record.artifacts.values():
                for key in keys.split("+"):
                    named.setdefault(key, set()).add(folder.name)
    return [
        Use(stored, tuple(sorted(named.get(stored.key, ()))))
        for stored in ArtifactStore(storage / "artifacts").entries()
    ]


def sweep_folders(storage: Path) -> list[SweepFolder]:
    """Return the sweeps of a storage folder."""
    return [SweepFolder(path.parent) for path in sorted(storage.glob("*/sweep.yaml"))]


def check_nothing_runs(storage: Path) -> None:
    """Check that no sweep of the storage runs: its records do not name yet what it has built.

    Raises:
        StorageError: one does.
    """
    running = [folder.name for folder in sweep_folders(storage) if folder.is_running()]
    if running:
        raise StorageError(
            f"no sweep of {storage} must be running while artifacts are removed, but "
            f"{', '.join(running)} is; wait for it, or interrupt it"
        )


def age(seconds_since_epoch: float) -> str:
    """Return how long ago something was, for people: `5 min`, `3 h`, `12 d`."""
    minutes = max(0.0, time.time() - seconds_since_epoch) / 60
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 48 * 60 else f"{minutes / 60 / 24:.0f} d"


def size(num_bytes: int) -> str:
    """Return a size for people: `12.3 MB`."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
