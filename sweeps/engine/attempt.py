"""One driver's attempt at a sweep: reported to tracking, and closed however it ends.

Closing it (usage, uploads, report, tracking) never hides why it ended.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rc_core.errors import RobustCompressionError
from sweeps.commands import command
from sweeps.config import SweepConfig
from sweeps.engine.budget import Usage
from sweeps.failure import keep_failure
from sweeps.folder import SweepFolder
from sweeps.remote.uploads import Uploads
from sweeps.reporting.write import try_report
from sweeps.stored_sweep import StoredSweep
from sweeps.tracking.events import SweepEvents
from sweeps.views.progress import Progress


class SweepInterrupted(RobustCompressionError):
    """The driver was interrupted; everything computed is kept."""


class SweepIncomplete(RobustCompressionError):
    """Trials have ended whose records could not be fetched; they are still open."""


@contextmanager
def tracked(
    sweep: SweepConfig,
    folder: SweepFolder,
    attempt: int,
    *,
    usage: Usage,
    uploads: Uploads | None,
    progress: Progress,
    started: float,
) -> Iterator[SweepEvents]:
    """Report an attempt to tracking; at its end save its time, gather uploads, write the report.

    The reason of a failure is also stored in the sweep's folder, for `rc-sweep status`.

    Args:
        sweep: what is run.
        folder: the sweep's; the caller holds its lock.
        attempt: number of this driver.
        usage: saved at the end.
        uploads: those of a storage at a URI.
        progress: told what could not be done at the end.
        started: start of the user's command, by `time.monotonic`.

    Raises:
        SweepInterrupted: instead of KeyboardInterrupt. Any other error passes through.
    """
    events: SweepEvents | None = None
    status = "failed"
    try:
        events = SweepEvents(sweep, folder)
        events.sweep_started(attempt)
        yield events
        status = "finished"
    except SweepIncomplete:
        status = "interrupted"
        raise
    except KeyboardInterrupt:
        status = "interrupted"
        raise interrupted(folder, uploads) from None
    except Exception as error:
        with suppress(OSError):
            # If it cannot be written, the error itself is still reported.
            keep_failure(folder.path, attempt, error)
        raise
    finally:
        try:
            usage.save()
        except OSError as error:
            # This error must not replace the one that ended the sweep.
            progress.say(
                f"warning: {folder.usage}, the time the sweep used, cannot be written: {error}"
            )
        if uploads is not None:
            uploads.gather()
        page = try_report(StoredSweep(folder)) if status == "finished" else None
        seconds = time.monotonic() - started
        left = events.sweep_ended(status, seconds, report=page) if events is not None else 0
        if left:
            progress.say(
                f"warning: {left} tracking events could not be delivered to MLflow; they are "
                f"kept in {folder.outbox} and sent at the next resume"
            )


@contextmanager
def new_folder(
    root: Path, name: str | None, stem: str, sweep: SweepConfig
) -> Iterator[SweepFolder]:
    """Create a new sweep's folder; remove it if an error comes before a driver has started."""
    folder = SweepFolder.create(root, name, stem)
    try:
        # As given: `resources: auto` is measured again wherever the sweep is resumed.
        folder.write_config(sweep.as_dict())
        yield folder
    except BaseException:
        if folder.attempt() == 0:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


def interrupted(folder: SweepFolder | None, uploads: Uploads | None = None) -> SweepInterrupted:
    """Return the error for Ctrl-C.

    Args:
        folder: the sweep's, None if a launch has not created it yet.
        uploads: those of a driver with a storage at a URI.
    """
    if folder is None or not folder.path.is_dir():
        return SweepInterrupted(
            "interrupted before the sweep began: nothing was created, nothing has run. To run it, "
            "launch it again"
        )
    if uploads is not None and uploads.lost is not None:
        return SweepInterrupted(
            f"{uploads.lost} has taken over sweep {folder.name}; this driver has ended, and what "
            "it had not uploaded no longer counts"
        )
    return SweepInterrupted(
        f"interrupted; nothing is lost. Continue with: {command(folder, 'resume')}"
    )
