"""What is said of the dense reference before the first trial."""

from __future__ import annotations

import pytest

from rc_core.errors import TrialError
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig
from sweeps.engine.health_gate import Judged, report_health
from tests.sweeps.test_config import RAW


def test_what_it_reached_is_said_and_what_that_means() -> None:
    metrics = {"id_dev/accuracy": 0.75, "ood_dev/accuracy": 0.74}
    found = Judged(metrics, {"ood_dev/relative_bias": "its gap is small"}, 0.5, ["too weak"])
    said: list[str] = []
    report_health(SweepConfig(merge(RAW, {"health_gate": "warn"})), found, said.append)
    assert said == [
        "dense reference: ID 75.0 %, OOD 74.0 % (majority class on id_dev 50.0 %)",
        "note: relative bias is undefined in this sweep: its gap is small",
        "warning: too weak",
    ]
    with pytest.raises(TrialError, match="health gate: too weak"):
        report_health(SweepConfig(merge(RAW, {"health_gate": "stop"})), found, said.append)
