"""What a sweep builds before its first trial: shared artifacts, and the dense reference's record.

Artifacts form a graph (`rc_core.preparation`). Each is one Ray task that waits for the tasks it
needs, so that what is independent is built at the same time, on any node. The artifact store's lock
makes sure that two sweeps started together do not build the same thing twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from rc_core.config import TrialConfig, decode
from rc_core.errors import TrialError
from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.engine.assignments import REFERENCE_ID
from sweeps.engine.cluster import alive_nodes
from sweeps.engine.listed import listed, why_not_listed
from sweeps.folder import SweepFolder, trial_at
from sweeps.settings import ResourcesConfig

# More cores than this make one training of a small encoder hardly faster.
_MOST_THREADS = 16
# Unlike trainings share a node's cores only where each still gets this many.
_FEWEST_THREADS = 4


@dataclass(frozen=True)
class Prepared:
    """One artifact after preparation."""

    title: str
    kind: str
    key: str
    built: bool
    seconds: float


@dataclass(frozen=True)
class Planned:
    """One artifact before preparation.

    Attributes:
        config: number of the configuration that has it as a step.
        position: of the step there.
        title: for people.
        kind: of the artifact.
        key: of the artifact.
        needs: keys of the artifacts it reads.
        light: takes seconds on one core.
        stored: complete on disk.
    """

    config: int
    position: int
    title: str
    kind: str
    key: str
    needs: tuple[str, ...]
    light: bool
    stored: bool


@dataclass(frozen=True)
class Held:
    """What one task holds while it runs: threads (and CPUs), and a share of a GPU."""

    threads: int
    gpu: float


def prepare(
    sweep: SweepConfig,
    folder: SweepFolder,
    attempt: int,
    *,
    say: Callable[[str], None],
) -> TrialRecord:
    """Build what is missing, say what was reused, and return the dense reference's record.

    Raises:
        TrialError: the health gate is `stop` and the reference does not beat the majority class, or
            workers were lost more often than `resources.retries`.
    """
    configs = _open(sweep, folder)
    resources = sweep.settings.resources
    nodes = _nodes(resources)
    whole = Held(max(nodes), 1.0 if resources.gpu else 0.0)
    arguments = {"artifacts": folder.artifacts_address, "device": resources.torch_device}
    submit = _Submitter(resources.retries, arguments)
    values = [config.as_dict() for config in configs]
    planned = _result(submit(_plan, whole, values)) if values else []
    missing = Counter(step.title for step in planned if not step.stored)
    if missing:
        titles = (f"{count} x {title}" if count > 1 else title for title, count in missing.items())
        say(f"prepare: to build: {', '.join(titles)}")
    _build_all(planned, values, shares(planned, nodes, resources), submit, say)
    reference = sweep.reference().as_dict()
    record, majority, warnings = _result(
        submit(_reference, whole, reference, folder.address, attempt)
    )
    assert isinstance(record, TrialRecord)
    _report_health(sweep, record, majority, warnings, say)
    return record


def _open(sweep: SweepConfig, folder: SweepFolder) -> list[TrialConfig]:
    """Return what artifacts follow from: of a fixed design its trials that have not ended.

    They may all have ended elsewhere (`rc-sweep adopt`): then nothing is built here, nor for a
    search whose trials are known beforehand. Where some of its trials are left, what any of them
    may read is built.
    """
    if why_not_listed(sweep) is not None:
        return [sweep.reference(), *sweep.structures()]
    ended = {
        record.fingerprint
        for record in folder.records()
        if record.status != "running" and (record.status == "finished" or not record.reference)
    }
    left = [each for each in listed(sweep).values() if each.fingerprint() not in ended]
    if left and sweep.settings.design != "fixed":
        return [sweep.reference(), *sweep.structures()]
    return left


def _build_all(
    planned: Sequence[Planned],
    values: list[dict[str, Any]],
    held: dict[str, Held],
    submit: _Submitter,
    say: Callable[[str], None],
) -> None:
    """Start every step as a task that waits for those it needs; tell of each as it is done."""
    tasks: dict[str, Any] = {}
    for step in planned:
        before = [tasks[key] for key in step.needs if key in tasks]
        tasks[step.key] = submit(
            _build, held[step.key], values[step.config], step.position, *before
        )
    waiting = list(tasks.values())
    try:
        while waiting:
            ready, waiting = ray.wait(waiting)
            done: Prepared = _result(ready[0])
            how = "built in" if done.built else "reused, saving"
            say(f"prepare: {done.title}: {how} {done.seconds:.0f} s [{done.kind}/{done.key}]")
    finally:
        for task in waiting:
            ray.cancel(task)


def shares(
    planned: Sequence[Planned], nodes: Sequence[int], resources: ResourcesConfig
) -> dict[str, Held]:
    """Return what each step holds, by its key.

    A training gets a whole node where it can. Where more are independent than there are nodes, they
    share: trainings of one kind, which take equally long, down to what a trial holds; others only
    while each keeps a few cores, since the shorter one would leave its cores idle.

    Args:
        planned: in building order.
        nodes: cores of each node that can hold a trial, at least one.
        resources: of a trial.
    """
    depths: dict[str, int] = {}
    for step in planned:
        depths[step.key] = 1 + max((depths[key] for key in step.needs if key in depths), default=0)
    heavy = [step for step in planned if not (step.light or step.stored)]
    at_once = Counter(depths[step.key] for step in heavy)
    of_kind = Counter((depths[step.key], step.kind) for step in heavy)
    cores = max(nodes)
    trial = min(cores, max(1, int(resources.cpu)))
    found = {}
    for step in planned:
        depth = depths[step.key]
        alike = of_kind[depth, step.kind] == at_once[depth]
        least = trial if alike else min(cores, _FEWEST_THREADS)
        threads = max(least, cores // max(1, math.ceil(at_once[depth] / len(nodes))))
        if step.light or step.stored:
            found[step.key] = Held(1, resources.gpu)
        else:
            crowded = at_once[depth] > len(nodes)
            found[step.key] = Held(threads, resources.gpu if crowded else math.ceil(resources.gpu))
    return found


class _Submitter:
    """Starts functions as Ray tasks."""

    def __init__(self, retries: int, arguments: dict[str, Any]) -> None:
        """Store what is given.

        Args:
            retries: how often a task whose worker was lost is started again: artifacts are stored
                whole or not at all, so nothing is done twice.
            arguments: passed to every function by name.
        """
        self._retries = retries
        self._arguments = arguments

    def __call__(self, function: Callable[..., Any], held: Held, *arguments: Any) -> Any:
        # Options differ from sweep to sweep, so functions are made remote here, not where defined.
        task: Any = ray.remote(num_cpus=held.threads, num_gpus=held.gpu, max_retries=self._retries)(
            function
        )
        return task.remote(*arguments, threads=held.threads, **self._arguments)


def _result(task: Any) -> Any:
    """Wait for a task; raise the error it raised, not Ray's wrapping of it."""
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise TrialError(
            "preparation must keep its workers, but lost one more often than resources.retries "
            f"allows (killed, out of memory, or its node left): {type(error).__name__}"
        ) from error


def _nodes(resources: ResourcesConfig) -> list[int]:
    """Return the cores of each node that can hold a trial and, where GPUs are used, a whole one."""
    alive = [node["Resources"] for node in alive_nodes()]
    need = {"CPU": resources.cpu, "GPU": math.ceil(resources.gpu)}
    fitting = [n for n in alive if all(n.get(key, 0) >= amount for key, amount in need.items())]
    cores = [int(min(node.get("CPU", 1.0), _MOST_THREADS)) for node in fitting or alive]
    return [max(1, each) for each in cores]


def _report_health(
    sweep: SweepConfig,
    record: TrialRecord,
    majority: float,
    warnings: list[str],
    say: Callable[[str], None],
) -> None:
    accuracies = {role: 100 * record.metric(f"{role}/accuracy") for role in ("id_dev", "ood_dev")}
    say(
        f"dense reference: ID {accuracies['id_dev']:.1f} %, OOD {accuracies['ood_dev']:.1f} % "
        f"(majority class on id_dev {100 * majority:.1f} %)"
    )
    reason = record.undefined.get("ood_dev/relative_bias")
    if reason is not None:
        say(f"note: relative bias is undefined in this sweep: {reason}")
    if warnings and sweep.settings.health_gate == "stop":
        raise TrialError(
            "health gate: "
            + "; ".join(warnings)
            + ". To go on all the same: --set health_gate=warn"
        )
    for warning in warnings:
        say(f"warning: {warning}")


def _workspace(artifacts: str, threads: int, device: str) -> Any:
    import torch

    from sweeps.engine.trainable import workspace

    torch.set_num_threads(threads)
    return workspace(artifacts, device)


def _plan(
    configs: list[dict[str, Any]], *, artifacts: str, threads: int, device: str
) -> list[Planned]:
    """Return each distinct artifact that the configurations need, in building order."""
    space = _workspace(artifacts, threads, device)
    return list(_distinct_steps([decode(config) for config in configs], space))


def _distinct_steps(configs: list[TrialConfig], workspace: Any) -> Iterator[Planned]:
    from rc_core.preparation import steps

    seen: set[str] = set()
    for index, config in enumerate(configs):
        for position, step in enumerate(steps(config, workspace)):
            if step.key.key not in seen:
                seen.add(step.key.key)
                yield Planned(
                    index,
                    position,
                    step.title,
                    step.key.kind,
                    step.key.key,
                    step.needs,
                    step.light,
                    stored=workspace.store.has(step.key),
                )


def _build(
    config: dict[str, Any],
    position: int,
    *before: Prepared,
    artifacts: str,
    threads: int,
    device: str,
) -> Prepared:
    """Build one step. `before` are the results of those it needs: Ray waits for them."""
    from rc_core.preparation import steps

    del before
    step = steps(decode(config), _workspace(artifacts, threads, device))[position]
    artifact = step.build()
    return Prepared(step.title, step.key.kind, step.key.key, artifact.built, artifact.seconds)


def _reference(
    config: dict[str, Any], sweep: str, attempt: int, *, artifacts: str, threads: int, device: str
) -> tuple[TrialRecord, float, list[str]]:
    from rc_core.metrics.robustness import majority_share
    from rc_core.teacher import health
    from rc_core.trial import trial_steps

    space = _workspace(artifacts, threads, device)
    reference = decode(config)
    folder = trial_at(sweep, REFERENCE_ID)
    record = folder.read()
    if record is None or record.status != "finished":
        generator = trial_steps(reference, space, folder, trial_id=REFERENCE_ID, attempt=attempt)
        try:
            while True:
                next(generator)
        except StopIteration as end:
            record = end.value
    assert record is not None
    id_dev = space.data(reference).task.id_dev
    majority = majority_share(id_dev.labels)
    return record, majority, health(record.metrics, majority, len(id_dev))
