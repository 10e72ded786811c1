"""What a sweep builds before its first trial: shared artifacts, and the dense reference's record.

Artifacts form a graph (`rc_core.preparation`). Each is one Ray task that waits for the tasks it
needs, so that what is independent is built at the same time, on any node. The artifact store's lock
makes sure that two sweeps started together do not build the same thing twice.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_exists, _internal_kv_put

from rc_core.config import TrialConfig, decode
from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.engine.assignments import REFERENCE_ID
from sweeps.engine.cluster import alive_nodes, result_of, usage
from sweeps.engine.health_gate import report_health
from sweeps.engine.step_shares import Held, Planned, light, room, shares
from sweeps.engine.wanted import counted, settle, wanted
from sweeps.folder import SweepFolder, trial_at

# Ray tells a little late what a task has given back.
_SETTLE_SECONDS, _POLL_SECONDS = 3.0, 0.1
# To have waited for room for so long is said.
_ROOM_SECONDS = 60.0


@dataclass(frozen=True)
class Prepared:
    """One artifact after preparation; `left_out` says why a mere comparison could not be built."""

    title: str
    kind: str
    key: str
    built: bool
    seconds: float
    left_out: str | None = None


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
    needed = wanted(sweep, folder)
    resources = sweep.settings.resources
    # Before anything of ours is held.
    found = room(_free_nodes(), resources)
    arguments = {"artifacts": folder.artifacts_address, "device": resources.torch_device}
    tasks = _Tasks(resources.retries, arguments, say)
    values = [config.as_dict() for config in (*needed.first, *needed.later)]
    planned = tasks.result(tasks.start(_plan, light(resources), values)) if values else []
    if planned:
        planned = settle(folder, planned, len(needed.first), say)
    missing = Counter(step.title for step in planned if not step.stored)
    if missing:
        say(f"prepare: to build: {counted(missing)}")
    _build_all(planned, values, shares(planned, found, resources), tasks, say)
    reference = sweep.reference().as_dict()
    # Its teacher is built: what is left is to copy it.
    record, majority, warnings = tasks.result(
        tasks.start(_reference, light(resources), reference, folder.address, attempt)
    )
    assert isinstance(record, TrialRecord)
    report_health(sweep, record, majority, warnings, say)
    return record


def _build_all(
    planned: Sequence[Planned],
    values: list[dict[str, Any]],
    held: dict[str, Held],
    tasks: _Tasks,
    say: Callable[[str], None],
) -> None:
    """Start every step as a task that waits for those it needs; tell of each as it is done.

    None for what is stored: another process would take seconds to start, only to find it. One that
    is damaged all the same is built by the first trial that reads it.
    """
    steps: dict[str, Any] = {}
    for step in planned:
        if step.stored:
            say(_line(Prepared(step.title, step.kind, step.key, False, step.seconds)))
            continue
        before = [steps[key] for key in step.needs if key in steps]
        steps[step.key] = tasks.start(
            _build, held[step.key], values[step.config], step.position, *before
        )
    waiting = list(steps.values())
    try:
        while waiting:
            ready, waiting = tasks.wait(waiting)
            say(_line(_result(ready[0])))
    finally:
        tasks.cancel(waiting)


def _line(done: Prepared) -> str:
    """Return what is said of a step that is done."""
    if done.left_out is not None:
        return f"prepare: {done.title}: left out: {done.left_out}"
    how = "built in" if done.built else "reused, saving"
    return f"prepare: {done.title}: {how} {done.seconds:.0f} s [{done.kind}/{done.key}]"


class _Tasks:
    """Starts functions as Ray tasks and waits for them; says so where there is no room for any."""

    def __init__(self, retries: int, arguments: dict[str, Any], say: Callable[[str], None]) -> None:
        """Store what is given.

        Args:
            retries: how often a task whose worker was lost is started again: artifacts are stored
                whole or not at all, so nothing is done twice.
            arguments: passed to every function by name.
            say: told, once, that nothing has begun for a minute.
        """
        self._retries = retries
        self._arguments = arguments
        self._say = say
        self._told = False
        self._name = uuid.uuid4().hex
        self._marks: dict[Any, tuple[str, Held]] = {}

    def start(self, function: Callable[..., Any], held: Held, *arguments: Any) -> Any:
        """Return the task of a function; it waits for those among the arguments."""
        mark = f"rc-sweep/{self._name}/{len(self._marks)}"
        # Options differ from sweep to sweep, so functions are made remote here, not where defined.
        remote: Any = ray.remote(
            num_cpus=held.threads, num_gpus=held.gpu, max_retries=self._retries
        )(_begin)
        named = {"threads": held.threads, **self._arguments}
        task = remote.options(name=function.__name__).remote(mark, function, *arguments, **named)
        self._marks[task] = mark, held
        return task

    def wait(self, tasks: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Return a task that has ended, and the others; as `ray.wait`.

        Args:
            tasks: each after those that it waits for.
        """
        while True:
            ready, others = ray.wait(list(tasks), timeout=None if self._told else _ROOM_SECONDS)
            if ready:
                self._forget(ready[0])
                return ready, others
            if not any(_internal_kv_exists(self._marks[task][0]) for task in tasks):
                self._told = True
                self._say(_no_room(self._marks[tasks[0]][1]))

    def result(self, task: Any) -> Any:
        """Wait for a task; raise the error it raised."""
        try:
            self.wait([task])
            return _result(task)
        except BaseException:
            # Ctrl-C: on a cluster that was joined it would go on. One that has ended takes no harm.
            self.cancel([task])
            raise

    def cancel(self, tasks: Sequence[Any]) -> None:
        """End tasks whose results nobody waits for."""
        for task in tasks:
            ray.cancel(task)
        for task in tasks:
            self._forget(task)

    def _forget(self, task: Any) -> None:
        """Delete a task's mark, which a cluster that was joined would keep for good."""
        _internal_kv_del(self._marks[task][0])


def _begin(mark: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Run a task's function, and say first that it has got its room: Ray does not tell."""
    _internal_kv_put(mark, b"")
    return function(*arguments, **named)


def _no_room(held: Held) -> str:
    gpu = f" and {held.gpu:g} GPU" if held.gpu else ""
    return (
        f"prepare: has waited {_ROOM_SECONDS:.0f} s for room: a task needs {held.threads} CPU{gpu} "
        f"on one node, but other work holds it (given out: {usage()}); it goes on when there is "
        "room (Ctrl-C ends it)"
    )


def _result(task: Any) -> Any:
    """Wait for a task; raise the error it raised, not Ray's wrapping of it."""
    return result_of(
        task,
        "preparation must keep its workers, but lost one more often than resources.retries allows",
    )


def _free_nodes() -> list[dict[str, float]]:
    """Return what nobody holds on each node, by name ("CPU", "GPU")."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        known = available_resources_per_node()
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
    artifacts: str,
    threads: int,
    device: str,
) -> Prepared:
    """Build one step. `before` are the results of those it needs: Ray waits for them."""
    from rc_core.preparation import steps

    del before
    step = steps(decode(config), _workspace(artifacts, threads, device))[position]
    artifact = step.attempt()
    if isinstance(artifact, str):
        return Prepared(step.title, step.key.kind, step.key.key, False, 0.0, artifact)
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
