"""Computes how many trials run at once on a machine or a GPU. Uses no Ray, no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sweeps.settings import ResourcesConfig

# Memory that CUDA itself takes per process (context, loaded kernels), which torch's allocator, and
# so the cap on it, does not include. An estimate; it differs by card and driver.
CONTEXT_BYTES = 600_000_000
# Share of memory to fill, and growth of a trial's peak beyond the few measured steps.
_FILLED, _GROWTH = 0.9, 1.2
_MOST_ON_GPU = 16
# Of candidates this close to the best, take the one with the fewest trials at once, as the search
# then has more results for each proposal.
_AS_GOOD = 0.98


def memory_fraction(share: float, total_bytes: int) -> float:
    """Return the fraction of a GPU's memory that one trial's allocator may take.

    The trial's share minus the memory that CUDA itself needs for the process, so that trials on one
    GPU cannot crowd each other out: one that needs too much fails alone.

    Args:
        share: the trial's share of the GPU, in (0, 1].
        total_bytes: memory of the GPU.

    Returns:
        In (0, 1]; at least half of the share, if the GPU is very small.
    """
    return max(share - CONTEXT_BYTES / total_bytes, share / 2)


def cpu_candidates(cores: int, memory_bytes: int, peak_bytes: int) -> list[tuple[int, int]]:
    """Return (trials at once, threads of each) worth measuring on a node without a GPU.

    Threads are halved until there is one; candidates that do not fit into memory are left out,
    except one trial at a time.
    """
    threads = [cores]
    while threads[-1] > 1:
        threads.append((threads[-1] + 1) // 2)
    found = [(cores // each, each) for each in threads]
    room = _FILLED * memory_bytes / (_GROWTH * peak_bytes)
    return [each for each in found if each[0] <= max(1, room)]


def gpu_candidates(
    cores: int, total_bytes: int, peak_bytes: int, num_gpus: int = 1
) -> list[tuple[int, int]]:
    """Return (trials at once on one GPU, threads of each) worth measuring.

    Args:
        cores: of the node.
        total_bytes: memory of the GPU.
        peak_bytes: peak memory of one trial's allocator.
        num_gpus: GPUs of the node, which share its cores.
    """
    each_gpu = max(1, cores // num_gpus)
    room = total_bytes / (CONTEXT_BYTES + _GROWTH * peak_bytes)
    most = max(1, min(int(room), each_gpu, _MOST_ON_GPU))
    counts = [n for n in (1, 2, 3, 4, 6, 8, 12, _MOST_ON_GPU) if n <= most]
    return [(count, each_gpu // count) for count in counts]


def best(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the candidate with the fewest trials at once among those near the best throughput.

    Args:
        measured: `at_once`, `threads`, `samples_per_second` of each; at least one.
    """
    top = max(each["samples_per_second"] for each in measured)
    near = [each for each in measured if each["samples_per_second"] >= _AS_GOOD * top]
    return min(near, key=lambda each: each["at_once"])


def gpu_share(at_once: int) -> float:
    """Return the share of a GPU with which so many trials fit on it, in Ray's unit of 1/10,000."""
    return math.floor(10_000 / at_once) / 10_000


def numbers(
    found: dict[str, Any], resources: ResourcesConfig, cores: int, gpus: int
) -> ResourcesConfig:
    """Return what one trial holds, given the measurements."""
    chosen = best(found["measured"])
    update: dict[str, Any] = {"auto": False}
    if gpus:
        update |= {"gpu": gpu_share(chosen["at_once"])}
        update |= {"cpu": max(1, cores // (gpus * chosen["at_once"]))}
    else:
        update |= {"cpu": chosen["threads"], "gpu": 0}
    return resources.model_copy(update=update)


def packing_line(found: dict[str, Any], chosen: ResourcesConfig) -> str:
    """Return what was measured and chosen, in words."""
    rates = ", ".join(
        f"{each['at_once']} x {each['threads']} threads {each['samples_per_second']:.0f}"
        for each in found["measured"]
    )
    gpu = f", {chosen.gpu:g} GPU" if chosen.gpu else ""
    return (
        f"{chosen.cpu:g} CPU{gpu} (samples/s measured: {rates}; one trial took "
        f"{found['peak_bytes'] / 1e9:.1f} GB)"
    )
