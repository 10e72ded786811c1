"""Functions as Ray tasks, with our own messages: no free room, workers that died."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import ray

from sweeps.engine import cluster
from sweeps.engine._internals import drop_mark, has_mark, set_mark
from sweeps.engine.step_shares import Held

# After waiting for room this long, say so.
_ROOM_SECONDS = 60.0


def result_of(task: Any) -> Any:
    """Wait for a task; raise the error it raised, without Ray's wrapper."""
    return cluster.result_of(
        task,
        "preparation must keep its workers, but lost one more often than resources.retries allows",
    )


class Tasks:
    """Starts functions as Ray tasks and waits for them; says so if there is no room for any."""

    def __init__(self, retries: int, arguments: dict[str, Any], say: Callable[[str], None]) -> None:
        """Store what is given.

        Args:
            retries: how often a task whose worker was lost is started again; artifacts are stored
                completely or not at all, so nothing is done twice.
            arguments: passed to every function by name.
            say: told, once, if nothing has begun for a minute.
        """
        self._retries = retries
        self._arguments = arguments
        self._say = say
        self._told = False
        self._name = uuid.uuid4().hex
        self._marks: dict[Any, tuple[str, Held]] = {}

    def start(self, function: Callable[..., Any], held: Held, *arguments: Any) -> Any:
        """Start a function as a task that waits for the tasks among its arguments; return it."""
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
            tasks: each after the ones it waits for.
        """
        while True:
            ready, others = ray.wait(list(tasks), timeout=None if self._told else _ROOM_SECONDS)
            if ready:
                self._forget(ready[0])
                return ready, others
            if not any(has_mark(self._marks[task][0]) for task in tasks):
                self._told = True
                self._say(_no_room(self._marks[tasks[0]][1]))

    def result(self, task: Any) -> Any:
        """Wait for a task; raise the error it raised."""
        try:
            self.wait([task])
            return result_of(task)
        except BaseException:
            # After Ctrl-C it would keep running on a joined cluster. Harmless if it has ended.
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
        drop_mark(self._marks[task][0])


def _begin(mark: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Leave a mark that the task has begun, which Ray does not tell, and run its function."""
    set_mark(mark)
    return function(*arguments, **named)


def _no_room(held: Held) -> str:
    gpu = f" and {held.gpu:g} GPU" if held.gpu else ""
    return (
        f"prepare: waiting for {_ROOM_SECONDS:.0f} s already: a task needs {held.threads} CPU{gpu} "
        f"on one node, but other work holds it (in use: {cluster.usage()}); it continues when "
        "there is room (Ctrl-C to stop)"
    )
