"""Joining or starting Ray, and the checks before trials are placed: room, and a shared storage."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rc_core.errors import (
    ConfigError,
    InputError,
    Problem,
    RobustCompressionError,
    StorageError,
    TrialError,
)
from sweeps.cores import usable_cores
from sweeps.engine.address import check_address
from sweeps.folder import SweepFolder
from sweeps.remote.mirror import Mirror
from sweeps.settings import ResourcesConfig
from sweeps.storages import storage_root

# Ray's own loggers would write files that nothing reads; the record is the result.
_RAY_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "600",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Workers inherit it before they import torch; see rc_core/__init__.py.
    "OMP_WAIT_POLICY": "PASSIVE",
    # So that Ctrl-C reaches us as KeyboardInterrupt; no state of Ray needs saving first.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
_PLACES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
# Set by Ray for the command that `ray job submit` runs on the cluster.
_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# Nodes of a cluster that was just started may join later than this command.
_NODE_WAIT_SECONDS = 120.0
_NODE_POLL_SECONDS = 1.0
_STORAGE_CHECK_SECONDS = 60.0


@contextmanager
def connected(address: str, say: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """Join or start Ray; shut down what was started here, also after an error.

    Args:
        address: `local` starts Ray on this machine; `auto` or `HOST:PORT` joins a cluster.
        say: called with notes on what may surprise.

    Raises:
        InputError: no cluster there, or an invalid address; see `sweeps.engine.address`.
    """
    check_address(address)
    if address == "local" and _JOB_VARIABLE in os.environ:
        say(
            "note: this runs as a Ray job, but starts its own Ray on this one node; to use the "
            "cluster, add --address auto"
        )
    os.environ.update({key: os.environ.get(key, value) for key, value in _RAY_SETTINGS.items()})
    owned = not ray.is_initialized()
    try:
        if owned:
            _start(address)
        yield
    finally:
        if owned:
            ray.shutdown()


def _start(address: str) -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Tune logs a traceback for every failed trial; the record has the reason, and we print it.
    for name in ("ray.tune", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": True,
    }
    if address == "local":
        # A surrounding cluster must not be joined by accident.
        options |= {
            "address": "local",
            "num_cpus": usable_cores(),
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
        }
    else:
        variables = {"OMP_WAIT_POLICY": _RAY_SETTINGS["OMP_WAIT_POLICY"]}
        # The endpoint of a storage at a URI; each node has its own credentials.
        variables |= {name: os.environ[name] for name in _PLACES if name in os.environ}
        options |= {"address": address, "runtime_env": {"env_vars": variables}}
    try:
        with _own_sigterm():
            _init(options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        # Ray enables tokens for a cluster started where a token file exists, but sends one to an
        # address only if told to, as it might reveal it to whoever listens there.
        token = (
            ""
            if address in ("local", "auto") or "RAY_AUTH_MODE" in os.environ
            else "; to join a cluster that requires a token (Ray's default if ~/.ray/auth_token "
            "exists), set RAY_AUTH_MODE=token in the environment"
        )
        raise InputError(
            f"no Ray cluster could be joined at '{address}': {error}; start one with "
            f"'ray start --head', or use --address local{token}"
        ) from error


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep this process's SIGTERM handler, which Ray replaces when it starts.

    Ray's core would later die with a stack trace; during the start its own handler,
    `sys.exit(signum)`, ends the process silently. Here both act like Ctrl-C: an orderly shutdown.

    Raises:
        KeyboardInterrupt: SIGTERM came while Ray started.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as end:
        if end.code != signal.SIGTERM:
            raise
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, handler)


def _init(options: Mapping[str, Any]) -> None:
    """Start Ray; try once more if a busy machine was too slow."""
    for last in (False, True):
        try:
            ray.init(**options)
            return
        except Exception as error:
            # Ray raises nothing more specific.
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if last:
                raise RobustCompressionError(
                    "Ray must start within its time limit, but twice did not, as this machine is "
                    "too busy; end other work on it, or join a running cluster with --address"
                ) from error


def usage() -> str:
    """Return how much of the resources Ray has allocated: `CPU 2/2, GPU 0.5/1`."""
    total, free = ray.cluster_resources(), ray.available_resources()
    return ", ".join(
        f"{name} {total[name] - free.get(name, 0.0):g}/{total[name]:g}"
        for name in ("CPU", "GPU")
        if total.get(name)
    )


def alive_nodes() -> list[dict[str, Any]]:
    """Return Ray's description of every node that is up."""
    return [node for node in ray.nodes() if node["Alive"]]


def free_resources() -> dict[str, float]:
    """Return the free resources of all nodes together."""
    found: dict[str, float] = ray.available_resources()
    return found


def result_of(task: Any, kept: str) -> Any:
    """Wait for a task and return its result.

    Args:
        task: of Ray.
        kept: start of the message if its worker was lost.

    Raises:
        TrialError: its worker was lost.
        Exception: what the task raised, without Ray's wrapper.
    """
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise TrialError(
            f"{kept} (killed, out of memory, or its node left): {type(error).__name__}"
        ) from error


def check_room(
    resources: ResourcesConfig,
    *,
    wait: bool,
    say: Callable[[str], None] = lambda line: None,
    seconds: float = _NODE_WAIT_SECONDS,
) -> None:
    """Check that some node can hold one trial, and say if GPUs would be idle.

    Args:
        resources: of one trial.
        wait: give nodes that are still starting time to join.
        say: told of waiting, and of GPUs that no trial asks for.
        seconds: how long to wait at most.

    Raises:
        ConfigError: none can.
    """
    deadline = time.monotonic() + seconds
    told = False
    while True:
        nodes = [node["Resources"] for node in alive_nodes()]
        problems = _room_problems(resources, nodes)
        if not problems or not wait or time.monotonic() > deadline:
            break
        if not told:
            told = True
            say(
                f"waiting up to {seconds:.0f} s for a node with {_room(resources)} (Ctrl-C to stop)"
            )
        time.sleep(_NODE_POLL_SECONDS)
    if problems:
        raise ConfigError(problems)
    gpus = sum(node.get("GPU", 0.0) for node in nodes)
    if gpus and not resources.gpu and not resources.auto:
        say(
            f"note: Ray has {gpus:g} GPU, but trials run on the CPU (resources.gpu is 0); "
            "use it with --set resources.gpu=1 (or a fraction), or --set resources=auto"
        )


def _room_problems(resources: ResourcesConfig, nodes: list[Mapping[str, float]]) -> list[Problem]:
    """Return what no node has enough of; empty if one node can hold a trial."""
    wanted = {"CPU": resources.cpu, "GPU": resources.gpu}
    if any(all(node.get(key, 0.0) >= amount for key, amount in wanted.items()) for node in nodes):
        return []
    found = []
    for key, amount in wanted.items():
        most = max((node.get(key, 0.0) for node in nodes), default=0.0)
        if amount > most:
            found.append(
                Problem(
                    f"resources.{key.lower()}",
                    f"a trial must fit on one node, but asks for {amount:g} {key} and the "
                    f"largest of {len(nodes)} nodes has {most:g}; lower it",
                )
            )
    return found or [
        Problem(
            "resources",
            f"a trial must fit on one node, but none of {len(nodes)} has {_room(resources)} at "
            "once; lower one of the two",
        )
    ]


def _room(resources: ResourcesConfig) -> str:
    gpu = f" and {resources.gpu:g} GPU" if resources.gpu else ""
    return f"{resources.cpu:g} CPU{gpu}"


def check_storage(folder: SweepFolder) -> None:
    """Check that every node sees the sweep's folder, or its URI, as this process does.

    Raises:
        StorageError: a node does not, or does not answer; its trials' results would be lost.
    """
    here = ray.get_runtime_context().get_node_id()
    uri = None if folder.mirror is None else folder.mirror.uri
    task: Any = ray.remote(num_cpus=0, max_retries=0)(_storage_problem)
    asked = {}
    for node in alive_nodes():
        if node["NodeID"] != here:
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            options = task.options(scheduling_strategy=place)
            asked[options.remote(str(folder.path), uri)] = node
    ready, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_STORAGE_CHECK_SECONDS)
    found = {}
    for each in ready:
        try:
            found[each] = ray.get(each)
        except ray.exceptions.RayTaskError as error:
            # Most often: this project is not installed there.
            found[each] = f"cannot run this project: {error.cause}"
        except ray.exceptions.RayError:
            # The node has left since, so no trial will be placed on it.
            continue
    alive = {node["NodeID"] for node in alive_nodes()} if silent else set()
    for each in silent:
        ray.cancel(each)
        if asked[each]["NodeID"] in alive:
            found[each] = (
                f"must answer within {_STORAGE_CHECK_SECONDS:.0f} s whether it sees the sweep's "
                "folder, but did not; try again when it is less busy, or remove it from the cluster"
            )
    problems = [
        Problem(f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})", found[each])
        for each, node in asked.items()
        if found.get(each) is not None
    ]
    if problems:
        raise StorageError(problems)


def _storage_problem(path: str, uri: str | None = None) -> str | None:
    if uri is not None:
        try:
            mirror = Mirror.at(storage_root(uri))
            assert mirror is not None
            mirror.names()
        except StorageError as error:
            return str(error)
        return None
    if not (Path(path) / "sweep.yaml").is_file():
        return (
            f"must see the sweep's folder {path}, but does not; put --storage on a file system "
            "that every node mounts at the same place"
        )
    if not os.access(path, os.W_OK):
        return f"must be allowed to write to the sweep's folder {path}, but is not"
    return None
