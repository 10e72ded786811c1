"""One driver's attempt at a sweep: told to tracking from its start, and closed however it ends.

What closing it does (usage, uploads, report, tracking) never hides why it ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rc_core.errors import RobustCompressionError
from sweeps.config import SweepConfig
from sweeps.engine.budget import Usage
from sweeps.folder import SweepFolder
from sweeps.remote.uploads import Uploads
from sweeps.reporting.write import try_report
from sweeps.sweep import Sweep
from sweeps.tracking.events import SweepEvents
from sweeps.views.commands import command
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
        raise _interrupted(folder, uploads) from None
    finally:
        try:
            usage.save()
        except OSError as error:
            # It must not come out in the place of what ended the sweep.
            progress.say(f"warning: {folder.usage} must say how long the sweep ran, but: {error}")
        if uploads is not None:
            uploads.gather()
        page = try_report(Sweep(folder)) if status == "finished" else None
        seconds = time.monotonic() - started
        left = events.sweep_ended(status, seconds, report=page) if events is not None else 0
        if left:
            progress.say(
                f"warning: {left} tracking events could not be delivered to MLflow; they are "
                f"kept in {folder.outbox} and sent at the next resume"
            )


def _interrupted(folder: SweepFolder, uploads: Uploads | None) -> SweepInterrupted:
    if uploads is not None and uploads.lost is not None:
        return SweepInterrupted(
            f"{uploads.lost} has taken sweep {folder.name} over; this driver has ended, and what "
            "it had not uploaded counts no more"
        )
    return SweepInterrupted(
        f"interrupted; nothing is lost. Go on with: {command(folder, 'resume')}"
    )
