"""Trainings beside each other, in real processes; and what comes of one that cannot run."""

from __future__ import annotations

import io
import json
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch

from rc_core.config import decode
from rc_core.errors import TrialError
from rc_core.throughput import _endless_training, _run, measure, serve, stored_measurements
from rc_core.workspace import Workspace

CONFIG = decode(
    {
        "model": "tiny:bert",
        "task": {"name": "shortcut_nli", "train_size": 200, "dev_size": 60, "test_size": 60},
        "training": {"precision": "fp32", "max_length": 64},
    }
)


def test_every_candidate_is_measured_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rc_core.throughput._LEAST_SECONDS", 0.5)
    workspace = Workspace(tmp_path, device="cpu")
    asked: list[int] = []

    def candidates(peak: int) -> list[tuple[int, int]]:
        asked.append(peak)
        return [(1, 2), (2, 1)]

    assert stored_measurements(CONFIG, workspace, 2) is None
    found = measure(CONFIG, workspace, 2, candidates)
    assert [(each["at_once"], each["threads"]) for each in found["measured"]] == [(1, 2), (2, 1)]
    assert all(each["samples_per_second"] > 0 for each in found["measured"])
    # Torch alone is more than this; a machine's memory is less than that.
    assert 10**8 < asked[0] == found["peak_bytes"] < 10**11
    again = measure(CONFIG, workspace, 2, lambda peak: pytest.fail("measured twice"))
    assert again == found == stored_measurements(CONFIG, workspace, 2)
    assert stored_measurements(CONFIG, workspace, 4) is None, "another number of cores"


def test_a_training_that_cannot_run_is_told_and_nothing_is_stored(tmp_path: Path) -> None:
    broken = CONFIG.model_copy(update={"model": str(tmp_path / "nowhere")})
    workspace = Workspace(tmp_path / "artifacts", device="cpu")
    with pytest.raises(TrialError, match="as numbers"):
        measure(broken, workspace, 2, lambda peak: [(1, 1)])
    assert not list((tmp_path / "artifacts").rglob("throughput.json"))


def test_where_no_candidate_could_be_measured_nothing_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = MagicMock()
    worker.return_value.__enter__.return_value.answer.side_effect = [
        {"peak_bytes": 10**8, "step_seconds": 0.1},
        {"error": "the process ended with code -9"},
    ]
    monkeypatch.setattr("rc_core.throughput._Worker", worker)
    monkeypatch.setattr("rc_core.throughput._LEAD_SECONDS", 0.0)
    with pytest.raises(TrialError, match=r"out of memory.*as numbers"):
        measure(CONFIG, Workspace(tmp_path, device="cpu"), 2, lambda peak: [(1, 2)])
    assert not list(tmp_path.rglob("throughput.json"))


def test_a_worker_says_what_went_wrong_instead_of_dying(tmp_path: Path) -> None:
    order = {"config": {"model": 3}, "artifacts": str(tmp_path), "device": "cpu", "threads": 1}
    answers = io.StringIO()
    serve(io.StringIO(json.dumps(order) + "\n"), answers)
    assert "ConfigError" in json.loads(answers.getvalue())["error"]


def test_training_goes_on_when_one_run_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fast GPU comes to the end of one within a few candidates."""
    monkeypatch.setattr("rc_core.throughput._MANY_STEPS", 4)
    progress = _endless_training(CONFIG, Workspace(tmp_path, device="cpu"))
    seen = [next(progress) for _ in range(10)]
    assert seen == sorted(set(seen)), "samples are counted over all runs"


def test_a_step_that_takes_longer_than_the_measurement_still_has_a_rate() -> None:
    order = {"threads": torch.get_num_threads(), "start": 0.0, "seconds": 0.0}
    found = _run(iter(range(0, 320, 32)), order)
    assert found["samples_per_second"] > 0
