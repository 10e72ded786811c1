"""Helpers for MLflow: names and sizes that it accepts, paged search, batched logging."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Metric, Run

_logger = logging.getLogger(__name__)
EXPERIMENT = "rc-sweep"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
_MAX_VALUE, _MAX_KEY, _MAX_TAG = 500, 250, 5000
# Characters that MLflow refuses in names.
_REFUSED = re.compile(r"[^\w\-. :]")
# MLflow's own limits on one log_batch call.
_MAX_PARAMS, _MAX_METRICS, _MAX_TAGS = 100, 900, 100


def default_uri(storage: Path) -> str:
    """Return the tracking URI of a storage folder: one SQLite file for all its sweeps."""
    return f"sqlite:///{storage / 'mlflow.db'}"


def connect(uri: str) -> MlflowClient:
    """Return a client that gives up soon on a server that is down."""
    # The outbox retries; MLflow's own minutes of retries would only hold the driver up at its end.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    # Creating a new SQLite file logs a line for each of MLflow's migrations.
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def find_experiment(client: MlflowClient, name: str, location: str | None) -> str:
    """Return an experiment's id; a missing one is created, a deleted one restored.

    MLflow keeps a deleted experiment and its name until `mlflow gc`, and accepts no runs for it.
    """
    from mlflow.entities import LifecycleStage
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        # Without this the UI takes the experiment for one of prompts and traces.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=tags))
        except MlflowException:
            # Another sweep of this storage may have created it meanwhile.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == LifecycleStage.DELETED:
        client.restore_experiment(found.experiment_id)
        _logger.warning("MLflow's experiment '%s' was deleted; it was restored with its runs", name)
    return str(found.experiment_id)


def search_runs(client: MlflowClient, experiment: str, condition: str) -> list[Run]:
    """Return all runs of an experiment that meet a condition."""
    found: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment], condition, max_results=1000, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def search_models(client: MlflowClient, experiment: str, condition: str) -> list[LoggedModel]:
    """Return all logged models of an experiment that meet a condition."""
    found: list[LoggedModel] = []
    token: str | None = None
    while True:
        page = client.search_logged_models([experiment], condition, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def delete_runs(uri: str, sweep_id: str) -> int:
    """Mark a sweep's runs and models as deleted (MLflow can restore them); return how many runs."""
    client = connect(uri)
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        return 0
    condition = f"tags.`rc.sweep_id` = '{sweep_id}'"
    for model in search_models(client, found.experiment_id, condition):
        client.delete_logged_model(model.model_id)
    runs = search_runs(client, found.experiment_id, condition)
    for run in runs:
        client.delete_run(run.info.run_id)
    return len(runs)


def log_batch(
    client: MlflowClient,
    run_id: str,
    *,
    metrics: Iterable[Metric] = (),
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> None:
    """Log any number of metrics, parameters and tags, in as few requests as MLflow allows."""
    from mlflow.entities import Param, RunTag

    listed = list(metrics)
    named = [Param(mlflow_name(k), str(v)[:_MAX_VALUE]) for k, v in (params or {}).items()]
    tagged = [RunTag(mlflow_name(k), str(v)[:_MAX_TAG]) for k, v in (tags or {}).items()]
    while listed or named or tagged:
        client.log_batch(
            run_id,
            metrics=listed[:_MAX_METRICS],
            params=named[:_MAX_PARAMS],
            tags=tagged[:_MAX_TAGS],
        )
        listed, named = listed[_MAX_METRICS:], named[_MAX_PARAMS:]
        tagged = tagged[_MAX_TAGS:]


def log_datasets(client: MlflowClient, run_id: str, datasets: Iterable[Mapping[str, Any]]) -> None:
    """Log the splits that a run read: name, digest, size, and the role as MLflow's context.

    Args:
        datasets: mappings with `name`, `role`, `digest`, `samples`, `source` (text, JSON).
    """
    import json

    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Dataset(
                name=each["name"],
                digest=each["digest"],
                source_type="rc-sweep task",
                source=each["source"][:60_000],
                profile=json.dumps({"num_rows": each["samples"]}),
            ),
            [InputTag("mlflow.data.context", each["role"])],
        )
        for each in datasets
    ]
    if inputs:
        client.log_inputs(run_id, inputs)


def mlflow_name(key: str) -> str:
    """Return the key with characters that MLflow does not allow in names replaced.

    It allows up to 250 letters and digits of any script and `_-. :/`, and no path such as `..`.
    A changed name gets a suffix from a hash of the original: two slices or labels that differ in
    one such character must stay distinct.
    """
    name = "/".join(map(_allowed, key.split("/")))
    if len(name) > _MAX_KEY:
        mark = _mark(key)
        name = name[: _MAX_KEY - len(mark)] + mark
    return name


def _allowed(part: str) -> str:
    """Return a part of a key (between slashes) as MLflow accepts it."""
    found = _REFUSED.sub("_", part)
    found = found if found.strip(".") else "_"
    return found if found == part else found + _mark(part)


def _mark(text: str) -> str:
    return f"-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
