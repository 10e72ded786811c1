"""One driver's attempt at a sweep: told to tracking from its start, and closed however it ends.

What closing it does (usage, uploads, report, tracking) never hides why it ended.
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
    """Trials have ended whose records could not be brought; they are still open."""


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
    """Tell tracking of an attempt; at its end save its time, gather, report and tell how it ended.

    Why one failed is kept beside the sweep too, for `rc-sweep status`.

    Args:
        sweep: what is run.
        folder: of the sweep, whose lock the caller holds.
        attempt: number of this driver.
        usage: saved at the end.
        uploads: of a storage at a URI.
        progress: told what could not be done at the end.
        started: when the user's command did, as `time.monotonic` counts.

    Raises:
        SweepInterrupted: in the place of Ctrl-C. Anything else that ends the attempt comes through.
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
            # Where it cannot be written, the error itself is told all the same.
            keep_failure(folder.path, attempt, error)
        raise
    finally:
        try:
            usage.save()
        except OSError as error:
            # It must not come out in the place of what ended the sweep.
            progress.say(f"warning: {folder.usage} must say how long the sweep ran, but: {error}")
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
    """Make a new sweep's folder; where it is left before a driver had it, it is taken back."""
    folder = SweepFolder.create(root, name, stem)
    try:
        # As it was given: `resources: auto` is measured anew where the sweep is resumed.
        folder.write_config(sweep.as_dict())
        yield folder
    except BaseException:
        if folder.attempt() == 0:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


def interrupted(folder: SweepFolder | None, uploads: Uploads | None = None) -> SweepInterrupted:
    """Return what is said of Ctrl-C.

    Args:
        folder: of the sweep, None while a launch has not made it.
        uploads: of a driver at a URI.
    """
    if folder is None or not folder.path.is_dir():
        return SweepInterrupted(
            "interrupted before the sweep began: none was made, nothing was run. Launch it again "
            "when the time is right"
        )
    if uploads is not None and uploads.lost is not None:
        return SweepInterrupted(
            f"{uploads.lost} has taken sweep {folder.name} over; this driver has ended, and what "
            "it had not uploaded counts no more"
        )
    return SweepInterrupted(
        f"interrupted; nothing is lost. Go on with: {command(folder, 'resume')}"
    )
