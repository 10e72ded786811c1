"""What a sweep builds before its first trial: shared artifacts, and the dense reference's record.

Artifacts form a graph (`rc_core.preparation`). Each is one Ray task that waits for those it needs,
so that independent ones are built at the same time, on any node. The artifact store's lock keeps
two sweeps started together from building the same thing twice.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from rc_core.config import TrialConfig, decode
from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.engine._internals import free_on_nodes
from sweeps.engine.cluster import alive_nodes
from sweeps.engine.health_gate import Judged, report_health
from sweeps.engine.ray_tasks import Tasks, result_of
from sweeps.engine.step_shares import Held, Planned, light, room, shares
from sweeps.engine.wanted import counted, settle, wanted
from sweeps.folder import REFERENCE_ID, SweepFolder, trial_at

# Ray reports resources that a task has released with a small delay.
_SETTLE_SECONDS, _POLL_SECONDS = 3.0, 0.1


@dataclass(frozen=True)
class Prepared:
    """One artifact after preparation.

    Attributes:
        title: name to display.
        kind: kind of the artifact.
        key: key of the artifact.
        built: whether it was built now, not earlier.
        seconds: time that building took.
        left_out: why an optional comparison could not be built.
        judged: results of the dense reference, if this is its teacher.
    """

    title: str
    kind: str
    key: str
    built: bool
    seconds: float
    left_out: str | None = None
    judged: Judged | None = None


def prepare(
    sweep: SweepConfig,
    folder: SweepFolder,
    attempt: int,
    *,
    say: Callable[[str], None],
) -> TrialRecord:
    """Build what is missing, report what was reused, return the dense reference's record.

    Raises:
        TrialError: the health gate is `stop` and the reference does not beat the majority class, or
            workers were lost more often than `resources.retries`.
    """
    needed = wanted(sweep, folder)
    resources = sweep.settings.resources
    # Before our own tasks hold anything.
    found = room(_free_nodes(), resources)
    reference = sweep.reference().as_dict()
    arguments = {
        "artifacts": folder.artifacts_address,
        "device": resources.torch_device,
        "reference": reference,
    }
    tasks = Tasks(resources.retries, arguments, say)
    values = [config.as_dict() for config in (*needed.first, *needed.later)]
    planned, judged, cuts = tasks.result(
        tasks.start(_plan, light(resources), values, folder.address)
    )
    for line in cuts:
        say(f"note: {line}")
    if planned:
        planned = settle(folder, planned, len(needed.first), say)
    if judged is not None:
        report_health(sweep, judged, say)
    missing = Counter(step.title for step in planned if not step.stored)
    if missing:
        say(f"prepare: to build: {counted(missing)}")
    held = shares(planned, found, resources)
    with closing(_build_all(planned, values, held, tasks)) as built:
        for done in built:
            say(_line(done))
            if done.judged is not None and judged is None:
                # Now, not at the end, as the rest is built on this teacher.
                judged = done.judged
                report_health(sweep, judged, say)
    assert judged is not None, "its record or its teacher existed, or the teacher has been built"
    # Its teacher is built and only needs to be copied.
    record = tasks.result(tasks.start(_reference, light(resources), folder.address, attempt))
    assert isinstance(record, TrialRecord)
    return record


def _build_all(
    planned: Sequence[Planned],
    values: list[dict[str, Any]],
    held: dict[str, Held],
    tasks: Tasks,
) -> Generator[Prepared, None, None]:
    """Start every step as a task that waits for those it needs; yield each as it finishes.

    Stored steps get no task, as a process would take seconds to start only to find them; a damaged
    one is built by the first trial that reads it. Closing the generator cancels unfinished tasks.
    """
    steps: dict[str, Any] = {}
    for step in planned:
        if not step.stored:
            before = [steps[key] for key in step.needs if key in steps]
            steps[step.key] = tasks.start(
                _build, held[step.key], values[step.config], step.position, *before
            )
    waiting = list(steps.values())
    try:
        for step in planned:
            if step.stored:
                yield Prepared(step.title, step.kind, step.key, False, step.seconds)
        while waiting:
            ready, waiting = tasks.wait(waiting)
            yield result_of(ready[0])
    finally:
        tasks.cancel(waiting)


def _line(done: Prepared) -> str:
    """Return the line to print for a finished step."""
    if done.left_out is not None:
        return f"prepare: {done.title}: left out: {done.left_out}"
    how = "built in" if done.built else "reused, saving"
    return f"prepare: {done.title}: {how} {done.seconds:.0f} s [{done.kind}/{done.key}]"


def _free_nodes() -> list[dict[str, float]]:
    """Return the free resources of each node, by name ("CPU", "GPU")."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        known = free_on_nodes()
        nodes = [(node["Resources"], known.get(node["NodeID"], {})) for node in alive_nodes()]
        held = any(
            free.get(key, 0.0) < total.get(key, 0.0)
            for total, free in nodes
            for key in ("CPU", "GPU")
        )
        if not held or time.monotonic() > deadline:
            return [free for _, free in nodes]
        time.sleep(_POLL_SECONDS)


def _workspace(artifacts: str, threads: int, device: str) -> Any:
    import torch

    from sweeps.engine.trainable import workspace

    torch.set_num_threads(threads)
    return workspace(artifacts, device)


def _plan(
    configs: list[dict[str, Any]],
    sweep: str,
    *,
    reference: dict[str, Any],
    artifacts: str,
    threads: int,
    device: str,
) -> tuple[list[Planned], Judged | None, list[str]]:
    """Return each distinct artifact that the configurations need, in building order.

    Also the results of the dense reference, if known already, and notes on texts that will be cut.
    """
    from rc_core.data._foreseen import foreseen_cuts
    from rc_core.teacher import teacher_key

    space = _workspace(artifacts, threads, device)
    planned = list(_distinct_steps([decode(config) for config in configs], space))
    dense, record = decode(reference), trial_at(sweep, REFERENCE_ID).read()
    cuts = foreseen_cuts(space.data(dense).task, dense)
    known = record is not None and record.status == "finished"
    if known or space.store.has(teacher_key(dense, space)):
        return planned, _judge(dense, space, record if known else None), cuts
    return planned, None, cuts


def _distinct_steps(configs: list[TrialConfig], workspace: Any) -> Iterator[Planned]:
    from rc_core.preparation import steps

    seen: set[str] = set()
    for index, config in enumerate(configs):
        for position, step in enumerate(steps(config, workspace)):
            if step.key.key not in seen:
                seen.add(step.key.key)
                stored = workspace.store.has(step.key)
                yield Planned(
                    index,
                    position,
                    step.title,
                    step.key.kind,
                    step.key.key,
                    step.needs,
                    step.light,
                    stored=stored,
                    seconds=workspace.store.seconds(step.key) if stored else 0.0,
                )


def _build(
    config: dict[str, Any],
    position: int,
    *before: Prepared,
    reference: dict[str, Any],
    artifacts: str,
    threads: int,
    device: str,
) -> Prepared:
    """Build one step. `before` are the results of those it needs, so that Ray waits for them."""
    from rc_core.preparation import steps
    from rc_core.teacher import teacher_key

    del before
    space = _workspace(artifacts, threads, device)
    step = steps(decode(config), space)[position]
    artifact = step.attempt()
    if isinstance(artifact, str):
        return Prepared(step.title, step.key.kind, step.key.key, False, 0.0, artifact)
    dense = decode(reference)
    judged = _judge(dense, space) if step.key == teacher_key(dense, space) else None
    return Prepared(
        step.title,
        step.key.kind,
        step.key.key,
        artifact.built,
        artifact.seconds,
        judged=judged,
    )


def _reference(
    sweep: str,
    attempt: int,
    *,
    reference: dict[str, Any],
    artifacts: str,
    threads: int,
    device: str,
) -> TrialRecord:
    from rc_core.trial import trial_steps

    space = _workspace(artifacts, threads, device)
    config = decode(reference)
    folder = trial_at(sweep, REFERENCE_ID)
    record = folder.read()
    if record is None or record.status != "finished":
        generator = trial_steps(config, space, folder, trial_id=REFERENCE_ID, attempt=attempt)
        try:
            while True:
                next(generator)
        except StopIteration as end:
            record = end.value
    assert record is not None
    return record


def _judge(config: TrialConfig, space: Any, record: TrialRecord | None = None) -> Judged:
    """Return the results of the dense reference.

    Args:
        config: its configuration.
        space: the workspace.
        record: its finished record; None to use its stored teacher.
    """
    from rc_core.evaluation import counted_sizes, relative_metrics
    from rc_core.metrics.robustness import majority_share
    from rc_core.teacher import health, teacher, teacher_facts

    data = space.data(config)
    id_dev = data.task.id_dev
    majority = majority_share(id_dev.labels)
    if record is not None:
        metrics, undefined = record.metrics, record.undefined
    else:
        metrics = teacher_facts(teacher(config, space))["metrics"]
        sizes = counted_sizes(data.task, "dev")
        undefined = relative_metrics(metrics, metrics, "dev", sizes=sizes)[1]
    return Judged(metrics, undefined, majority, health(metrics, majority, len(id_dev)))
