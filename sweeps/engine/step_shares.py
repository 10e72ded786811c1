"""The resources that each step of preparation holds while it is built. Uses no Ray, no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeps.settings import ResourcesConfig

# More cores than this hardly speed up the training of a small encoder.
_MOST_THREADS = 16
# Trainings of different kinds share a node's cores only if each still gets this many.
_FEWEST_THREADS = 4
# 1 less 0.1 ten times is not quite 0.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Planned:
    """One artifact before preparation.

    Attributes:
        config: number of the configuration that has it as a step.
        position: position of the step there.
        title: name to display.
        kind: kind of the artifact.
        key: key of the artifact.
        needs: keys of the artifacts it reads.
        light: whether it takes only seconds on one core.
        stored: whether it is complete on disk.
        seconds: time that building took, if stored.
    """

    config: int
    position: int
    title: str
    kind: str
    key: str
    needs: tuple[str, ...]
    light: bool
    stored: bool
    seconds: float = 0.0


@dataclass(frozen=True)
class Held:
    """What one task holds while it runs: threads (and CPUs), and a share of a GPU."""

    threads: int
    gpu: float


@dataclass(frozen=True)
class Room:
    """The resources that are free for trainings.

    Attributes:
        cores: cores of each usable node; at least one node and one core.
        gpu: GPUs that a single training may hold.
    """

    cores: tuple[int, ...]
    gpu: float


def room(free: Sequence[Mapping[str, float]], resources: ResourcesConfig) -> Room:
    """Return what trainings may take without waiting for resources that others hold.

    A whole GPU if one is free, otherwise a trial's share; if no node has room for a trial, what a
    trial holds, which trials would wait for anyway.

    Args:
        free: free amounts by name ("CPU", "GPU") of each node.
        resources: of a trial.
    """
    for gpu in (float(math.ceil(resources.gpu)), resources.gpu):
        need = {"CPU": resources.cpu, "GPU": gpu}
        cores = [
            max(1, min(int(node.get("CPU", 0.0) + _ROUNDING), _MOST_THREADS))
            for node in free
            if all(node.get(key, 0.0) + _ROUNDING >= amount for key, amount in need.items())
        ]
        if cores:
            return Room(tuple(cores), gpu)
    return Room((max(1, min(int(resources.cpu), _MOST_THREADS)),), resources.gpu)


def light(resources: ResourcesConfig) -> Held:
    """Return what a light task holds: one core, and a share of a GPU so that it sees one."""
    return Held(1, resources.gpu)


def shares(planned: Sequence[Planned], found: Room, resources: ResourcesConfig) -> dict[str, Held]:
    """Return what each step holds, by its key.

    A training gets a whole node if possible. If there are more independent trainings than nodes,
    they share: trainings of one kind, which take equally long, down to what a trial holds; others
    only while each keeps a few cores, as the shorter one would leave its cores idle.

    Args:
        planned: in building order.
        found: the resources that are free.
        resources: of a trial.
    """
    depths: dict[str, int] = {}
    for step in planned:
        depths[step.key] = 1 + max((depths[key] for key in step.needs if key in depths), default=0)
    heavy = [step for step in planned if not (step.light or step.stored)]
    at_once = Counter(depths[step.key] for step in heavy)
    of_kind = Counter((depths[step.key], step.kind) for step in heavy)
    cores, nodes = max(found.cores), len(found.cores)
    trial = min(cores, max(1, int(resources.cpu)))
    held = {}
    for step in planned:
        depth = depths[step.key]
        alike = of_kind[depth, step.kind] == at_once[depth]
        least = trial if alike else min(cores, _FEWEST_THREADS)
        threads = max(least, cores // max(1, math.ceil(at_once[depth] / nodes)))
        if step.light or step.stored:
            held[step.key] = light(resources)
        else:
            crowded = at_once[depth] > nodes
            held[step.key] = Held(threads, resources.gpu if crowded else found.gpu)
    return held
