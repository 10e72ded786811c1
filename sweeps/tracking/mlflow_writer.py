"""Applies the outbox's events to an MLflow store or server.

A sweep has one run, with a child per trial. A confirmation's run is a child of its sweep's, and its
trials are children of the trials they repeat; opening the test adds a child to each tested trial. A
new writer finds existing runs by our tags (`rc.sweep_id`, `rc.trial_id`). As each error leads to a
new writer (sweeps/tracking/outbox.py), repeated events, late answers, a killed driver and a resume
leave exactly one run per trial.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.tracking.mlflow_models import FrontModels
from sweeps.tracking.mlflow_store import (
    EXPERIMENT,
    NOTE,
    PARENT,
    connect,
    default_uri,
    find_experiment,
    log_batch,
    log_datasets,
    mlflow_name,
    search_runs,
)
from sweeps.tracking.mlflow_view import store_view
from sweeps.tracking.outbox import Event, Undeliverable

if TYPE_CHECKING:
    from mlflow.entities import Run

_logger = logging.getLogger(__name__)
_STATUSES = {
    "finished": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "running": "RUNNING",
}
# MLflow's errors for a request that can never succeed, say for a run that a user has deleted.
_PERMANENT = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}


class MlflowWriter:
    """Applies events of one sweep; each may come more than once."""

    def __init__(self, uri: str, *, storage: Path, sweep_id: str) -> None:
        """Connect, create the experiment if there is none, and find the sweep's runs.

        Args:
            uri: tracking URI.
            storage: folder for artifacts if the URI is the storage's own SQLite file.
            sweep_id: of the sweep whose events will come.
        """
        self._client = connect(uri)
        local = uri == default_uri(storage)
        location = (storage / "mlflow_artifacts").as_uri() if local else None
        self._experiment = find_experiment(self._client, EXPERIMENT, location)
        self._sweep_id = sweep_id
        self._models = FrontModels(self._client, self._experiment, sweep_id)
        self._parent = ""
        self._children: dict[str, str] = {}
        self._tests: dict[str, str] = {}
        self._tags: dict[str, dict[str, str]] = {}
        self._steps: dict[str, set[tuple[str, int]]] = {}
        self._inputs: set[tuple[str, str]] = set()
        self._relatives: dict[str, dict[str | None, str]] = {}
        self._warned = False
        # After a kill the next event may be any one: the runs of earlier events exist already.
        for run in self._runs_of(sweep_id):
            self._tags[run.info.run_id] = dict(run.data.tags)
            if run.data.tags["rc.kind"] == "sweep":
                self._parent = run.info.run_id
            elif run.data.tags["rc.kind"] == "test":
                self._tests[run.data.tags["rc.test_of"]] = run.info.run_id
            else:
                self._children[run.data.tags["rc.trial_id"]] = run.info.run_id
        self.empty = not self._parent and not self._children

    def apply(self, event: Event) -> None:
        """Apply one event.

        Raises:
            Undeliverable: MLflow refuses the event itself.
            Exception: whatever else MLflow raises, say if a server is down.
        """
        from mlflow.exceptions import MlflowException

        appliers = {
            "sweep_started": self._sweep_started,
            "trial_started": self._trial_started,
            "rung": self._rung,
            "trial_ended": self._trial_ended,
            "ranked": self._ranked,
            "sweep_ended": self._sweep_ended,
            "confirmed": self._confirmed,
            "tested": self._tested,
        }
        if event["kind"] not in appliers:
            raise Undeliverable(f"unknown tracking event {event['kind']!r}")
        try:
            appliers[event["kind"]](event)
        except MlflowException as error:
            if error.error_code in _PERMANENT:
                raise Undeliverable(" ".join(str(error).split())[:300]) from error
            raise

    def _sweep_started(self, event: Event) -> None:
        # If the run exists, its details are written again: after a kill or an answer that came too
        # late they may be missing.
        given = {mlflow_name(key): value for key, value in event.get("params", {}).items()}
        if self._parent:
            # An existing parameter stays: MLflow refuses another value.
            there = self._client.get_run(self._parent).data.params
            given = {key: value for key, value in given.items() if key not in there}
            self._client.update_run(self._parent, status="RUNNING")
            self._tag(self._parent, {"status": "running", **event.get("tags", {})})
        else:
            tags = {"rc.kind": "sweep", "status": "running", **event.get("tags", {})}
            self._parent = self._create(event, event["sweep"], tags, "")
        log_batch(self._client, self._parent, params=given)
        self._store(self._client.log_text, self._parent, event["config"], "sweep.yaml")
        if "view" in event:
            store_view(self._client, self._experiment, self._sweep_id, event["view"])

    def _trial_started(self, event: Event) -> None:
        trial_id, config = event["trial_id"], event["config"]
        if trial_id in self._children:
            run = self._client.get_run(self._children[trial_id])
            if run.data.tags.get("status") != "finished":
                self._client.update_run(run.info.run_id, status="RUNNING")
            if not run.data.params:
                # A kill came between creating the run and writing its parameters.
                self._describe(run.info.run_id, event)
            return
        tags = {
            "rc.kind": "trial",
            "rc.trial_id": trial_id,
            "compression": config["compression"]["name"],
            "loss": config["loss"]["name"],
            "reference": str(event["reference"]).lower(),
            "status": "running",
        }
        run_id = self._create(event, event["name"], tags, self._parent)
        self._children[trial_id] = run_id
        self._steps[run_id] = set()
        self._describe(run_id, event)

    def _describe(self, run_id: str, event: Event) -> None:
        """Write the trial's distinguishing parameters, and its whole configuration as a file."""
        config = event["config"]
        params = event.get("params") or {
            f"{part}.name": config[part]["name"] for part in ("compression", "loss")
        }
        self._store(self._client.log_dict, run_id, config, "config.yaml")
        # Parameters come last: a run that has them is complete.
        log_batch(self._client, run_id, params=params, tags=event.get("changed", {}))

    def _rung(self, event: Event) -> None:
        self._log_metrics(
            self._child(event["trial_id"]), event["metrics"], event["step"], event["time"]
        )

    def _trial_ended(self, event: Event) -> None:
        run_id = self._child(event["trial_id"])
        record = event["record"]
        for rung in record["rungs"]:
            # A driver that was killed may not have sent all; existing values are skipped.
            self._log_metrics(run_id, rung["metrics"], rung["step"], event["time"])
        metrics = dict(record["metrics"])
        metrics |= {f"seconds/{key}": value for key, value in record["seconds"].items()}
        step, ended = int(record["steps"].get("own", 0)), record["finished"] or event["time"]
        data = event.get("datasets", [])
        log_datasets(self._client, run_id, data)
        new = [each for each in data if (each["name"], each["digest"]) not in self._inputs]
        if new and self._parent:
            log_datasets(self._client, self._parent, new)
            self._inputs.update((each["name"], each["digest"]) for each in new)
        error = {"error": str(record["error"])[:1000]} if record["error"] else {}
        if not error:
            # It may have failed before, and a resume ran it again.
            self._untag(run_id, "error")
        tags = {"status": event["status"], **error}
        self._log_metrics(run_id, metrics, step, ended, tags=tags)
        # The reference is trained before its run is created, which would end before it began.
        end = event["time"] if record["reference"] else ended
        self._client.set_terminated(run_id, _STATUSES[event["status"]], end_time=int(1000 * end))

    def _ranked(self, event: Event) -> None:
        """Tag runs with their ranks. A trial whose start was never reported has no run."""
        from mlflow.exceptions import MlflowException

        refused: list[str] = []
        for trial_id in event["trials"]:
            if (run_id := self._children.get(trial_id)) is None:
                continue
            tags = {"pareto": str(trial_id in event["front"]).lower()}
            try:
                if trial_id in event["ranks"]:
                    tags["rank"] = str(event["ranks"][trial_id])
                else:
                    self._untag(run_id, "rank")
                self._tag(run_id, tags)
            except MlflowException as error:
                # Say, a run that a user has deleted: the others still get their tags.
                if error.error_code not in _PERMANENT:
                    raise
                refused.append(trial_id)
        if refused:
            raise Undeliverable(f"MLflow takes no tags for the runs of {', '.join(refused)}")

    def _sweep_ended(self, event: Event) -> None:
        self._models.update(event.get("models", []), self._children)
        metrics = {
            "hypervolume": event["hypervolume"],
            "trials": len(self._children),
            "front/trials": len(event["front"]),
            "seconds": event["seconds"],
        }
        # The attempt is the step: a resumed sweep ends again, and MLflow shows its latest figures.
        self._log_metrics(self._parent, metrics, event.get("attempt", 0), event["time"])
        for path in event["artifacts"]:
            if Path(path).is_file():
                self._store(self._client.log_artifact, self._parent, path)
        summary = {NOTE: event["summary"]} if event.get("summary") else {}
        self._tag(self._parent, {"status": event["status"], **summary})
        status = _STATUSES[event["status"]]
        self._client.set_terminated(self._parent, status, end_time=int(1000 * event["time"]))

    def _confirmed(self, event: Event) -> None:
        """Update models and description after a confirmation was made or removed."""
        self._models.update(event["models"], self._children)
        self._tag(self._parent, {NOTE: event["summary"]})

    def _tested(self, event: Event) -> None:
        """Create a run below each tested trial: only these runs have test roles as inputs."""
        for trial_id, trial in event["trials"].items():
            tags = {"rc.kind": "test", "rc.test_of": trial_id, "status": "finished"}
            above = self._child(trial_id)
            if trial_id not in self._tests:
                name = f"test of {trial_id} {trial['name']}"
                self._tests[trial_id] = self._create(event, name, tags, above)
            run_id, opened = self._tests[trial_id], trial["opened"]
            log_datasets(self._client, run_id, event["datasets"])
            self._log_metrics(run_id, trial["metrics"], 0, opened)
            self._models.log_metrics(trial_id, run_id, trial["measured"], opened)
            self._client.set_terminated(run_id, "FINISHED", end_time=int(1000 * event["time"]))
        self._tag(self._parent, {"test": event["stamp"]})

    def _store(self, log: Callable[..., Any], run_id: str, *arguments: Any) -> None:
        """Store a file with a run if the artifact store accepts it; the sweep's folder has it too.

        Runs and metrics must not depend on a bucket whose client is not installed here.
        """
        try:
            log(run_id, *arguments)
        except Exception as error:
            if not self._warned:
                what = " ".join(str(error).split())[:300]
                _logger.warning("MLflow's artifact store takes no files: %s", what)
                self._warned = True

    def _child(self, trial_id: str) -> str:
        if trial_id not in self._children:
            raise Undeliverable(f"it is for trial {trial_id}, which was never started")
        return self._children[trial_id]

    def _create(self, event: Event, name: str, tags: Mapping[str, str], above: str) -> str:
        """Create a run below another one: below another sweep's if the event says so."""
        other = event.get("parent")
        if other:
            runs = self._relative(other["sweep_id"])
            above = runs.get(other["trial_id"]) or above or runs.get(None, "")
        whole = {"rc.sweep_id": self._sweep_id, "mlflow.source.name": "rc-sweep", **tags}
        if above:
            whole[PARENT] = above
        run = self._client.create_run(
            self._experiment, start_time=int(1000 * event["time"]), tags=whole, run_name=name
        )
        run_id = str(run.info.run_id)
        self._tags[run_id] = whole
        return run_id

    def _relative(self, sweep_id: str) -> dict[str | None, str]:
        """Return another sweep's runs: trial id (None for the sweep itself) -> run id."""
        if sweep_id not in self._relatives:
            self._relatives[sweep_id] = {
                run.data.tags.get("rc.trial_id"): run.info.run_id
                for run in self._runs_of(sweep_id)
                if run.data.tags["rc.kind"] in ("sweep", "trial")
            }
        return self._relatives[sweep_id]

    def _runs_of(self, sweep_id: str) -> list[Run]:
        return search_runs(self._client, self._experiment, f"tags.`rc.sweep_id` = '{sweep_id}'")

    def _tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set the tags that are not set yet, in one request."""
        log_batch(self._client, run_id, tags=self._unset(run_id, tags))
        self._tags[run_id].update(tags)

    def _unset(self, run_id: str, tags: Mapping[str, str]) -> dict[str, str]:
        known = self._tags.setdefault(run_id, {})
        return {key: value for key, value in tags.items() if known.get(key) != value}

    def _untag(self, run_id: str, name: str) -> None:
        if name in self._tags.get(run_id, {}):
            self._client.delete_tag(run_id, name)
            del self._tags[run_id][name]

    def _log_metrics(
        self,
        run_id: str,
        metrics: Mapping[str, float | None],
        step: int,
        seconds: float,
        *,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log the metrics that are not None and that this run does not have yet at this step.

        Tags go in the same request: requests are commits, the main cost of tracking with SQLite.
        """
        from mlflow.entities import Metric

        known = self._known_steps(run_id)
        new = [
            Metric(mlflow_name(key), float(value), int(1000 * seconds), step)
            for key, value in metrics.items()
            if value is not None and (mlflow_name(key), step) not in known
        ]
        tags = self._unset(run_id, tags or {})
        log_batch(self._client, run_id, metrics=new, tags=tags)
        known.update((metric.key, step) for metric in new)
        self._tags[run_id].update(tags)

    def _known_steps(self, run_id: str) -> set[tuple[str, int]]:
        """Return the (metric, step) pairs that a run has; the store is asked once per writer."""
        if run_id not in self._steps:
            keys = self._client.get_run(run_id).data.metrics
            self._steps[run_id] = {
                (key, metric.step)
                for key in keys
                for metric in self._client.get_metric_history(run_id, key)
            }
        return self._steps[run_id]
