"""The only file that imports MLflow: applies the outbox's events to a tracking store or server.

One parent run per sweep, one child per trial. Runs are found by tags of ours (`rc.sweep_id`,
`rc.trial_id`) before one is made, so that repeats, a killed driver and a resume leave exactly one
run per trial.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rc_core.errors import StorageError
from sweeps.outbox import Event, Undeliverable

if TYPE_CHECKING:
    from mlflow.entities import Run

EXPERIMENT = "rc-sweep"
_PARENT = "mlflow.parentRunId"
_STATUSES = {
    "finished": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "running": "RUNNING",
}
_LOGGED_SECTIONS = ("model", "task", "training", "compression", "loss", "difficulty")
_MAX_VALUE, _MAX_KEY = 500, 250
# MLflow's own limits on one log_batch call.
_MAX_PARAMS, _MAX_METRICS = 100, 1000
# What MLflow answers to a request that is wrong in itself, say on a run that a user has deleted.
_PERMANENT = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}


def default_uri(storage: Path) -> str:
    """Return the tracking URI of a storage folder: SQLite, one for all its sweeps."""
    return f"sqlite:///{storage / 'mlflow.db'}"


class MlflowWriter:
    """Applies events of one sweep; every event may come more than once."""

    def __init__(
        self, uri: str, *, storage: Path, sweep_id: str, experiment: str = EXPERIMENT
    ) -> None:
        """Connect, making the experiment where there is none, and find what is there of the sweep.

        Args:
            uri: tracking URI.
            sweep_id: of the one sweep whose events will come.
            storage: where artifacts go when the URI is the storage's own SQLite.
            experiment: name in MLflow.
        """
        # A server that is down is the outbox's business; MLflow's minutes of retries would only
        # hold the driver up at its end.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        # Making the tables of a new SQLite file logs a line for each of MLflow's migrations.
        for name in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.WARNING)
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        local = uri == default_uri(storage)
        location = (storage / "mlflow_artifacts").as_uri() if local else None
        self._experiment = self._find_experiment(experiment, location)
        self._sweep_id = sweep_id
        self._parent = ""
        self._children: dict[str, str] = {}
        self._steps: dict[str, set[tuple[str, int]]] = {}
        # After a kill the next event may be any: the runs of the events before it exist already.
        for run in self._search(f"tags.`rc.sweep_id` = '{sweep_id}'"):
            if run.data.tags["rc.kind"] == "sweep":
                self._parent = run.info.run_id
            else:
                self._children[run.data.tags["rc.trial_id"]] = run.info.run_id
        self.empty = not self._parent and not self._children

    def apply(self, event: Event) -> None:
        """Apply one event.

        Raises:
            Undeliverable: MLflow refuses the event itself.
            Exception: whatever else MLflow raises, say of a server that is down.
        """
        from mlflow.exceptions import MlflowException

        try:
            self._apply(event)
        except MlflowException as error:
            if error.error_code in _PERMANENT:
                raise Undeliverable(" ".join(str(error).split())[:300]) from error
            raise

    def _apply(self, event: Event) -> None:
        kind = event["kind"]
        if kind == "sweep_started":
            self._sweep_started(event)
        elif kind == "trial_started":
            self._trial_started(event)
        elif kind == "rung":
            run_id = self._child(event["trial_id"])
            self._log_metrics(run_id, event["metrics"], event["step"], event["time"])
        elif kind == "trial_ended":
            self._trial_ended(event)
        elif kind == "sweep_ended":
            self._sweep_ended(event)
        else:
            raise Undeliverable(f"unknown tracking event {kind!r}")

    def _sweep_started(self, event: Event) -> None:
        if self._parent:
            self._client.update_run(self._parent, status="RUNNING")
        else:
            tags = {"rc.sweep_id": self._sweep_id, "rc.kind": "sweep", **event.get("tags", {})}
            self._parent = self._create(event["sweep"], event["time"], tags)
            self._client.log_text(self._parent, event["config"], "sweep.yaml")

    def _trial_started(self, event: Event) -> None:
        trial_id = event["trial_id"]
        if trial_id in self._children:
            run = self._client.get_run(self._children[trial_id])
            if run.data.tags.get("status") != "finished":
                self._client.update_run(run.info.run_id, status="RUNNING")
            if not run.data.params:
                # Killed between making the run and writing its parameters.
                self._log_params(run.info.run_id, event["config"])
            return
        config = event["config"]
        tags = {
            "rc.sweep_id": self._sweep_id,
            "rc.kind": "trial",
            "rc.trial_id": trial_id,
            _PARENT: self._parent,
            "compression": config["compression"]["name"],
            "loss": config["loss"]["name"],
            "reference": str(event["reference"]).lower(),
            "status": "running",
        }
        run_id = self._create(event["name"], event["time"], tags)
        self._children[trial_id] = run_id
        self._steps[run_id] = set()
        self._log_params(run_id, config)

    def _trial_ended(self, event: Event) -> None:
        run_id = self._child(event["trial_id"])
        record = event["record"]
        metrics = dict(record["metrics"])
        metrics |= {f"seconds/{key}": value for key, value in record["seconds"].items()}
        step = int(record["steps"].get("own", 0))
        self._log_metrics(run_id, metrics, step, event["time"])
        self._client.set_tag(run_id, "status", event["status"])
        if record["error"]:
            self._client.set_tag(run_id, "error", str(record["error"])[:1000])
        ended = int(1000 * (record["finished"] or event["time"]))
        self._client.set_terminated(run_id, _STATUSES[event["status"]], end_time=ended)

    def _sweep_ended(self, event: Event) -> None:
        front, ranks = set(event["front"]), event["ranks"]
        for trial_id, run_id in self._children.items():
            self._client.set_tag(run_id, "pareto", str(trial_id in front).lower())
            if trial_id in ranks:
                self._client.set_tag(run_id, "rank", str(ranks[trial_id]))
        metrics = {
            "hypervolume": event["hypervolume"],
            "trials": len(self._children),
            "front/trials": len(front),
            "seconds": event["seconds"],
        }
        self._log_metrics(self._parent, metrics, 0, event["time"])
        for path in event["artifacts"]:
            if Path(path).is_file():
                self._client.log_artifact(self._parent, path)
        status = _STATUSES[event["status"]]
        self._client.set_terminated(self._parent, status, end_time=int(1000 * event["time"]))

    def _child(self, trial_id: str) -> str:
        if trial_id not in self._children:
            raise Undeliverable(f"it is of trial {trial_id}, which was never started")
        return self._children[trial_id]

    def _create(self, name: str, seconds: float, tags: Mapping[str, str]) -> str:
        run = self._client.create_run(
            self._experiment, start_time=int(1000 * seconds), tags=dict(tags), run_name=name
        )
        return str(run.info.run_id)

    def _search(self, condition: str) -> list[Run]:
        found: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment], condition, max_results=1000, page_token=token
            )
            found.extend(page)
            token = page.token
            if not token:
                return found

    def _log_params(self, run_id: str, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [
            Param(_mlflow_name(key), str(value)[:_MAX_VALUE])
            for section in _LOGGED_SECTIONS
            for key, value in _flat(section, config.get(section))
        ]
        for start in range(0, len(params), _MAX_PARAMS):
            self._client.log_batch(run_id, params=params[start : start + _MAX_PARAMS])

    def _log_metrics(
        self, run_id: str, metrics: Mapping[str, float | None], step: int, seconds: float
    ) -> None:
        """Log what is measured (not None) and what this run does not have yet at this step."""
        from mlflow.entities import Metric

        known = self._known_steps(run_id)
        new = [
            Metric(_mlflow_name(key), float(value), int(1000 * seconds), step)
            for key, value in metrics.items()
            if value is not None and (_mlflow_name(key), step) not in known
        ]
        for start in range(0, len(new), _MAX_METRICS):
            self._client.log_batch(run_id, metrics=new[start : start + _MAX_METRICS])
        known.update((metric.key, step) for metric in new)

    def _known_steps(self, run_id: str) -> set[tuple[str, int]]:
        """Return (metric, step) of what a run has; asked of the store once, after a restart."""
        if run_id not in self._steps:
            keys = self._client.get_run(run_id).data.metrics
            self._steps[run_id] = {
                (key, metric.step)
                for key in keys
                for metric in self._client.get_metric_history(run_id, key)
            }
        return self._steps[run_id]

    def _find_experiment(self, name: str, location: str | None) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=location))
            except MlflowException:
                # Another sweep of this storage was quicker; any other failure shows below.
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)


def serve_ui(folder_storage: Path, uri: str | None, sweep: str, *, port: int) -> int:
    """Serve the MLflow UI of a storage on loopback until interrupted; return its exit code.

    Args:
        folder_storage: the storage folder.
        uri: the sweep's own tracking server, which has a UI already; None for the storage's.
        sweep: name, to say what to look for.
        port: on 127.0.0.1.

    Raises:
        StorageError: nothing was tracked in this storage yet.
    """
    if uri is not None and uri.startswith("http"):
        print(f"sweep {sweep} is tracked by a server: open {uri} (experiment '{EXPERIMENT}')")
        return 0
    if uri is None and not (folder_storage / "mlflow.db").is_file():
        raise StorageError(
            f"{folder_storage} must hold mlflow.db, but does not: nothing was tracked"
        )
    from mlflow import MlflowClient

    store = uri or default_uri(folder_storage)
    experiment = MlflowClient(tracking_uri=store).get_experiment_by_name(EXPERIMENT)
    number = experiment.experiment_id if experiment is not None else "0"
    print(f"sweep {sweep}: http://127.0.0.1:{port}/#/experiments/{number}   (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([*command, "--backend-store-uri", store])
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return 0


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(f"{key}.{name}", item)
    elif value is not None:
        yield key, value


def _mlflow_name(key: str) -> str:
    """Return the key with what MLflow does not allow in names replaced.

    It allows ASCII letters, digits and `_-. :/`, and no path that leads outside itself.
    """
    name = "".join(ch if ch.isascii() and (ch.isalnum() or ch in "_-. :/") else "_" for ch in key)
    parts = [part if part.strip(".") else "_" for part in name.split("/")]
    return "/".join(parts)[:_MAX_KEY]
