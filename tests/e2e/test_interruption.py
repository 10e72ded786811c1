"""Drivers that are killed or told to stop: nothing computed is lost, nothing runs twice."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e._sweeps import call, command, records, write_config

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def interrupted(storage: Path, name: str, how: signal.Signals) -> tuple[int, str]:
    """Launch six trials, signal the driver while some are finished and one runs.

    SIGINT goes to the driver and all that it has started, as a terminal sends Ctrl-C.

    Returns the exit code and what was printed.
    """
    config = write_config(storage, trials=6, epochs=6, rungs=6)
    log = storage / "launch.log"
    # Tests in the background of a script ignore Ctrl-C, and so would what they start.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("w") as stream:
        process = subprocess.Popen(
            command(storage, "launch", str(config), "--name", name),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    signal.signal(signal.SIGINT, ours)
    deadline = time.monotonic() + 200
    try:
        while time.monotonic() < deadline:
            states = [record["status"] for record in records(storage, name).values()]
            if states.count("finished") >= 2 and "running" in states:
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        if how == signal.SIGINT:
            os.killpg(process.pid, how)
        else:
            os.kill(process.pid, how)
        return process.wait(timeout=60), log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_ended_driver_is_resumed_without_losing_a_trial(
    tmp_path: Path, how: signal.Signals
) -> None:
    code, text = interrupted(tmp_path, "ended", how)
    if how != signal.SIGKILL:
        assert code == 1 and "rc-sweep resume ended" in text
        assert "Traceback" not in text and "***" not in text
    before = records(tmp_path, "ended")
    finished = {name: r for name, r in before.items() if r["status"] == "finished"}
    assert len(finished) >= 2
    done = call(tmp_path, "resume", "ended")
    assert done.returncode == 0, done.stdout + done.stderr
    after = records(tmp_path, "ended")
    assert list(after) == [f"t{i:04d}" for i in range(6)]
    assert {record["status"] for record in after.values()} == {"finished"}
    for name, record in finished.items():
        assert after[name] == record, "a finished trial is not run again"
    _one_run_per_trial(tmp_path, list(after))


def _one_run_per_trial(storage: Path, expected: list[str]) -> None:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{storage / 'mlflow.db'}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    children = [run for run in runs if "rc.trial_id" in run.data.tags]
    assert sorted(run.data.tags["rc.trial_id"] for run in children) == expected
    assert {run.info.status for run in children} == {"FINISHED"}
    assert len(runs) == len(expected) + 1
