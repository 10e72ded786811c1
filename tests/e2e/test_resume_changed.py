"""A sweep that has ended goes on with more trials than it was launched with."""

from __future__ import annotations

from pathlib import Path

import pytest

from rc_core.yaml_files import read_yaml
from tests.e2e._sweeps import call, records, write_config

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_more_trials_at_resume(tmp_path: Path) -> None:
    config = write_config(tmp_path, trials=3)
    done = call(tmp_path, "launch", str(config), "--name", "grown")
    assert done.returncode == 0, done.stdout + done.stderr
    before = records(tmp_path, "grown")
    assert len(before) == 3

    refused = call(tmp_path, "resume", "grown", "--set", "training.epochs=9")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "training.epochs: cannot change in a sweep that was launched" in refused.stderr
    done = call(tmp_path, "resume", "grown", "--set", "search.trials=5")
    assert done.returncode == 0, done.stdout + done.stderr
    after = records(tmp_path, "grown")
    assert len(after) == 5 and {r["status"] for r in after.values()} == {"finished"}
    assert {name: after[name] for name in before} == before, "what was there is as it was"
    assert read_yaml(tmp_path / "grown" / "sweep.yaml")["search"]["trials"] == 5
