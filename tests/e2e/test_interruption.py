"""A driver that is told to stop: nothing computed is lost, nothing runs twice.

How a driver is killed without a word is in test_early_stopping.py and test_address.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e._sweeps import call, command, one_run_per_trial, records, write_config

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1000)]

NAME = "ended"
TRIALS = 9


def interrupted(storage: Path, how: signal.Signals, *arguments: str) -> None:
    """Start a driver, signal it when it has finished two trials and one runs.

    SIGINT goes to the driver and all that it has started, as a terminal sends Ctrl-C.
    """
    wanted = len(finished(storage)) + 2
    log = storage / f"{how.name}.log"
    # Tests in the background of a script ignore Ctrl-C, and so would what they start.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("w") as stream:
        process = subprocess.Popen(
            command(storage, *arguments),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    signal.signal(signal.SIGINT, ours)
    deadline = time.monotonic() + 400
    try:
        while time.monotonic() < deadline:
            states = [record["status"] for record in records(storage, NAME).values()]
            if states.count("finished") >= wanted and "running" in states:
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        else:
            pytest.fail(f"not within 400 s: {wanted} finished trials\n{log.read_text()}")
        if how == signal.SIGINT:
            os.killpg(process.pid, how)
        else:
            os.kill(process.pid, how)
        code = process.wait(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    text = log.read_text()
    assert code == 1 and f"rc-sweep resume {NAME}" in text, text
    assert "Traceback" not in text and "***" not in text


def finished(storage: Path) -> dict[str, object]:
    found = records(storage, NAME)
    return {name: record for name, record in found.items() if record["status"] == "finished"}


def test_an_ended_driver_is_resumed_without_losing_a_trial(tmp_path: Path) -> None:
    """Ended by Ctrl-C, then, resumed, as a scheduler or a container ends it."""
    config = write_config(tmp_path, trials=TRIALS, epochs=6, rungs=6)
    interrupted(tmp_path, signal.SIGINT, "launch", str(config), "--name", NAME)
    first = finished(tmp_path)
    assert 2 <= len(first) < TRIALS
    interrupted(tmp_path, signal.SIGTERM, "resume", NAME)
    second = finished(tmp_path)
    assert len(first) + 2 <= len(second) < TRIALS
    for name, record in first.items():
        assert second[name] == record, "a finished trial is not run again"
    done = call(tmp_path, "resume", NAME)
    assert done.returncode == 0, done.stdout + done.stderr
    after = records(tmp_path, NAME)
    assert list(after) == [f"t{i:04d}" for i in range(TRIALS)]
    assert {record["status"] for record in after.values()} == {"finished"}
    for name, record in second.items():
        assert after[name] == record, "a finished trial is not run again"
    one_run_per_trial(tmp_path, NAME)
