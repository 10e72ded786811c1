"""All trials of a sweep whose trials do not depend on results.

That is a fixed design, or a grid, random or quasi-random search. Such a sweep can run elsewhere,
without Ray (`rc-sweep trials`, `python -m rc_core.trial`).
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from rc_core import plugins
from rc_core.config import TrialConfig
from rc_core.errors import ConfigError, Problem
from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.engine.assignments import Assignments
from sweeps.fixed_design import looks_at_results
from sweeps.folder import REFERENCE_ID, SweepFolder


def why_not_listed(sweep: SweepConfig) -> Problem | None:
    """Return why a sweep's trials cannot be known beforehand, None if they can."""
    search = sweep.settings.search
    if sweep.settings.confirm.sweep is not None:
        return Problem("confirm.sweep", "chooses its trials by results; use rc-sweep confirm SWEEP")
    asked = len(sweep.space) and search.trials > sweep.num_first
    if not asked or not looks_at_results(search.name):
        return None
    return Problem(
        "design",
        "must be fixed, or search.name grid, random or qmc, to list trials beforehand, but here "
        f"{search.name} chooses trials by earlier results; run it with rc-sweep launch",
    )


def listed(sweep: SweepConfig, study: Path | None = None) -> dict[str, TrialConfig]:
    """Return each trial by its id, in the order in which a launch hands them out.

    Args:
        sweep: a fixed design, or a search that ignores results; t0000 is its dense reference.
        study: the journal of a new sweep, in which the search's points are entered as in a launch,
            so that a resumed sweep knows them by the same ids. None: nothing is written.

    Raises:
        ConfigError: its trials depend on results.
    """
    problem = why_not_listed(sweep)
    if problem is not None:
        raise ConfigError(problem)
    search = plugins.load("sweeps.search", sweep.settings.search.name)
    reference = sweep.reference()
    found = {REFERENCE_ID: reference}
    with TemporaryDirectory() as empty:
        proposals = search.proposals(sweep, study)
        assignments = Assignments(sweep, SweepFolder(empty), proposals, attempt=0)
        assignments.add(
            TrialRecord(
                id=REFERENCE_ID,
                status="running",
                config=reference.as_dict(),
                fingerprint=reference.fingerprint(),
                reference=True,
                started=0.0,
            )
        )
        while (given := assignments.next()) is not None:
            found[given.trial_id] = given.config
    return found
