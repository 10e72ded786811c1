"""A prepared view of a sweep's runs in MLflow's UI, and the command that opens it.

MLflow keeps shared views as tags of the experiment. Each sweep gets one, so that its pictures (ID
against OOD, parallel coordinates) need no clicks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rc_core.errors import StorageError
from sweeps.tracking.mlflow_store import EXPERIMENT, connect, default_uri, mlflow_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

_VIEW_TAG = "mlflow.sharedViewState."
_SECTION = "rc-sweep"
# More parameters than this make parallel coordinates unreadable.
_MAX_COORDINATES = 6


def view_state(
    sweep_id: str,
    sweep: str,
    objectives: Sequence[str],
    keys: Sequence[str],
    common: Sequence[str],
    size: str,
) -> dict[str, Any]:
    """Return a view in the form in which MLflow 3 stores shared views.

    Args:
        sweep_id: tag of the runs.
        sweep: name, for titles.
        objectives: metrics; the first two are the axes of the scatter plot.
        keys: parameters in which trials differ.
        common: those keys that every trial has; MLflow draws no line for a run without one.
        size: metric of a model's size, against which the last objective is drawn.
    """
    names = [mlflow_name(key) for key in objectives]
    shown = [mlflow_name(key) for key in keys]

    def card(kind: str, title: str, name: str, **rest: Any) -> dict[str, Any]:
        return {
            "uuid": f"{sweep_id}-{name}",
            "type": kind,
            "runsCountToCompare": 500,
            "metricSectionId": _SECTION,
            "deleted": False,
            "isGenerated": False,
            "displayName": title,
            **rest,
        }

    # Metrics that every finished trial has, whatever its compression.
    sizes = [name for name in ("footprint/encoder_sparsity", size) if name not in names]
    y = {"key": names[-1], "type": "METRIC"}
    charts = [
        card(
            "SCATTER",
            f"{sweep}: {names[-1]} against {size.rpartition('/')[2].replace('_', ' ')}",
            "size",
            xaxis={"key": size, "type": "METRIC"},
            yaxis=y,
        ),
        card(
            "PARALLEL",
            f"{sweep}: what was searched, and what came of it",
            "parallel",
            selectedParams=[mlflow_name(key) for key in common][:_MAX_COORDINATES],
            selectedMetrics=[*sizes, *names],
            showAllRuns=False,
        ),
    ]
    if len(names) > 1:
        title = f"{sweep}: {names[1]} against {names[0]}"
        x = {"key": names[0], "type": "METRIC"}
        second = {"key": names[1], "type": "METRIC"}
        charts.insert(0, card("SCATTER", title, "front", xaxis=x, yaxis=second))
    columns = [f"tags.`{name}`" for name in ("status", "pareto", "rank")]
    columns += [f"metrics.`{name}`" for name in names]
    columns += [f"params.`{name}`" for name in shown]
    return {
        # The run of a sealed test lacks the view's metrics: it would be an empty row here, and
        # MLflow lists such rows beside every chart.
        "searchFilter": f"tags.`rc.sweep_id` = '{sweep_id}' and tags.`rc.kind` != 'test'",
        "orderByKey": f"metrics.`{names[0]}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": charts,
        "compareRunSections": [
            {
                "uuid": _SECTION,
                "name": sweep,
                "display": True,
                # One column: parallel coordinates need the width.
                "columns": 1,
                "cardHeight": 420,
                "isReordered": False,
                "deleted": False,
                "isGenerated": False,
            }
        ],
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
        "autoRefreshEnabled": True,
    }


def store_view(
    client: MlflowClient, experiment: str, sweep_id: str, state: Mapping[str, Any]
) -> None:
    """Store a sweep's view in the experiment."""
    client.set_experiment_tag(experiment, f"{_VIEW_TAG}{sweep_id}", json.dumps(state))


def address(root: str, experiment: str, sweep_id: str | None, *, charts: bool = False) -> str:
    """Return the address of a sweep's runs in the UI."""
    url = f"{root.rstrip('/')}/#/experiments/{experiment}/runs?workflowType=machine_learning"
    if sweep_id is None:
        return url
    mode = "&compareRunsMode=CHART" if charts else ""
    return f"{url}&viewStateShareKey={quote(sweep_id)}{mode}"


def serve_ui(storage: Path, uri: str | None, sweep: str, *, sweep_id: str | None, port: int) -> int:
    """Serve the MLflow UI of a storage on loopback until interrupted; return its exit code.

    Args:
        storage: the storage folder.
        uri: the sweep's own tracking store; a server's addresses are only printed, as it has a UI.
            None: the storage's own.
        sweep: name, to print.
        sweep_id: its id for tracking; None if nothing was tracked.
        port: on 127.0.0.1.

    Raises:
        StorageError: nothing was tracked in this storage yet, or the store does not answer.
    """
    if uri is None and not (storage / "mlflow.db").is_file():
        raise StorageError(f"{storage} must hold mlflow.db, but does not: nothing was tracked")
    store = uri or default_uri(storage)
    remote = store.startswith("http")
    root = store if remote else f"http://127.0.0.1:{port}"
    try:
        found = connect(store).get_experiment_by_name(EXPERIMENT)
    # Whatever MLflow or its HTTP client raises, the store does not answer.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise StorageError(f"the tracking store {store} must answer, but: {reason}") from error
    number = found.experiment_id if found is not None else "0"
    table = address(root, number, sweep_id)
    print(f"sweep {sweep}, runs:    {table}")
    print(f"sweep {sweep}, charts:  {address(root, number, sweep_id, charts=True)}", flush=True)
    if remote:
        return 0
    print("(Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    # One worker is enough for one person, and starts four times as fast as MLflow's four.
    command += ["--workers", "1", "--backend-store-uri", store]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}
    process = subprocess.Popen(command, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return 0
