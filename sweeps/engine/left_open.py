"""What an earlier driver of a sweep left open: trials to continue, and those paused at a rung.

Files are the truth: an unfinished trial is one whose record says so, or a proposed point without a
record.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Set

from rc_core.config import TrialConfig, decode_recorded
from rc_core.errors import ConfigError
from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.engine.rungs import RungRule, restore
from sweeps.engine.warm_start import point_of
from sweeps.folder import REFERENCE_ID
from sweeps.search._base import Proposals

_logger = logging.getLogger(__name__)


def find_unfinished(
    sweep: SweepConfig,
    proposals: Proposals,
    records: Mapping[str, TrialRecord],
    tried: Set[str],
    first: Set[str],
) -> dict[str, TrialConfig]:
    """Return the trials that were started or proposed and did not finish, by id, in order.

    Proposals that were tried already are discarded. For a record that was opened again
    (`sweeps.engine.retry`), the study keeps the failed trial, so the point is entered again.

    Args:
        sweep: the configuration.
        proposals: the search.
        records: of all trials, by id.
        tried: fingerprints of their configurations.
        first: ids of the trials that run before any proposal (`SweepConfig.first_trials`).
    """
    found: dict[str, TrialConfig] = {}
    proposed = proposals.unfinished()
    for record in records.values():
        if record.status == "running" and record.id != REFERENCE_ID:
            try:
                found[record.id] = decode_recorded(record.config)
            except ConfigError as error:
                _logger.warning("trial %s cannot be resumed: %s", record.id, error)
                continue
            if record.id not in proposed and sweep.settings.design == "search":
                point = point_of(found[record.id].as_dict(), sweep)
                if point is not None:
                    proposals.propose(record.id, point)
    for trial_id, point in proposed.items():
        if trial_id in records or trial_id in first:
            continue
        if (config := sweep.trial(point)).fingerprint() in tried:
            # A driver was killed before it could discard this duplicate.
            proposals.discard(trial_id)
        else:
            found[trial_id] = config
    return dict(sorted(found.items()))


def restore_rungs(
    rule: RungRule, records: Mapping[str, TrialRecord], unfinished: Mapping[str, TrialConfig]
) -> dict[str, TrialConfig]:
    """Tell the rule of every record's rungs; return the trials that are paused at one.

    An unfinished trial whose last rung was judged is paused there. One killed after its promotion
    looks the same, and is promoted again.
    """
    parked: dict[str, TrialConfig] = {}
    for record in records.values():
        if not record.rungs:
            continue
        try:
            config = unfinished.get(record.id) or decode_recorded(record.config)
        except ConfigError:
            continue
        last = restore(rule, record.id, config, record.rungs)
        if rule.variant == "promotion" and record.id in unfinished and last is not None:
            rule.park(record.id, last)
            parked[record.id] = config
    return parked
