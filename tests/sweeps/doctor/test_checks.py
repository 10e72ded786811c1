"""The doctor finds what is wrong, says what to do, and breaks over nothing."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.doctor import checks as doctor
from sweeps.doctor import services as doctor_services
from sweeps.doctor.checks import Check
from sweeps.doctor.services import check_hub, check_mlflow, check_ray
from sweeps.doctor.storage import check_folder
from sweeps.settings import TrackingConfig

CONFIG = """
model: tiny:bert
space: {loss.name: {choice: [vanilla, distil]}}
search: {name: random, trials: 4}
"""


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Answer for torch and Ray, whose processes take seconds to start."""
    facts: dict[str, Any] = {"gpus": [], "threads": 2, "capability": "AVX2"}
    monkeypatch.setattr("sweeps.doctor.checks.check_torch", lambda: facts)
    monkeypatch.setattr("sweeps.doctor.checks.check_ray", lambda address: ("ok", "starts", ""))
    return facts


def states(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in checks}


def call(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["doctor", *arguments])
    return done.exit_code, done.output


def test_a_fit_machine_has_no_problem(services: dict[str, Any], tmp_path: Path) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(CONFIG)
    code, out = call(str(config), "--storage", str(tmp_path / "new" / "deep"), "--json")
    document = json.loads(out)
    found = {check["name"]: check for check in document["checks"]}
    assert code == 0 and document["healthy"] is True, out
    assert set(found) >= {
        "config", "python", "versions", "cores", "memory", "device", "storage", "disk", "clock",
        "limits", "hub", "mlflow", "ui port", "ray",
    }  # fmt: skip
    assert "will be made" in found["storage"]["found"]
    assert "needs about" in found["disk"]["found"]
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".rc-*")), "leaves nothing"


def test_each_problem_comes_with_what_to_do(services: dict[str, Any], tmp_path: Path) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text(CONFIG + "resources: {cpu: 4096, gpu: 1}\n")
    (tmp_path / "mlflow.db").write_text("no database")
    code, out = call(str(config), "--storage", str(tmp_path))
    assert code == 1
    lines = out.splitlines()
    for name, advice in (
        ("cores", "resources.cpu="),
        ("device", "resources.gpu=0"),
        ("mlflow", "move it aside"),
    ):
        (at,) = [i for i, line in enumerate(lines) if line.startswith(f"BAD   {name} ")]
        assert advice in lines[at + 1], name
    assert lines[-1] == "3 problems"


def test_a_wrong_configuration_is_one_finding_of_many(
    services: dict[str, Any], tmp_path: Path
) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text("model: tiny:bert\nlos: {name: rmc}\n")
    found = doctor.examine(config, storage=tmp_path)
    assert states(found)["config"] == "problem" and states(found)["ray"] == "ok"
    assert "did you mean" in found[0].found and "validate" in found[0].advice


def test_a_check_that_breaks_is_told_and_the_others_go_on(
    services: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.doctor.checks._memory", lambda: 1 / 0)
    found = states(doctor.examine(storage=tmp_path))
    assert found["memory"] == "problem" and found["disk"] == "ok"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_storage_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    state, found, advice = check_folder(tmp_path / "storage")
    tmp_path.chmod(0o700)
    assert state == "problem" and "RC_STORAGE" in advice and str(tmp_path) in found


@pytest.mark.parametrize("below", ["", "deep/down"])
def test_a_file_in_the_storages_place_is_a_problem(tmp_path: Path, below: str) -> None:
    (tmp_path / "some.yaml").write_text("")
    state, found, advice = check_folder(tmp_path / "some.yaml" / below)
    assert state == "problem" and "some.yaml is a file" in found and "RC_STORAGE" in advice


def test_a_file_system_without_locks_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.doctor.storage.fcntl.flock", lambda stream, how: None)
    state, found, _ = check_folder(tmp_path)
    assert state == "problem" and "one lock" in found


def test_records_from_the_future_mean_a_wrong_clock(tmp_path: Path) -> None:
    assert doctor._clock(tmp_path)[0] == "ok"
    (tmp_path / "sweep").mkdir()
    stamp = tmp_path / "sweep" / "attempt.json"
    stamp.write_text("{}")
    os.utime(stamp, (4e9, 4e9))
    state, found, advice = doctor._clock(tmp_path)
    assert state == "problem" and "newer" in found and "NTP" in advice


def test_a_taken_port_is_noted(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert doctor._port(port)[0] == "note"
    assert doctor._port(port)[0] == "ok"


def test_versions_are_held_against_those_that_were_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    assert "torch" in doctor._tested() and "PyYAML" in doctor._tested()
    real = importlib.metadata.version
    monkeypatch.setattr(
        "sweeps.doctor.checks.importlib.metadata.version",
        lambda name: "0.1" if name == "optuna" else real(name),
    )
    state, found, _ = doctor._versions()
    assert state == "note" and "optuna 0.1, tested with 5" in found


def test_servers_that_do_not_answer_are_told_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_services, "_SECONDS", 1.0)
    assert check_mlflow("http://127.0.0.1:9", tmp_path)[0] == "problem"
    assert check_ray("127.0.0.1:9")[0] == "problem"
    assert check_ray("ray-head")[0] == "problem"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    state, found, advice = check_hub(None)
    assert state == "note" and "127.0.0.1:9" in found and "HF_HUB_OFFLINE" in advice
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert check_hub(None)[:2] == ("ok", "offline, as HF_HUB_OFFLINE says")


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("localhost:5000", "did you mean http://localhost:5000?"),
        ("203.0.113.7:5000/x", "did you mean http://203.0.113.7:5000/x?"),
        ("htp://server", "but got"),
        ("http:/server", "but got"),
        ("''", "but got"),
    ],
)
def test_a_tracking_server_without_its_scheme_is_told_before_anything_starts(
    uri: str, hint: str, services: dict[str, Any], tmp_path: Path
) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(CONFIG + f"tracking: {{uri: {uri}}}\n")
    found = doctor.examine(config, storage=tmp_path)
    assert states(found)["config"] == "problem"
    assert "tracking.uri: must be http://HOST:PORT" in found[0].found and hint in found[0].found


@pytest.mark.parametrize(
    "uri",
    [
        "http://h:5000", "HTTPS://h/x", "sqlite:////x/y.db", "postgresql+psycopg2://u@h/d",
        "databricks", "databricks://profile", "file:///x", "mlruns", "arn:aws:sagemaker:x",
    ],
)  # fmt: skip
def test_what_mlflow_takes_is_taken(uri: str) -> None:
    assert TrackingConfig(uri=uri).uri == uri


def test_a_folder_as_tracking_store_is_a_problem_unless_mlflow_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    for uri in ("mlruns", "mlflow.example.org", f"file://{tmp_path}"):
        state, _, advice = check_mlflow(uri, tmp_path)
        assert state == "problem" and "http://HOST:PORT" in advice
    assert check_mlflow("databricks", tmp_path)[0] == "note"
    assert check_mlflow("mysql://h/d", tmp_path)[0] == "note"
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert check_mlflow("mlruns", tmp_path)[0] == "note"


def test_a_store_is_found_whatever_its_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "50 % #1?"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        store.execute("CREATE TABLE alembic_version (version_num TEXT)")
        store.execute("CREATE TABLE runs (run_uuid TEXT)")
        store.execute("INSERT INTO alembic_version VALUES (?)", (doctor_services._schema(),))
        store.commit()
    assert check_mlflow(None, folder)[:2] == ("ok", f"{folder / 'mlflow.db'}: 0 runs")


def test_what_answers_but_speaks_no_http_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        state, found, advice = check_mlflow(uri, tmp_path)
        thread.join()
    assert state == "problem" and "does not answer (SSH-2.0" in found and "start it" in advice


def test_in_a_container_what_files_lie_in_is_memory_that_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: 1,000 kB may be used, 900 are, 600 of them of files."""
    monkeypatch.setattr(doctor, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 250000\nfile 650000\ninactive_file 600000\n")
    assert doctor._free_memory() == 700_000


def test_a_store_of_another_mlflow_is_a_problem(tmp_path: Path) -> None:
    assert check_mlflow(None, tmp_path)[0] == "ok"
    newest = doctor_services._schema()
    assert newest is not None, "the installed MLflow's schema was not found"
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        store.execute("CREATE TABLE alembic_version (version_num TEXT)")
        store.execute("CREATE TABLE runs (run_uuid TEXT)")
        store.execute("INSERT INTO alembic_version VALUES (?)", (newest,))
        store.commit()
        assert check_mlflow(None, tmp_path)[0] == "ok"
        store.execute("UPDATE alembic_version SET version_num = 'old'")
        store.commit()
    store.close()
    state, _, advice = check_mlflow(None, tmp_path)
    assert state == "problem" and "mlflow db upgrade" in advice
