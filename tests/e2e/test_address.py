"""A sweep whose storage is an S3 API: launched on one machine, ended on a second, read on a third.

Each machine is a folder of its own (RC_STATE); nothing passes between them but objects.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from sweeps.remote.address import parse
from sweeps.remote.objects import Objects
from tests._s3 import S3Server
from tests.e2e._sweeps import command, write_config

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("e2e-2"),
]


def call(s3: S3Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    arguments = (*arguments, "--storage", s3.storage)
    whole = command(Path("."), *arguments)[:-2]
    return subprocess.run(whole, capture_output=True, text=True, timeout=280)


def killed(s3: S3Server, config: Path) -> set[str]:
    """Launch a sweep, kill its driver when two trials have arrived; return their ids."""
    log = config.with_name("launch.log")
    arguments = command(Path("."), "launch", str(config), "--name", "far")[:-2]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*arguments, "--storage", s3.storage],
            stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 200
    try:
        while len(arrived(s3)) < 2:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        return arrived(s3)
    finally:
        process.kill()
        process.wait()


def arrived(s3: S3Server) -> set[str]:
    """Return the trials whose ended record is at the address; a running one may be there before."""
    keys = [key for key in s3.listing() if key.endswith("/record.json")]
    objects = Objects(parse(s3.storage))
    contents = [objects.read(key) for key in keys if key.startswith("far/trials/")]
    found = [json.loads(content) for content in contents if content is not None]
    return {str(record["id"]) for record in found if record["status"] != "running"}


def records(state: Path) -> dict[str, dict[str, object]]:
    files = sorted(state.glob("*/far/trials/*/record.json"))
    return {file.parent.name: json.loads(file.read_text()) for file in files}


def test_a_sweep_moves_from_machine_to_machine(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    monkeypatch.setenv("RC_STATE", str(first))
    ended = killed(s3, write_config(tmp_path, trials=4, epochs=6, rungs=6))
    before = records(first)
    monkeypatch.setenv("RC_STATE", str(second))
    refused = call(s3, "resume", "far")
    assert refused.returncode == 2 and "--take-over" in refused.stderr, refused.stderr
    done = call(s3, "resume", "far", "--take-over")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "built in" not in done.stdout, "what all trials share was brought, not built"
    after = records(second)
    assert list(after) == [f"t{i:04d}" for i in range(4)]
    assert {record["status"] for record in after.values()} == {"finished"}
    for trial in ended:
        assert after[trial] == before[trial], "a finished trial is not run again"
    monkeypatch.setenv("RC_STATE", str(third))
    shown = call(s3, "pareto", "far", "--json")
    assert shown.returncode == 0, shown.stderr
    written = json.loads(next(second.glob("*/far/front.json")).read_text())
    assert json.loads(shown.stdout)["front"] == written["front"]
    assert records(third) == after and not list(third.rglob("*.safetensors"))
    out = tmp_path / "exported"
    exported = call(s3, "export", "far", "--pick", "t0001", "--out", str(out))
    assert exported.returncode == 0, exported.stderr
    assert (out / "model.safetensors").is_file()
    assert len(list(third.rglob("*.safetensors"))) == 1, "only the model that was asked for"
