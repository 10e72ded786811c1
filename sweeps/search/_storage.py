"""Where a study is kept: Optuna's journal, one line of JSON an event, appended and flushed.

In Optuna's SQLite one of our trials is a dozen transactions: 37 ms of the driver's processor time
against 7 ms with everything else a trial costs the driver (50 trials, random search; 2026-11-24, 2
cores of an AMD EPYC). `optuna-dashboard PATH` reads a journal while it is written.
"""

from __future__ import annotations

from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from rc_core.atomic import drop_half_line


def study_storage(path: Path) -> JournalStorage:
    """Return the storage in a file, made where there is none. The caller is its only writer.

    What a driver that was killed left behind is put right: half a line, which would make all that
    follows it unreadable, and Optuna's own lock. Two drivers are kept apart by the sweep's lock.
    """
    drop_half_line(path)
    lock = Path(f"{path}.lock")
    lock.unlink(missing_ok=True)
    return JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
