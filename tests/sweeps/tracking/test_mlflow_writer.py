"""A real MLflow store: one run per trial, whatever is delivered twice or after a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rc_core.metrics.footprint import PACKED
from rc_core.record import RungRecord, TrialRecord
from sweeps.tracking.mlflow_store import default_uri, mlflow_name
from sweeps.tracking.mlflow_view import view_state
from sweeps.tracking.mlflow_writer import MlflowWriter
from sweeps.tracking.outbox import Drain, Event, Outbox, Undeliverable

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
DATA = [
    {"name": f"{role}.{suite}", "role": role, "digest": digest, "samples": 9, "source": "{}"}
    for role, suite, digest in (
        ("train", "nli", "a1"),
        ("id_dev", "nli", "b2"),
        ("ood_dev", "h", "c3"),
    )
]
MODEL: dict[str, Any] = {
    "trial_id": "t0001", "name": "s t0001 magnitude-50 rmc alpha=0.3", "pareto": True,
    "params": {"loss.alpha": "0.3"}, "tags": {"path": "trials/t0001/model"}, "time": 1.0,
    "metrics": [
        {"key": "ood_dev/accuracy", "value": 0.7, "step": 10}
        | {"dataset": "ood_dev.h", "digest": "c3"},
    ],
}  # fmt: skip


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
            attempt=1, reference=False, params={"loss.name": "rmc", "loss.alpha": "0.3"},
            changed={"loss.alpha": "0.3"},
        )  # fmt: skip

    return [
        event("sweep_started", sweep=sweep, config="a: 1\n", tags={"rc.x": "y"}),
        started("t0001"),
        started("t0002"),
        event("rung", trial_id="t0001", step=5, metrics={"rung/id_dev/accuracy": 0.6}),
        event(
            "trial_ended", trial_id="t0001", status="finished", record=record("t0001"),
            datasets=DATA,
        ),
        event("trial_ended", trial_id="t0002", status="failed", record=broken),
        # Of t0003 there is a record, but it was never told of.
        event(
            "ranked", trials=["t0001", "t0002", "t0003"], front=["t0001"], ranks={"t0001": 0}
        ),
        event(
            "sweep_ended", status="finished", seconds=5.0, front=["t0001"], hypervolume=0.4,
            artifacts=[str(folder / "front.json")], summary="| t0001 |", models=[MODEL],
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
    for run in (parent, first):
        inputs = {
            (each.tags[0].value, each.dataset.name, each.dataset.digest)
            for each in run.inputs.dataset_inputs
        }
        assert inputs == {
            ("train", "train.nli", "a1"), ("id_dev", "id_dev.nli", "b2"),
            ("ood_dev", "ood_dev.h", "c3"),
        }  # fmt: skip
    assert first.data.tags["loss.alpha"] == "0.3" and first.data.tags["status"] == "finished"
    assert parent.data.tags["mlflow.note.content"] == "| t0001 |"
    client = MlflowClient(tracking_uri=default_uri(storage))
    (model,) = client.search_logged_models(
        [parent.info.experiment_id], f"tags.`rc.sweep_id` = '{sweep}-id'"
    )
    assert model.source_run_id == first.info.run_id and model.tags["pareto"] == "true"
    assert [(m.key, m.value, m.dataset_name, m.dataset_digest) for m in model.metrics] == [
        ("ood_dev/accuracy", 0.7, "ood_dev.h", "c3")
    ]
    history = client.get_metric_history(first.info.run_id, "rung/id_dev/accuracy")
    assert [metric.step for metric in history] == [5]
    names = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert names == {"sweep.yaml", "front.json"}
    assert {a.path for a in client.list_artifacts(first.info.run_id)} == {"config.yaml"}


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


def test_a_resumed_sweep_shows_what_it_ended_with(storage: Path) -> None:
    listed = events("resumed", storage)
    first = {**listed[-1], "attempt": 1, "status": "interrupted", "hypervolume": 0.1}
    second = {**listed[-1], "attempt": 2, "seconds": 9.0}
    writer = connect(storage, "resumed")
    for one in (*listed[:-1], first, listed[0], second, second):
        writer.apply(one)
    check(storage, "resumed")
    assert runs(storage, "resumed")["parent"].data.metrics["seconds"] == 9.0


def test_names_and_values_that_mlflow_refuses_are_made_to_fit(storage: Path) -> None:
    listed = events("odd", storage)
    labels = {"don't know?": "ja \u2013 nein", "..": "x" * 9000, "": "y"}
    listed[1]["params"] |= {f"task.labels.{key}": value for key, value in labels.items()}
    listed[4]["record"]["metrics"] |= {"ood_dev/s\u00fc\u00df/../accuracy": 0.5, "broken": None}
    listed[4]["record"]["seconds"] |= {"lost": None}
    writer = connect(storage, "odd")
    for one in listed:
        writer.apply(one)
    check(storage, "odd")
    first = runs(storage, "odd")["t0001"]
    dots = mlflow_name("..")
    assert first.data.metrics[f"ood_dev/s\u00fc\u00df/{dots}/accuracy"] == 0.5
    assert first.data.params[mlflow_name("task.labels.don't know?")] == "ja \u2013 nein"


def test_names_that_differ_in_signs_alone_stay_two(storage: Path) -> None:
    """Slices in another script had one name: the accuracy of one of them stood for all."""
    listed = events("signs", storage)
    labels = {"\u0434\u0430": "yes", "\u043d\u0435": "no", "?!": "odd", "!?": "even"}
    listed[1]["params"] |= {f"task.labels.{key}": value for key, value in labels.items()}
    slices = (
        "\u65e5\u672c",
        "\u4e2d\u56fd",
        "\u0915\u0940",
        "\u0915\u093e",
        "a=b",
        "a<b",
        "x" * 300,
    )
    keys = [f"ood_dev/s/kind.{value}/accuracy" for value in (*slices, "x" * 301)]
    listed[4]["record"]["metrics"] |= {key: i / 10 for i, key in enumerate(keys)}
    writer = connect(storage, "signs")
    for one in listed:
        writer.apply(one)
    data = runs(storage, "signs")["t0001"].data
    for key, value in labels.items():
        assert data.params[mlflow_name(f"task.labels.{key}")] == value
    assert [data.metrics[mlflow_name(key)] for key in keys] == [i / 10 for i in range(len(keys))]
    assert mlflow_name(keys[0]) == keys[0], "letters of any script are MLflow's own"
    assert mlflow_name("ood_dev/a-b c/topic.x_y/accuracy") == "ood_dev/a-b c/topic.x_y/accuracy"


def test_parameters_lost_in_a_kill_are_written_the_second_time(storage: Path) -> None:
    listed = events("params", storage)
    first = connect(storage, "params")
    first._describe = lambda run_id, event: None  # type: ignore[method-assign]
    for one in listed[:2]:
        first.apply(one)
    assert not runs(storage, "params")["t0001"].data.params
    again = connect(storage, "params")
    for one in listed[1:]:
        again.apply(one)
    check(storage, "params")


@pytest.mark.parametrize("call", ["create_run", "create_logged_model"])
def test_what_was_made_though_its_answer_came_too_late_is_found(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    from mlflow import MlflowClient

    sweep, whole, answered = f"late-{call}", getattr(MlflowClient, call), []

    def late(*arguments: Any, **options: Any) -> Any:
        made = whole(*arguments, **options)
        answered.append(made)
        # The parent's, both trials' and the model's: each fails once.
        raise ConnectionError("no answer in time")

    monkeypatch.setattr(MlflowClient, call, late)
    outbox = Outbox(tmp_path / "outbox.jsonl")
    for one in events(sweep, storage):
        outbox.append(**one)
    monkeypatch.setattr("sweeps.tracking.outbox._FIRST_WAIT", 0.01)
    drain = Drain(outbox, lambda: connect(storage, sweep))
    assert drain.close(60) == 0
    assert len(answered) == (3 if call == "create_run" else 1)
    check(storage, sweep)


@pytest.mark.parametrize("lost", ["params", "sweep.yaml", "view"])
def test_what_a_kill_left_out_of_the_sweeps_own_run_is_written_the_second_time(
    storage: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    from mlflow import MlflowClient

    sweep = f"half-{lost}"
    listed = events(sweep, storage)
    listed[0] |= {"params": {"search.trials": "9", "model": "tiny"}, "view": {"a": 1}}

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    step = {"params": "log_batch", "view": "store_view"}.get(lost)
    first = connect(storage, sweep)
    with monkeypatch.context() as kill:
        if step is None:
            kill.setattr(first._client, "log_text", killed)
        else:
            kill.setattr(f"sweeps.tracking.mlflow_writer.{step}", killed)
        with pytest.raises(KeyboardInterrupt):
            first.apply(listed[0])
    again = connect(storage, sweep)
    # A resume may have changed what a parameter says; MLflow keeps the first.
    for one in (*listed, listed[0] | {"params": {"search.trials": "20", "seed": "1"}}, listed[-1]):
        again.apply(one)
    check(storage, sweep)
    parent = runs(storage, sweep)["parent"]
    assert parent.data.params == {"search.trials": "9", "model": "tiny", "seed": "1"}
    experiment = MlflowClient(tracking_uri=default_uri(storage)).get_experiment("1")
    assert experiment.tags[f"mlflow.sharedViewState.{sweep}-id"] == '{"a": 1}'


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
    with pytest.raises(Undeliverable, match="for the runs of t0001"):
        writer.apply(listed[6])
    assert runs(storage, "deleted")["t0002"].data.tags["pareto"] == "false"
    with pytest.raises(Undeliverable, match="never started"):
        connect(storage, "deleted").apply(listed[4])


def test_opening_the_test_makes_runs_below_the_trials(storage: Path) -> None:
    from mlflow import MlflowClient

    listed = events("tested", storage)
    data = [{"name": "ood_test.h", "role": "ood_test", "digest": "d4", "samples": 9, "source": ""}]
    measured = MODEL["metrics"][0] | {"key": "ood_test/accuracy", "dataset": "ood_test.h"}
    trial = {
        "name": "magnitude-50 rmc", "opened": 5.0, "metrics": {"ood_test/accuracy": 0.7},
        "measured": [measured | {"digest": "d4", "step": 0}],
    }  # fmt: skip
    opened = event("tested", trials={"t0001": trial}, datasets=data, stamp="opened once")
    for one in listed:
        connect(storage, "tested").apply(one)
    for _ in range(2):
        connect(storage, "tested").apply(opened)
    client = MlflowClient(tracking_uri=default_uri(storage))
    found = client.search_runs(["1"], "tags.`rc.sweep_id` = 'tested-id'")
    (test,) = [run for run in found if run.data.tags["rc.kind"] == "test"]
    view = view_state("tested-id", "tested", ["ood_dev/accuracy"], [], [], PACKED)
    assert view["compareRunCharts"][0]["displayName"].endswith("against packed bytes")
    shown = client.search_runs(["1"], view["searchFilter"])
    assert {run.info.run_id for run in shown} == {r.info.run_id for r in found} - {test.info.run_id}
    by_trial = {run.data.tags.get("rc.trial_id"): run for run in found if run is not test}
    assert test.data.tags["mlflow.parentRunId"] == by_trial["t0001"].info.run_id
    assert test.data.metrics == {"ood_test/accuracy": 0.7}
    assert [i.tags[0].value for i in test.inputs.dataset_inputs] == ["ood_test"]
    for trial_id, run in by_trial.items():
        roles = {each.tags[0].value for each in run.inputs.dataset_inputs}
        assert roles <= {"train", "id_dev", "ood_dev"}, f"{trial_id} touched a test role"
    (model,) = client.search_logged_models(["1"], "tags.`rc.sweep_id` = 'tested-id'")
    assert {metric.key for metric in model.metrics} == {"ood_dev/accuracy", "ood_test/accuracy"}


def test_a_confirmation_hangs_below_what_it_confirms(storage: Path) -> None:
    for one in events("searched", storage):
        connect(storage, "searched").apply(one)
    listed = events("searched.confirm", storage)
    listed[0]["parent"] = {"sweep_id": "searched-id", "trial_id": None}
    listed[1]["parent"] = {"sweep_id": "searched-id", "trial_id": "t0002"}
    for one in (*listed, *listed):
        connect(storage, "searched.confirm").apply(one)
    searched, confirmed = runs(storage, "searched"), runs(storage, "searched.confirm")
    above = {name: run.data.tags["mlflow.parentRunId"] for name, run in confirmed.items()}
    assert above == {
        "parent": searched["parent"].info.run_id,
        "t0001": searched["t0002"].info.run_id,
        # What repeats nothing that was tracked stays below its own sweep.
        "t0002": confirmed["parent"].info.run_id,
    }


def test_a_trial_that_leaves_the_front_says_so(storage: Path) -> None:
    listed = events("moved", storage)
    for one in listed:
        connect(storage, "moved").apply(one)
    listed[-2] |= {"front": ["t0002"], "ranks": {"t0002": 0}}
    connect(storage, "moved").apply(listed[-2])
    found = runs(storage, "moved")
    assert found["t0001"].data.tags["pareto"] == "false" and "rank" not in found["t0001"].data.tags
    assert found["t0002"].data.tags["pareto"] == "true"


def test_an_artifact_store_that_fails_holds_up_nothing(
    storage: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("no client for this bucket")

    writer = connect(storage, "bucket")
    for name in ("log_text", "log_dict", "log_artifact"):
        setattr(writer._client, name, fail)
    for one in events("bucket", storage):
        writer.apply(one)
    found = runs(storage, "bucket")
    assert found["parent"].info.status == "FINISHED" and found["t0001"].data.params
    assert caplog.text.count("no client for this bucket") == 1


def test_a_dead_server_raises_soon(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(Exception, match=r"(?i)connection|refused|max retries|failed"):
        MlflowWriter("http://127.0.0.1:9", storage=tmp_path, sweep_id="x")
    assert time.monotonic() - start < 60


def test_an_experiment_that_was_deleted_takes_runs_again(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=default_uri(tmp_path))
    number = client.create_experiment("rc-sweep")
    client.delete_experiment(number)
    for one in events("anew", tmp_path):
        connect(tmp_path, "anew").apply(one)
    assert client.get_experiment(number).lifecycle_stage == "active"
    assert set(runs(tmp_path, "anew")) == {"parent", "t0001", "t0002"}
