"""What a driver does around its search, without Ray."""

from __future__ import annotations

import json
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from rc_core.errors import TrialError
from sweeps.config import SweepConfig
from sweeps.engine import runner
from sweeps.folder import SweepFolder
from sweeps.views.progress import Progress
from tests.sweeps.test_config import RAW


def test_preparation_counts_as_a_drivers_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: object, **__: object) -> None:
        time.sleep(0.3)
        raise TrialError("health gate")

    monkeypatch.setattr(runner, "prepare", slow)
    events = Mock(sweep_ended=Mock(return_value=0))
    monkeypatch.setattr(runner, "SweepEvents", Mock(return_value=events))
    folder = SweepFolder.create(tmp_path, "one", "x")
    for attempt in (1, 2):
        with pytest.raises(TrialError):
            runner._drive(SweepConfig(RAW), folder, Progress(), time.monotonic())
        hours = json.loads(folder.usage.read_text())["hours"]
        assert hours * 3600 >= 0.3 * attempt
