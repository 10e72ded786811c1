"""`resources: auto`, where its measurement does not come to its end; without Ray."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import ray

from rc_core.errors import TrialError
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig
from sweeps.engine import packing
from tests.sweeps.test_config import RAW


@pytest.mark.parametrize(
    ("waiting", "result", "expected"),
    [
        (None, ray.exceptions.OutOfMemoryError("killed"), TrialError),
        (None, ray.exceptions.WorkerCrashedError(), TrialError),
        (None, KeyboardInterrupt(), KeyboardInterrupt),
        (KeyboardInterrupt(), None, KeyboardInterrupt),
    ],
)
def test_a_measurement_that_is_lost_is_told_and_one_that_is_interrupted_ends(
    monkeypatch: pytest.MonkeyPatch,
    waiting: BaseException | None,
    result: BaseException | None,
    expected: type[BaseException],
) -> None:
    cancel = Mock()
    monkeypatch.setattr(packing, "alive_nodes", lambda: [{"Resources": {"CPU": 2.0}}])
    remote = Mock(return_value=Mock(return_value=Mock(remote=Mock(return_value="task"))))
    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(ray, "wait", Mock(side_effect=waiting, return_value=(["task"], [])))
    monkeypatch.setattr(ray, "get", Mock(side_effect=result))
    monkeypatch.setattr(ray, "cancel", cancel)
    sweep = SweepConfig(merge(RAW, {"resources": "auto"}))
    with pytest.raises(expected) as caught:
        packing.resolve(sweep, "artifacts", Mock())
    cancel.assert_called_once_with("task")
    if expected is TrialError:
        assert "give numbers (resources.cpu, resources.gpu)" in str(caught.value)
