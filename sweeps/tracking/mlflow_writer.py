"""Applies the outbox's events to an MLflow store or server.

One run per sweep, one child per trial; a confirmation's run lies below its sweep's, and its trials
below the trials that they repeat; opening the test makes a run below each tested trial. Runs are
found by tags of ours (`rc.sweep_id`, `rc.trial_id`) when a writer is made, and one is made after
each error (sweeps/tracking/outbox.py), so that repeats, late answers, a killed driver and a resume
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
# What MLflow answers to a request that is wrong in itself, say on a run that a user has deleted.
_PERMANENT = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}


class MlflowWriter:
    """Applies events of one sweep; every event may come more than once."""

    def __init__(self, uri: str, *, storage: Path, sweep_id: str) -> None:
        """Connect, making the experiment where there is none, and find what is there of the sweep.

        Args:
            uri: tracking URI.
            sweep_id: of the one sweep whose events will come.
            storage: where artifacts go when the URI is the storage's own SQLite.
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
        # After a kill the next event may be any: the runs of the events before it exist already.
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
            Exception: whatever else MLflow raises, say of a server that is down.
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
        # What tells more of the run is written again where there is one: a driver that was killed,
        # or an answer that came too late, may have left it out.
        given = {mlflow_name(key): value for key, value in event.get("params", {}).items()}
        if self._parent:
            # A parameter that is there stays: MLflow refuses another value for it.
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
                # Killed between making the run and writing its parameters.
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
        """Write what tells this trial from others, and its whole configuration as a file."""
        config = event["config"]
        params = event.get("params") or {
            f"{part}.name": config[part]["name"] for part in ("compression", "loss")
        }
        self._store(self._client.log_dict, run_id, config, "config.yaml")
        # The parameters last: a run that has them was described.
        log_batch(self._client, run_id, params=params, tags=event.get("changed", {}))

    def _rung(self, event: Event) -> None:
        self._log_metrics(
            self._child(event["trial_id"]), event["metrics"], event["step"], event["time"]
        )

    def _trial_ended(self, event: Event) -> None:
        run_id = self._child(event["trial_id"])
        record = event["record"]
        for rung in record["rungs"]:
            # Of a driver that was killed, or that told nothing; what is there is left out.
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
            # It failed once, and a resume has run it again.
            self._untag(run_id, "error")
        tags = {"status": event["status"], **error}
        self._log_metrics(run_id, metrics, step, ended, tags=tags)
        # The reference is made before its run is: its run would end before it began.
        end = event["time"] if record["reference"] else ended
        self._client.set_terminated(run_id, _STATUSES[event["status"]], end_time=int(1000 * end))

    def _ranked(self, event: Event) -> None:
        """Tag where trials lie. One whose start was never told has a record, but no run."""
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
                # A run that a user has deleted: the others get theirs all the same.
                if error.error_code not in _PERMANENT:
                    raise
                refused.append(trial_id)
        if refused:
            raise Undeliverable(f"it takes no tags for the runs of {', '.join(refused)}")

    def _sweep_ended(self, event: Event) -> None:
        self._models.update(event.get("models", []), self._children)
        metrics = {
            "hypervolume": event["hypervolume"],
            "trials": len(self._children),
            "front/trials": len(event["front"]),
            "seconds": event["seconds"],
        }
        # A resumed sweep ends again: the later figures are the ones MLflow shows.
        self._log_metrics(self._parent, metrics, event.get("attempt", 0), event["time"])
        for path in event["artifacts"]:
            if Path(path).is_file():
                self._store(self._client.log_artifact, self._parent, path)
        summary = {NOTE: event["summary"]} if event.get("summary") else {}
        self._tag(self._parent, {"status": event["status"], **summary})
        status = _STATUSES[event["status"]]
        self._client.set_terminated(self._parent, status, end_time=int(1000 * event["time"]))

    def _confirmed(self, event: Event) -> None:
        """Tell of the front by means over new seeds."""
        self._models.update(event["models"], self._children)
        self._tag(self._parent, {NOTE: event["summary"]})

    def _tested(self, event: Event) -> None:
        """Make a run below each tested trial: the only ones whose inputs are test roles."""
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
        """Store a file with a run, if the artifact store takes it: the sweep's folder has it too.

        Runs and metrics must not wait for a bucket whose client is not installed here.
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
            raise Undeliverable(f"it is of trial {trial_id}, which was never started")
        return self._children[trial_id]

    def _create(self, event: Event, name: str, tags: Mapping[str, str], above: str) -> str:
        """Make a run below another one: below that of another sweep where the event says so."""
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
        """Return another sweep's runs: trial id, or None for the sweep itself, -> run id."""
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
        """Set what is not set yet, in one request."""
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
        """Log what is measured (not None) and what this run does not have yet at this step.

        Tags go with it: every request is a commit, and SQLite's are what tracking costs most.
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
        """Return (metric, step) of what a run has; asked of the store once, after a restart."""
        if run_id not in self._steps:
            keys = self._client.get_run(run_id).data.metrics
            self._steps[run_id] = {
                (key, metric.step)
                for key in keys
                for metric in self._client.get_metric_history(run_id, key)
            }
        return self._steps[run_id]
