"""A real MLflow store: one run per trial, whatever is delivered twice or after a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rc_core.record import RungRecord, TrialRecord
from sweeps.mlflow_store import default_uri
from sweeps.outbox import Event, Undeliverable
from sweeps.tracking import MlflowWriter

pytestmark = pytest.mark.slow
CONFIG: dict[str, Any] = {
    "model": "tiny:bert",
    "task": {"name": "shortcut_nli", "seed": 0},
    "training": {"epochs": 1.0},
    "teacher": {"epochs": 1.0},
    "compression": {"name": "magnitude", "sparsity": 0.5},
    "loss": {"name": "rmc", "alpha": 0.3},
    "difficulty": {"name": "loss_variance", "levels": [0.2, 0.5]},
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("storage")


def record(trial_id: str, status: Any = "finished", error: str | None = None) -> dict[str, Any]:
    rung = RungRecord(step=5, progress=0.5, seconds=1.0, metrics={"rung/id_dev/accuracy": 0.6})
    found = TrialRecord(
        id=trial_id,
        status=status,
        config=CONFIG,
        fingerprint="x",
        started=time.time(),
        finished=time.time(),
        metrics={
            "ood_dev/hans/subcase.sn_NP_S/accuracy": 0.7,
            "ood_dev/relative_bias": float("nan"),
        },
        rungs=(rung,),
        seconds={"total": 3.0},
        steps={"own": 10},
        error=error,
    )
    content: dict[str, Any] = __import__("json").loads(found.model_dump_json())
    return content


def event(kind: str, **payload: Any) -> Event:
    return {"kind": kind, "time": time.time(), **payload}


def events(sweep: str, folder: Path) -> list[Event]:
    (folder / "front.json").write_text("{}")

    broken = record("t0002", "failed", "oom")

    def started(trial_id: str) -> Event:
        return event(
            "trial_started", trial_id=trial_id, name=f"{trial_id} magnitude-50 rmc", config=CONFIG,
            attempt=1, reference=False,
        )  # fmt: skip

    return [
        event("sweep_started", sweep=sweep, config="a: 1\n", tags={"rc.x": "y"}),
        started("t0001"),
        started("t0002"),
        event("rung", trial_id="t0001", step=5, metrics={"rung/id_dev/accuracy": 0.6}),
        event("trial_ended", trial_id="t0001", status="finished", record=record("t0001")),
        event("trial_ended", trial_id="t0002", status="failed", record=broken),
        event(
            "sweep_ended", status="finished", seconds=5.0, front=["t0001"], ranks={"t0001": 0},
            hypervolume=0.4, artifacts=[str(folder / "front.json")],
        ),
    ]  # fmt: skip


def connect(storage: Path, sweep: str) -> MlflowWriter:
    return MlflowWriter(default_uri(storage), storage=storage, sweep_id=f"{sweep}-id")


def runs(storage: Path, sweep: str) -> dict[str, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=default_uri(storage))
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    mine = [run for run in found if run.data.tags["rc.sweep_id"] == f"{sweep}-id"]
    named = {run.data.tags.get("rc.trial_id", "parent"): run for run in mine}
    assert len(named) == len(mine), "one run each"
    return named


def check(storage: Path, sweep: str) -> None:
    from mlflow import MlflowClient

    found = runs(storage, sweep)
    assert sorted(found) == ["parent", "t0001", "t0002"]
    parent, first, second = found["parent"], found["t0001"], found["t0002"]
    statuses = [run.info.status for run in (parent, first, second)]
    assert statuses == ["FINISHED", "FINISHED", "FAILED"]
    assert first.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (first.data.tags["pareto"], first.data.tags["rank"]) == ("true", "0")
    assert second.data.tags["pareto"] == "false" and second.data.tags["error"] == "oom"
    assert first.data.metrics["ood_dev/hans/subcase.sn_NP_S/accuracy"] == 0.7
    assert "ood_dev/relative_bias" not in first.data.metrics
    assert first.data.params["loss.alpha"] == "0.3"
    assert not any(key.startswith("teacher") for key in first.data.params)
    assert parent.data.metrics["hypervolume"] == 0.4
    client = MlflowClient(tracking_uri=default_uri(storage))
    history = client.get_metric_history(first.info.run_id, "rung/id_dev/accuracy")
    assert [metric.step for metric in history] == [5]
    names = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert names == {"sweep.yaml", "front.json"}


def test_a_sweep_is_one_parent_with_its_trials(storage: Path) -> None:
    writer = connect(storage, "plain")
    for one in events("plain", storage):
        writer.apply(one)
    check(storage, "plain")


def test_everything_delivered_twice_changes_nothing(storage: Path) -> None:
    listed = events("twice", storage)
    writer = connect(storage, "twice")
    for one in (*listed, *listed):
        writer.apply(one)
    check(storage, "twice")


@pytest.mark.parametrize("killed_after", [1, 2, 4, 5])
def test_a_restart_goes_on_with_the_same_runs(storage: Path, killed_after: int) -> None:
    sweep = f"killed{killed_after}"
    listed = events(sweep, storage)
    first = connect(storage, sweep)
    for one in listed[:killed_after]:
        first.apply(one)
    again = connect(storage, sweep)
    # The last event before the kill may not have been marked as delivered; a resumed driver says
    # that the sweep starts, after whatever its predecessor left undelivered.
    for one in (*listed[max(killed_after - 1, 0) : -1], listed[0], listed[-1]):
        again.apply(one)
    check(storage, sweep)


def test_names_and_values_that_mlflow_refuses_are_made_to_fit(storage: Path) -> None:
    listed = events("odd", storage)
    labels = {"don't know?": "ja \u2013 nein", "..": "x" * 9000, "": "y"}
    listed[1]["config"] = CONFIG | {"task": {"name": "files", "labels": labels}}
    listed[4]["record"]["metrics"] |= {"ood_dev/s\u00fc\u00df/../accuracy": 0.5, "broken": None}
    listed[4]["record"]["seconds"] |= {"lost": None}
    writer = connect(storage, "odd")
    for one in listed:
        writer.apply(one)
    check(storage, "odd")
    first = runs(storage, "odd")["t0001"]
    assert first.data.metrics["ood_dev/s__/_/accuracy"] == 0.5
    assert first.data.params["task.labels.don_t know_"] == "ja \u2013 nein"


def test_parameters_lost_in_a_kill_are_written_the_second_time(storage: Path) -> None:
    listed = events("params", storage)
    first = connect(storage, "params")
    first._log_params = lambda run_id, config: None  # type: ignore[method-assign]
    for one in listed[:2]:
        first.apply(one)
    assert not runs(storage, "params")["t0001"].data.params
    again = connect(storage, "params")
    for one in listed[1:]:
        again.apply(one)
    check(storage, "params")


def test_a_run_that_the_user_deleted_is_refused_and_no_more(storage: Path) -> None:
    from mlflow import MlflowClient

    listed = events("deleted", storage)
    writer = connect(storage, "deleted")
    assert writer.empty
    for one in listed[:3]:
        writer.apply(one)
    assert not connect(storage, "deleted").empty
    found = runs(storage, "deleted")["t0001"]
    MlflowClient(tracking_uri=default_uri(storage)).delete_run(found.info.run_id)
    with pytest.raises(Undeliverable):
        writer.apply(listed[3])
    writer.apply(listed[5])
    with pytest.raises(Undeliverable, match="never started"):
        connect(storage, "deleted").apply(listed[4])


def test_a_dead_server_raises_soon(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(Exception, match=r"(?i)connection|refused|max retries|failed"):
        MlflowWriter("http://127.0.0.1:9", storage=tmp_path, sweep_id="x")
    assert time.monotonic() - start < 60
