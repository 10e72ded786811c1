"""The live view's picture of a sweep, taken while the driver goes on."""

from __future__ import annotations

import io
from collections.abc import ItemsView
from typing import Any
from unittest.mock import Mock

from rich.console import Console

from sweeps.config import SweepConfig
from sweeps.views.progress import Progress
from tests.sweeps.test_config import RAW


class Changing(dict[str, Any]):
    """Another thread puts something in as soon as its items are asked for."""

    def items(self) -> ItemsView[str, Any]:
        found = super().items()
        later = iter(found)

        def changed() -> Any:
            yield next(later)
            self["later"] = 1
            yield from later

        return changed()  # type: ignore[return-value]


def test_a_trial_may_start_and_end_while_the_view_is_drawn() -> None:
    sweep = SweepConfig(RAW)
    progress = Progress(Console(file=io.StringIO()))
    progress.start(Mock(records={}, total=3), sweep)
    for trial_id in ("t0001", "t0002"):
        progress.trial_started(trial_id, sweep.reference().as_dict())
    progress._states = Changing({"finished": 1, "failed": 2})
    progress._running = Changing(progress._running)
    found = progress.snapshot()
    assert found.counts == {"finished": 1, "failed": 2, "running": 2}
    assert [trial.id for trial in found.running] == ["t0001", "t0002"]
