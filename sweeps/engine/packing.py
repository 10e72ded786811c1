"""`resources: auto`: how many trials at once give the best throughput, on the largest node.

With GPUs this is measured for one GPU instead of one node; each trial's allocator is then capped to
its share (sweeps/engine/trainable.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import ray

from rc_core.config import decode
from sweeps.config import SweepConfig
from sweeps.engine.cluster import alive_nodes, result_of, usage
from sweeps.engine.shares import cpu_candidates, gpu_candidates, numbers, packing_line
from sweeps.settings import ResourcesConfig

# Measuring takes about this long; longer may mean waiting for a node.
_PATIENCE_SECONDS = 120.0


def resolve(sweep: SweepConfig, artifacts: str, say: Callable[[str], None]) -> SweepConfig:
    """Return the sweep with numbers instead of `resources: auto`; others unchanged.

    Args:
        sweep: any.
        artifacts: address of the store for the measurement (`SweepFolder`).
        say: told what is measured, and what was chosen.

    Raises:
        TrialError: the dense reference could not be trained for a few steps, or the worker that
            measures was lost.
        InputError: Ray counts GPUs that torch cannot use.
    """
    resources = sweep.settings.resources
    if not resources.auto:
        return sweep
    nodes = [node["Resources"] for node in alive_nodes()]
    largest = max(nodes, key=lambda node: (_gpus(node, resources), node.get("CPU", 0.0)))
    cores, gpus = max(1, int(largest.get("CPU", 1.0))), _gpus(largest, resources)
    say("packing: measuring how many trials to run at once (once per machine and model) ...")
    task: Any = ray.remote(num_cpus=cores, num_gpus=min(1, gpus), max_retries=0)(_measure)
    measured = task.remote(sweep.reference().as_dict(), artifacts, cores, gpus)
    try:
        if not ray.wait([measured], timeout=_PATIENCE_SECONDS)[0]:
            say(
                "packing: still measuring, or waiting until a whole node is free (in use: "
                f"{usage()}); with numbers in resources neither is needed"
            )
        found = result_of(
            measured,
            "resources: auto must keep its worker while it measures, but lost it; give numbers "
            "(resources.cpu, resources.gpu) instead",
        )
    except BaseException:
        # After Ctrl-C it would keep running on a joined cluster. Harmless if it has ended.
        ray.cancel(measured)
        raise
    chosen = numbers(found, resources, cores, gpus)
    say(f"packing: each trial holds {packing_line(found, chosen)}")
    settings = sweep.settings.model_copy(update={"resources": chosen})
    resolved = copy.copy(sweep)
    resolved.settings = settings
    return resolved


def _gpus(node: dict[str, float], resources: ResourcesConfig) -> int:
    return 0 if resources.device == "cpu" else int(node.get("GPU", 0.0))


def _measure(config: dict[str, Any], artifacts: str, cores: int, gpus: int) -> dict[str, Any]:
    import torch

    from rc_core.throughput import measure, memory_bytes
    from sweeps.engine.trainable import workspace

    space = workspace(artifacts, "cuda" if gpus else "cpu")
    if gpus:
        total = torch.cuda.get_device_properties(0).total_memory
        candidates = partial(_on_gpu, cores, total, gpus)
    else:
        candidates = partial(cpu_candidates, cores, memory_bytes())
    return measure(decode(config), space, cores, candidates)


def _on_gpu(cores: int, total: int, gpus: int, peak: int) -> list[tuple[int, int]]:
    return gpu_candidates(cores, total, peak, gpus)
