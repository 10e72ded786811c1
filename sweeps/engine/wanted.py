"""Which trials' artifacts are built before the first one starts, and which trials build their own.

A trial builds what it does not find (`rc_core.trial_run`), under the store's lock, so artifacts
that may never be read need not be built beforehand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rc_core import plugins
from rc_core.config import TrialConfig, current_fingerprint
from sweeps.config import SweepConfig
from sweeps.engine.listed import listed, why_not_listed
from sweeps.engine.step_shares import Planned
from sweeps.folder import SweepFolder
from sweeps.prepared import Preparation, keep_preparation
from sweeps.search._base import Proposals


@dataclass(frozen=True)
class Wanted:
    """The configurations that artifacts are built for.

    Attributes:
        first: those whose artifacts are built before the first trial.
        later: those of trials that may never run, and if they do, build what is missing.
    """

    first: list[TrialConfig]
    later: list[TrialConfig] = field(default_factory=list)


def wanted(sweep: SweepConfig, folder: SweepFolder) -> Wanted:
    """Return the configurations to build artifacts for.

    For a fixed design, those of its trials that have not ended. If all have ended elsewhere
    (`rc-sweep adopt`), nothing is built; the same holds for a search whose trials are known
    beforehand, while with any trial left all that its space may need is built. For a confirmation,
    only those of trials that it begins with or has begun: results decide which others it trains,
    and with `--whole` each seed costs a teacher and all that is built on it.
    """
    ended = {
        current_fingerprint(record.config)
        for record in folder.records()
        if record.status != "running" and (record.status == "finished" or not record.reference)
    }
    if sweep.settings.confirm.sweep is not None:
        return _of_race(sweep, folder, ended)
    if why_not_listed(sweep) is not None:
        return Wanted([sweep.reference(), *sweep.structures()])
    left = [each for each in listed(sweep).values() if each.fingerprint() not in ended]
    if left and sweep.settings.design != "fixed":
        return Wanted([sweep.reference(), *sweep.structures()])
    return Wanted(left)


def settle(
    folder: SweepFolder,
    planned: Sequence[Planned],
    first: int,
    say: Callable[[str], None],
) -> list[Planned]:
    """Store which artifacts the sweep will read; return those to build now, and say which not.

    Args:
        folder: the sweep's.
        planned: every step.
        first: number of configurations whose steps are built now.
        say: told what is left to trials.
    """
    later = Counter(step.title for step in planned if step.config >= first and not step.stored)
    if later:
        say(f"prepare: left to the first trial that needs each: {counted(later)}")
    try:
        keep_preparation(folder.path, Preparation(frozenset(s.key for s in planned), later))
    except OSError as error:
        say(f"warning: {folder.path} must be writable, to note which artifacts are used: {error}")
    return [step for step in planned if step.config < first]


def counted(titles: Mapping[str, int]) -> str:
    """Return `teacher, 2 x importance`."""
    return ", ".join(f"{n} x {title}" if n > 1 else title for title, n in titles.items())


def _of_race(sweep: SweepConfig, folder: SweepFolder, ended: set[str]) -> Wanted:
    search = plugins.load("sweeps.search", sweep.settings.search.name)
    proposals: Proposals = search.proposals(sweep, folder.study)
    left, begun = [*sweep.first_trials()], {record.id for record in folder.records()}
    # Those handed out before any result is known.
    while proposals.choose is not None and (chosen := proposals.choose(left)) is not None:
        left.remove(chosen)
        begun.add(chosen)
    found = Wanted([sweep.reference()])
    for trial_id, point in sweep.first_trials().items():
        config = sweep.trial(point)
        if config.fingerprint() not in ended:
            (found.first if trial_id in begun else found.later).append(config)
    return found
