"""What passes between a trial's worker, Ray Tune and the driver's bookkeeping."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any
from unittest.mock import Mock

import pytest

from rc_core.errors import TrialError
from rc_core.record import RungRecord, TrialRecord
from sweeps.engine.budget import SAVE_SECONDS
from sweeps.engine.ray_bridge import AssignmentSearcher, DriverCallback
from sweeps.engine.trainable import TrialTrainable
from sweeps.remote.worker import NotSharedError

FINISHED = TrialRecord(id="t0001", status="finished", config={}, fingerprint="f", started=0.0)


def result_of(error: Exception | None) -> dict[str, Any]:
    """Return what a worker tells Ray of a trial that finishes, or raises the error."""

    def steps() -> Generator[RungRecord, None, TrialRecord]:
        if error is not None:
            raise error
        yield from ()
        return FINISHED

    worker = object.__new__(TrialTrainable)
    worker._trial_id, worker._steps = "t0001", steps()
    return worker.step()


@pytest.mark.parametrize(
    ("raised", "error", "ended"),
    [
        (None, None, True),
        (NotSharedError("the bucket must answer"), None, True),
        (TrialError("diverged"), "diverged", False),
    ],
    ids=["finished", "finished, not uploaded", "failed"],
)
def test_the_driver_hears_whether_a_worker_came_to_its_end(
    raised: Exception | None, error: str | None, ended: bool, caplog: pytest.LogCaptureFixture
) -> None:
    result = result_of(raised)
    assignments = Mock()
    searcher = AssignmentSearcher(assignments, {})
    searcher._ours["ray"] = "t0001"
    searcher.on_trial_complete("ray", result)
    assignments.close.assert_called_once_with("t0001", error=error, ended=ended)
    # Why it is on its node only is nowhere else.
    assert ("the bucket must answer" in caplog.text) == isinstance(raised, NotSharedError)
    trial = Mock(config={"trial_id": "t0001"}, last_result=result)
    DriverCallback(assignments, Mock(), Mock()).on_trial_complete(1, [trial], trial)
    assert assignments.close.call_args.kwargs == {"error": error, "ended": ended}


def test_a_trial_that_a_scheduler_stops_has_not_come_to_its_end() -> None:
    assignments = Mock()
    searcher = AssignmentSearcher(assignments, {})
    searcher._ours["ray"] = "t0001"
    searcher.on_trial_complete("ray", {"rung/id_dev/accuracy": 0.5, "progress": 0.5, "done": True})
    assignments.close.assert_called_once_with("t0001", error=None, ended=False)


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"progress": 0.5, "rung/id_dev/accuracy": 0.6}, True),
        ({"progress": 0.5, "rung/id_dev/accuracy": 0.6, "done": True}, True),
        ({"id_dev/accuracy": 0.6, "done": True}, False),
        ({"error": "TrialError: diverged", "done": True}, False),
    ],
    ids=["rung", "rung that stops it", "end", "failure"],
)
def test_every_rung_is_told(result: dict[str, Any], told: bool) -> None:
    events, trial = Mock(), Mock(config={"trial_id": "t0001"})
    DriverCallback(Mock(), events, Mock()).on_trial_result(1, [trial], trial, result)
    assert events.rung.called == told


def test_what_was_used_is_written_while_trials_run() -> None:
    assignments, trial = Mock(), Mock(config={"trial_id": "t0001"})
    callback = DriverCallback(assignments, Mock(), Mock())
    callback.on_trial_result(1, [trial], trial, {"progress": 0.5})
    assignments.usage.save.assert_called_once_with(every=SAVE_SECONDS)
    assert not assignments.close.called
