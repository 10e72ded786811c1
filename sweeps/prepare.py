"""What a sweep builds before its first trial: shared artifacts, and the dense reference's record.

Each step is one Ray task with the resources of the whole machine it runs on, but for steps that do
not need each other (levels pruned one by one), which run side by side with those of a trial. The
artifact store's lock makes sure that two sweeps started together do not build the same thing twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from rc_core.config import TrialConfig, decode
from rc_core.errors import TrialError
from rc_core.record import TrialRecord
from sweeps.assignments import REFERENCE_ID
from sweeps.config import SweepConfig
from sweeps.folder import SweepFolder


@dataclass(frozen=True)
class Prepared:
    """One artifact after preparation."""

    title: str
    kind: str
    key: str
    built: bool
    seconds: float


@dataclass(frozen=True)
class _Planned:
    """One artifact before preparation: the configuration and the place of its step there."""

    config: int
    position: int
    title: str
    group: str | None
    stored: bool


def prepare(
    sweep: SweepConfig,
    folder: SweepFolder,
    attempt: int,
    *,
    say: Callable[[str], None],
) -> TrialRecord:
    """Build what is missing, say what was reused, and return the dense reference's record.

    Raises:
        TrialError: the health gate is `stop` and the reference does not beat the majority class.
    """
    configs = [sweep.reference(), *sweep.structures()]
    resources = _resources(sweep)
    arguments: dict[str, Any] = {
        "artifacts": str(folder.artifacts),
        "threads": max(1, int(resources["cpu"])),
        "gpu": resources["gpu"] > 0,
    }
    values = [config.as_dict() for config in configs]
    planned = _run(_plan, values, **arguments)
    for steps in _side_by_side(planned):
        for step in steps:
            if not step.stored:
                say(f"prepare: {step.title} ...")
        several = len(steps) > 1
        # One step gets the whole machine; steps side by side hold what a trial would.
        held = arguments | {"threads": max(1, int(sweep.settings.resources.cpu))}
        tasks = [
            _submit(
                _build,
                values[step.config],
                step.position,
                share=sweep.settings.resources.gpu if several else 1.0,
                **(held if several else arguments),
            )
            for step in steps
        ]
        for task in tasks:
            done = _result(task)
            how = "built in" if done.built else "reused, saving"
            say(f"prepare: {done.title}: {how} {done.seconds:.0f} s [{done.kind}/{done.key}]")
    record, majority, warnings = _run(_reference, values[0], str(folder.path), attempt, **arguments)
    assert isinstance(record, TrialRecord)
    _report_health(sweep, record, majority, warnings, say)
    return record


def _side_by_side(planned: list[_Planned]) -> Iterator[list[_Planned]]:
    """Yield steps that may be built at the same time together, in order."""
    for _, steps in itertools.groupby(
        enumerate(planned), key=lambda each: each[1].group or each[0]
    ):
        yield [step for _, step in steps]


def _run(function: Callable[..., Any], *arguments: Any, **rest: Any) -> Any:
    """Run a function as a Ray task and return its result."""
    return _result(_submit(function, *arguments, **rest))


def _submit(
    function: Callable[..., Any],
    *arguments: Any,
    threads: int,
    gpu: bool,
    share: float = 1.0,
    **rest: Any,
) -> Any:
    """Start a function as a Ray task that holds `threads` CPUs and a share of a GPU."""
    # Options differ from sweep to sweep, so the functions are made remote here, not where defined.
    task: Any = ray.remote(num_cpus=threads, num_gpus=share if gpu else 0, max_retries=0)(function)
    return task.remote(*arguments, threads=threads, gpu=gpu, **rest)


def _result(task: Any) -> Any:
    """Wait for a task; raise the error it raised, not Ray's wrapping of it."""
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


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


def _resources(sweep: SweepConfig) -> dict[str, float]:
    """Return what one preparation task gets: one node's cores, and a GPU where trials have one."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    needs_gpu = sweep.settings.resources.gpu > 0
    fitting = [node for node in nodes if not needs_gpu or node.get("GPU", 0) >= 1] or nodes
    cpus = min(max((node.get("CPU", 1.0) for node in fitting), default=1.0), 16.0)
    return {"cpu": cpus, "gpu": 1.0 if needs_gpu else 0.0}


def _workspace(artifacts: str, threads: int, gpu: bool) -> Any:
    import torch

    from sweeps.trainable import workspace

    torch.set_num_threads(threads)
    return workspace(artifacts, None if gpu else "cpu")


def _plan(
    configs: list[dict[str, Any]], *, artifacts: str, threads: int, gpu: bool
) -> list[_Planned]:
    """Return each distinct artifact that the configurations need, in building order."""
    space = _workspace(artifacts, threads, gpu)
    return list(_distinct_steps([decode(config) for config in configs], space))


def _distinct_steps(configs: list[TrialConfig], workspace: Any) -> Iterator[_Planned]:
    from rc_core.preparation import steps

    seen: set[str] = set()
    for index, config in enumerate(configs):
        for position, step in enumerate(steps(config, workspace)):
            if step.key.key not in seen:
                seen.add(step.key.key)
                stored = workspace.store.has(step.key)
                yield _Planned(index, position, step.title, step.group, stored)


def _build(
    config: dict[str, Any], position: int, *, artifacts: str, threads: int, gpu: bool
) -> Prepared:
    from rc_core.preparation import steps

    step = steps(decode(config), _workspace(artifacts, threads, gpu))[position]
    artifact = step.build()
    return Prepared(step.title, step.key.kind, step.key.key, artifact.built, artifact.seconds)


def _reference(
    config: dict[str, Any], sweep: str, attempt: int, *, artifacts: str, threads: int, gpu: bool
) -> tuple[TrialRecord, float, list[str]]:
    from rc_core.metrics.robustness import majority_share
    from rc_core.teacher import health
    from rc_core.trial import trial_steps

    space = _workspace(artifacts, threads, gpu)
    reference = decode(config)
    folder = SweepFolder(Path(sweep)).trial(REFERENCE_ID)
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
