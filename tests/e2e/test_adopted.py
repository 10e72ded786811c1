"""A fixed design that ran elsewhere, without its weights: a driver finds nothing to do in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner

from rc_core.batch import run_batch
from rc_core.job_list import read_list
from sweeps.cli import app
from tests.e2e._sweeps import call, records
from tests.sweeps.engine.test_listed import DESIGN

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_resume_builds_and_runs_nothing(tmp_path: Path) -> None:
    config, listed, out = (tmp_path / name for name in ("design.yaml", "list.jsonl", "out"))
    config.write_text(OmegaConf.to_yaml(OmegaConf.create({**DESIGN, "health_gate": "warn"})))
    storage = tmp_path / "storage"
    made = call(storage, "adopt", "mine", str(out), "--config", str(config))
    assert made.returncode == 2 and "must hold finished trials" in made.stderr
    assert not (storage / "mine").exists()

    assert CliRunner().invoke(app, ["trials", str(config), "--out", str(listed)]).exit_code == 0
    assert run_batch(read_list(listed), out) == 0
    for model in out.glob("trials/*/model"):
        shutil.rmtree(model)
    made = call(storage, "adopt", "mine", str(out), "--config", str(config))
    assert made.returncode == 0 and "6 trials adopted" in made.stdout, made.stderr
    before = records(storage, "mine")
    done = call(storage, "resume", "mine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "prepare:" not in done.stdout and "6 finished" in done.stdout
    assert records(storage, "mine") == before
    assert not list((storage / "artifacts").glob("teacher*"))
    refused = call(storage, "test", "mine")
    assert refused.returncode == 2 and "must have weights here" in refused.stderr
    assert "Traceback" not in refused.stderr
