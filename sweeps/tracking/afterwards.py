"""What is told of a sweep that has ended: what new seeds showed, what its sealed test did."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from sweeps.config import SweepConfig
from sweeps.folder import SweepFolder
from sweeps.selection.confirmed import confirmed
from sweeps.selection.mean_rows import mean_rows
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
    """Tell tracking what new seeds left of a front; what cannot be told is said in a warning.

    The sweep's description, its logged models and which of its trials are on the front go by means
    from then on, as its tables do.
    """
    with going_on("the means over new seeds"):
        left = _tell_confirmed(sweep.still())
        if left:
            _logger.warning(
                "%d tracking events are kept in %s and sent at the next resume or confirmation",
                left,
                sweep.folder.outbox,
            )


def _tell_confirmed(sweep: StoredSweep) -> int:
    """Return how many events are left to send."""
    found = confirmed(sweep)
    if found is None or not found.rows or not sweep.folder.outbox.is_file():
        return 0
    config = SweepConfig(sweep.config, elsewhere=True)
    objectives = config.settings.objectives
    means = mean_rows(found, sweep.rows, objectives)
    records = {record.id: record for record in sweep.records}
    events = Outbox(sweep.folder.outbox)
    front = [row.id for row in means if row.on_front]
    tell_ranks(events, records, front, {r.id: r.rank for r in means if r.rank is not None})
    events.append(
        "confirmed",
        summary=summary(means, objectives, kind=f"means over {found.seeds_are}"),
        models=front_models(means, records, sweep.folder, shown_keys(config)),
    )
    return drain_of(config, sweep.folder, events).close(CLOSE_SECONDS, CLOSE_SECONDS_FINISHED)


def tell_test(
    sweep: SweepConfig, folder: SweepFolder, document: Mapping[str, Any], *, prefix: str = ""
) -> int:
    """Tell tracking what opening the test roles showed; return how many events are left to send.

    Args:
        sweep: whose trials they are.
        folder: of that sweep.
        document: as `sweeps.verification.sealed` writes it to test.json.
        prefix: of the keys of its trials there (`confirm/` for a confirmation's).
    """
    if not folder.outbox.is_file():
        return 0
    data = datasets(document.get("data", {}), sweep.base["task"])
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
        return 0
    stamp = f"opened {when} for {', '.join(trials)}"
    events = Outbox(folder.outbox)
    events.append("tested", trials=trials, datasets=data, stamp=stamp)
    return drain_of(sweep, folder, events).close(CLOSE_SECONDS, CLOSE_SECONDS_FINISHED)
