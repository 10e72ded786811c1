"""Reports to tracking after a sweep has ended: the results of new seeds and of the sealed test."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from sweeps.config import SweepConfig
from sweeps.folder import SweepFolder
from sweeps.remote.files import is_locked
from sweeps.selection.confirmed import Confirmed, confirmed
from sweeps.selection.mean_rows import mean_rows, with_ranks_of
from sweeps.stored_sweep import StoredSweep
from sweeps.tracking.events import (
    CLOSE_SECONDS,
    CLOSE_SECONDS_FINISHED,
    drain_of,
    going_on,
    tell_ranks,
)
from sweeps.tracking.outbox import Outbox
from sweeps.tracking.shown import shown_keys
from sweeps.tracking.tracked import datasets, front_models, measured, summary

_logger = logging.getLogger(__name__)


def tell_confirmed(sweep: StoredSweep) -> None:
    """Send the front by means over new seeds to tracking; a failure is logged as a warning.

    From then on the sweep's description, its logged models and the trials tagged as on the front
    follow the means, as its tables do.
    """
    with going_on("the means over new seeds"):
        now = sweep.still()
        found = confirmed(now)
        if found is not None and found.rows:
            _warn_of(now, _tell_front(now, found))


def tell_unconfirmed(sweep: StoredSweep) -> None:
    """Send the front by the sweep's own figures to tracking, after its confirmation was removed."""
    with going_on("the front without the new seeds that were removed"):
        now = sweep.still()
        _warn_of(now, _tell_front(now, confirmed(now)))


def _tell_front(sweep: StoredSweep, found: Confirmed | None) -> int:
    """Send the front; return how many events are left to send.

    Args:
        sweep: whose front it is.
        found: means over new seeds or over a design's own; None: one seed each.
    """
    if not sweep.folder.outbox.is_file():
        return 0
    config = SweepConfig(sweep.config, elsewhere=True)
    objectives = config.settings.objectives
    shown = ranked = sweep.rows
    if found is not None:
        shown = ranked = mean_rows(found, sweep.rows, objectives)
        if found.own:
            ranked = with_ranks_of(sweep.rows, shown, found)
    kind = "one seed each" if found is None else f"means over {found.seeds_are}"
    records = {record.id: record for record in sweep.records}
    events = Outbox(sweep.folder.outbox)
    front = [row.id for row in ranked if row.on_front]
    tell_ranks(events, records, front, {r.id: r.rank for r in ranked if r.rank is not None})
    events.append(
        "confirmed",
        summary=summary(shown, objectives, kind=kind),
        models=front_models(shown, records, sweep.folder, shown_keys(config)),
    )
    return _deliver(config, sweep.folder, events)


def _deliver(config: SweepConfig, folder: SweepFolder, events: Outbox) -> int:
    """Send what was not sent yet; return how many events are left to send.

    If a driver is running the sweep, it will send them: two senders would duplicate runs.
    """
    if is_locked(folder.path):
        return 0
    return drain_of(config, folder, events).close(CLOSE_SECONDS, CLOSE_SECONDS_FINISHED)


def _warn_of(sweep: StoredSweep, left: int) -> None:
    if left:
        _logger.warning(
            "%d tracking events are kept in %s, to be sent at the next resume or confirmation",
            left,
            sweep.folder.outbox,
        )


def tell_test(sweep: StoredSweep, document: Mapping[str, Any], *, prefix: str = "") -> int | None:
    """Send the results on the test roles to tracking; return how many events are left to send.

    A command that was killed after it wrote test.json only has to be run again.

    Args:
        sweep: whose trials they are.
        document: as `sweeps.verification.sealed` writes it to test.json.
        prefix: of its trials' keys there (`confirm/` for a confirmation's).

    Returns:
        None if all was sent before, or there is nothing to send.
    """
    if not sweep.folder.outbox.is_file():
        return None
    config = SweepConfig(sweep.config, elsewhere=True)
    data = datasets(document.get("data", {}), config.base["task"])
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(document["opened"]))
    trials = {
        key.removeprefix(prefix): {
            "name": trial["name"],
            "metrics": trial["metrics"],
            "opened": trial["opened"],
            "measured": measured(trial["metrics"], data, 0),
        }
        for key, trial in document["trials"].items()
        if key.startswith(prefix) and "/" not in key.removeprefix(prefix)
    }
    if not trials:
        return None
    stamp = f"opened {when} for {', '.join(trials)}"
    events = Outbox(sweep.folder.outbox)
    told = [event for event in events.events() if event["kind"] == "tested"]
    if not told or (told[-1]["trials"], told[-1]["stamp"]) != (trials, stamp):
        events.append("tested", trials=trials, datasets=data, stamp=stamp)
    elif not events.pending():
        return None
    return _deliver(config, sweep.folder, events)
