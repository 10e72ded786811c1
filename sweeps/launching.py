"""`sweeps.launch` and `sweeps.resume`: the driver's, which return what a user works with.

A confirmation is driven too, so the driver cannot know of `sweeps.api.Sweep` itself.
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
            # A confirmation that is resumed by its own name.
            conclude(done)
        return Sweep(done.folder)

    return run


launch = _worked_with(runner.launch)
resume = _worked_with(runner.resume)
