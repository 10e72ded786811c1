"""Checks of services: torch and Ray (in processes of their own), the model hub, MLflow."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from rc_core.errors import ModelError
from rc_core.labels import count_of
from rc_core.model_facts import model_kind
from sweeps.config import SweepConfig

Finding = tuple[Literal["ok", "note", "problem"], str, str]
_SECONDS, _RAY_SECONDS = 3.0, 60.0
_TRUE = {"1", "on", "true", "yes"}
_TORCH = """
import json, torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({
    "gpus": gpus,
    "threads": torch.get_num_threads(),
    "capability": torch.backends.cpu.get_cpu_capability(),
}))
"""
_RAY = """
import os
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False,
         _node_ip_address="127.0.0.1", logging_level="error")
print(ray.get(ray.remote(lambda: 40 + 2).remote(), timeout=50))
ray.shutdown()
"""


def check_torch() -> dict[str, Any]:
    """Return torch's GPUs, threads and CPU capability, or `error` if it does not load."""
    done = _python(_TORCH, _RAY_SECONDS)
    if done.returncode != 0:
        return {"error": _last_line(done.stderr)}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def check_ray(address: str) -> Finding:
    """Start Ray and run one task; for a cluster, check only whether its port answers."""
    if address not in ("local", "auto"):
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            return "problem", f"'{address}' is not HOST:PORT", "--address local, auto or HOST:PORT"
        try:
            socket.create_connection((host, int(port)), timeout=_SECONDS).close()
        except OSError as error:
            advice = f"on the head: ray start --head --port={port}; then check the firewall"
            return "problem", f"{address} does not answer: {error}", advice
        return "ok", f"{address} answers", ""
    start = time.monotonic()
    try:
        done = _python(_RAY, _RAY_SECONDS)
    except subprocess.TimeoutExpired:
        advice = "see the logs in the temporary folder's ray/session_latest/logs"
        return "problem", f"did not start within {_RAY_SECONDS:.0f} s", advice
    if done.returncode != 0 or done.stdout.split()[-1:] != ["42"]:
        advice = "free memory and ports; see ray/session_latest/logs in the temporary folder"
        return "problem", _last_line(done.stderr) or "started, but ran nothing", advice
    return "ok", f"starts and runs a task ({time.monotonic() - start:.0f} s)", ""


def check_hub(sweep: SweepConfig | None) -> Finding:
    """Check whether the model hub answers, and whether this sweep needs it."""
    model = str(sweep.base["model"]) if sweep is not None else ""
    needed = _needs_hub(model)
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE:
        if needed and not _cached(model):
            advice = (
                f"unset HF_HUB_OFFLINE once, or copy the model here: model: {model} is a hub id"
            )
            return "problem", f"offline, as HF_HUB_OFFLINE says, and {model} is not cached", advice
        return "ok", "offline, as HF_HUB_OFFLINE says", ""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    reason = _unreachable(f"{endpoint}/api/models?limit=1")
    if reason is None:
        return "ok", f"{endpoint} answers", ""
    if needed and not _cached(model):
        advice = "check network and proxy, or set HF_ENDPOINT, or name a local folder as model"
        return "problem", f"{endpoint}: {reason}, and {model} is not cached", advice
    advice = "only hub ids need it; HF_HUB_OFFLINE=1 avoids waiting for it"
    return "note", f"{endpoint}: {reason}", advice


def check_mlflow(uri: str | None, storage: Path) -> Finding:
    """Check whether the tracking store or server accepts runs."""
    if uri is not None and uri.startswith("http"):
        reason = _unreachable(f"{uri.rstrip('/')}/health")
        if reason is None:
            return "ok", f"{uri} answers", ""
        advice = "start it, or leave tracking.uri out: a sweep keeps its events until it answers"
        return "problem", f"{uri}: {reason}", advice
    if uri is not None and not uri.startswith("sqlite:///"):
        return _unchecked(uri)
    path = Path(uri.removeprefix("sqlite:///")) if uri else storage / "mlflow.db"
    if not path.is_file():
        return "ok", f"{path} will be made", ""
    try:
        # Path.as_uri escapes '#', '?' and '%', which would otherwise have a meaning in the URI.
        place = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(place, uri=True, timeout=_SECONDS)) as store:
            (version,) = store.execute("SELECT version_num FROM alembic_version").fetchone()
            (runs,) = store.execute("SELECT count(*) FROM runs").fetchone()
    except (sqlite3.Error, TypeError) as error:
        advice = "move it aside: the next resume sends everything again from outbox.jsonl"
        return "problem", f"{path} is not an MLflow store: {error}", advice
    newest = _schema()
    if newest is not None and version != newest:
        advice = f"mlflow db upgrade sqlite:///{path} (copy it first), or install its MLflow"
        return "problem", f"{path} was made by another MLflow (schema {version})", advice
    return "ok", f"{path}: {count_of(runs, 'run')}", ""


def _unchecked(uri: str) -> Finding:
    """Check a tracking URI that is neither an HTTP server nor SQLite."""
    folder = uri.startswith("file:") or (":" not in uri and uri != "databricks")
    if folder and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
        advice = (
            "name a server with its scheme (http://HOST:PORT), or leave tracking.uri out: SQLite "
            "in the storage; for a folder set MLFLOW_ALLOW_FILE_STORE=true"
        )
        return "problem", f"{uri} is a folder, which MLflow refuses by default", advice
    return "note", f"{uri} is not checked", ""


def _python(code: str, timeout: float) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        check=False,
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _needs_hub(model: str) -> bool:
    try:
        return bool(model) and model_kind(model)[0] == "hub"
    except ModelError:
        return False


def _cached(model: str) -> bool:
    """Return whether a hub model's configuration is cached on this machine."""
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = model.partition("@")
    return isinstance(try_to_load_from_cache(name, "config.json", revision=revision or None), str)


def _unreachable(url: str) -> str | None:
    """Return why a URL cannot be read, or None if it answers without a server error."""
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return None if error.code < 500 else f"it answers {error.code}"
    # The server may not speak HTTP.
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        return f"does not answer ({' '.join(str(reason).split()) or type(error).__name__})"


def _schema() -> str | None:
    """Return the newest schema of the installed MLflow, read from its files: importing is slow."""
    spec = importlib.util.find_spec("mlflow")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "store/db_migrations/versions"
    revisions, parents = set(), set()
    for path in folder.glob("*.py"):
        found = dict(
            re.findall(r"^(revision|down_revision) = [\"'](\w+)[\"']", path.read_text(), re.M)
        )
        revisions.add(found.get("revision"))
        parents.add(found.get("down_revision"))
    newest = revisions - parents - {None}
    return newest.pop() if len(newest) == 1 else None
