"""`sweeps.launch` and `sweeps.resume`: those of the driver, but returning a `sweeps.Sweep`.

The driver itself must not import `sweeps.api`, which uses it to run confirmations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from sweeps.api import Sweep
from sweeps.engine import runner
from sweeps.stored_sweep import StoredSweep
from sweeps.verification.confirm import conclude

_P = ParamSpec("_P")


def _worked_with(drive: Callable[_P, StoredSweep]) -> Callable[_P, Sweep]:
    @functools.wraps(drive)
    def run(*arguments: _P.args, **options: _P.kwargs) -> Sweep:
        done = drive(*arguments, **options)
        if done.searched is not done:
            # A confirmation was resumed by its own name.
            conclude(done)
        return Sweep(done.folder)

    return run


launch = _worked_with(runner.launch)
resume = _worked_with(runner.resume)
