"""The front as logged models of MLflow, with metrics linked to the data they were measured on.

The weights stay in the sweep's folder; a logged model says where, and how to export them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sweeps.tracking.mlflow_store import log_batch, mlflow_name, search_models

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

_NOT_IN_NAMES = "/:.%\"'"


class FrontModels:
    """The logged models of one sweep; existing ones are found by our tags."""

    def __init__(self, client: MlflowClient, experiment: str, sweep_id: str) -> None:
        self._client = client
        self._experiment = experiment
        self._sweep_id = sweep_id
        self._known: dict[str, str] | None = None
        # Created, but perhaps not completed; completing them is safe to repeat.
        self._begun: dict[str, LoggedModel] = {}

    @property
    def known(self) -> dict[str, str]:
        """Trial id -> model id."""
        from mlflow.entities import LoggedModelStatus

        if self._known is None:
            condition = f"tags.`rc.sweep_id` = '{self._sweep_id}'"
            found = search_models(self._client, self._experiment, condition)
            self._known = {model.tags["rc.trial_id"]: model.model_id for model in found}
            begun = [model for model in found if model.status != LoggedModelStatus.READY]
            self._begun = {model.tags["rc.trial_id"]: model for model in begun}
        return self._known

    def update(self, models: Sequence[Mapping[str, Any]], runs: Mapping[str, str]) -> None:
        """Create missing models, and tag each model with whether it is on the front now.

        Args:
            models: as `sweeps.tracking.tracked.front_models` makes them.
            runs: trial id -> run id.
        """
        now = {model["trial_id"]: model for model in models if model["trial_id"] in runs}
        for trial_id, model_id in self.known.items():
            pareto = str(bool(now.get(trial_id, {}).get("pareto"))).lower()
            self._client.set_logged_model_tags(model_id, {"pareto": pareto})
        for trial_id, model in now.items():
            if trial_id not in self.known:
                made = self._make(model, runs[trial_id])
                self.known[trial_id], self._begun[trial_id] = made.model_id, made
            if trial_id in self._begun:
                self._complete(self._begun[trial_id], model, runs[trial_id])
                del self._begun[trial_id]

    def log_metrics(
        self, trial_id: str, run_id: str, measured: Sequence[Mapping[str, Any]], seconds: float
    ) -> None:
        """Link metrics of a run to their data and to the trial's model; without a model do nothing.

        Args:
            trial_id: of the model.
            run_id: run that has the metrics.
            measured: mappings with `key`, `value`, `step`, and `dataset` and `digest` or None.
            seconds: since the epoch; with the run's own time nothing is logged twice.
        """
        from mlflow.entities import Metric

        model_id = self.known.get(trial_id)
        metrics = [
            Metric(
                mlflow_name(each["key"]),
                float(each["value"]),
                int(1000 * seconds),
                int(each["step"]),
                model_id=model_id,
                dataset_name=each["dataset"],
                dataset_digest=each["digest"],
            )
            for each in measured
        ]
        if model_id is not None:
            log_batch(self._client, run_id, metrics=metrics)

    def _make(self, model: Mapping[str, Any], run_id: str) -> LoggedModel:
        name = "".join("_" if ch in _NOT_IN_NAMES else ch for ch in model["name"])
        tags = {
            # As mlflow.create_external_model does, which needs one global tracking server.
            "mlflow.model.isExternal": "true",
            "rc.sweep_id": self._sweep_id,
            "rc.trial_id": model["trial_id"],
            "pareto": str(model["pareto"]).lower(),
            **model["tags"],
        }
        return self._client.create_logged_model(
            self._experiment,
            name=name,
            source_run_id=run_id,
            tags=tags,
            params={mlflow_name(key): str(value) for key, value in model["params"].items()},
            model_type="encoder-classifier",
        )

    def _complete(self, made: LoggedModel, model: Mapping[str, Any], run_id: str) -> None:
        """Give a model its file, its run and its metrics, then mark it as ready.

        Any of these may exist already.
        """
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus
        from mlflow.models.utils import get_external_mlflow_model_spec

        with TemporaryDirectory() as folder:
            # With this file the model can be registered.
            get_external_mlflow_model_spec(made).save(f"{folder}/MLmodel")
            self._client.log_model_artifacts(made.model_id, folder)
        step = max((int(each["step"]) for each in model["metrics"]), default=0)
        self._client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step)])
        self.log_metrics(model["trial_id"], run_id, model["metrics"], model["time"])
        self._client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
