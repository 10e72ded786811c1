"""Writing a sweep's report: one HTML file, PNGs, and a Markdown summary."""

from __future__ import annotations

import logging
from pathlib import Path

from rc_core.atomic import write_text
from rc_core.errors import StorageError
from sweeps.commands import command
from sweeps.ending import confirmed_by
from sweeps.reporting.facts import Facts
from sweeps.stored_sweep import StoredSweep

PAGE, SUMMARY = "report.html", "report.md"
_logger = logging.getLogger(__name__)


def write_report(sweep: StoredSweep, out: Path | None = None, *, ended: bool = False) -> Path:
    """Write `report.html`, `report.md` and the pictures; return the page's path.

    An existing report is replaced. A running sweep can be reported; the page says so. The report of
    a confirmation is that of the sweep it confirms, with its new seeds.

    Args:
        sweep: with at least one trial that has ended.
        out: folder, created if missing; by default the sweep's own.
        ended: the caller drives the sweep and is about to close it.

    Raises:
        StorageError: no trial has ended yet, or the folder cannot be written.
    """
    from sweeps.reporting.page import report_page
    from sweeps.reporting.pictures import PICTURES, write_pictures
    from sweeps.reporting.summary import summary

    sweep = StoredSweep(confirmed_by(sweep.folder, sweep.config))
    facts = Facts.read(sweep, ended=ended)
    if not any(row.status != "running" for row in facts.rows):
        raise StorageError(
            f"a report needs a trial that has ended, but sweep {sweep.name} has none; see: "
            f"{command(sweep.folder, 'status')}"
        )
    folder = out if out is not None else sweep.path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replaced = (folder / PAGE).is_file()
        pictures = write_pictures(facts, folder)
        # Pictures of the previous report that this one does not have are out of date.
        for name in set(PICTURES) - set(pictures) if replaced else ():
            (folder / name).unlink(missing_ok=True)
        write_text(folder / SUMMARY, summary(facts, pictures))
        write_text(folder / PAGE, report_page(facts))
    except OSError as error:
        raise StorageError(f"{folder} must be a folder that can be written: {error}") from error
    return folder / PAGE


def refresh_report(sweep: StoredSweep) -> None:
    """Write an existing report again after what it shows has changed.

    That is, after the test was opened, trials were adopted, or the confirmation was removed.
    """
    if (sweep.path / PAGE).is_file():
        try_report(sweep, ended=False)
        sweep.folder.share()


def try_report(sweep: StoredSweep, *, ended: bool = True) -> Path | None:
    """Write the report at the end of a sweep; errors are logged, not raised.

    Args:
        sweep, ended: as for `write_report`.
    """
    try:
        return write_report(sweep, ended=ended)
    # The sweep is done and its records are safe: a picture must not make it look failed.
    except Exception as error:
        _logger.warning("the report of sweep %s could not be written: %s", sweep.name, error)
        return None
