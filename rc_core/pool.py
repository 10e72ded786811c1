"""Where the trials of a list run: in this process, or in worker processes that end with it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import connection
from typing import Any

import torch


@contextlib.contextmanager
def open_pool(num_jobs: int) -> Iterator[Executor]:
    """Yield an executor, and wait at the end for what has started.

    On an interrupt, the workers are terminated instead, as waiting may take hours.

    Args:
        num_jobs: number of worker processes, which share this one's threads; with 1, tasks run
            immediately, in this process.
    """
    if num_jobs == 1:
        yield InProcess()
        return
    threads = max(1, torch.get_num_threads() // num_jobs)
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(
        num_jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin_worker,
        initargs=(threads,),
    )
    with pool:
        try:
            yield pool
        except (KeyboardInterrupt, GeneratorExit):
            for worker in multiprocessing.active_children():
                if worker not in others:
                    worker.terminate()
            raise


class InProcess(Executor):
    """Runs each task immediately, in this process."""

    def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a task and return its future, which is done."""
        future: Future[Any] = Future()
        self._fulfil(future, task, *args, **kwargs)
        return future

    @staticmethod
    def _fulfil(
        future: Future[Any] | None, task: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        assert future is not None
        try:
            future.set_result(task(*args, **kw))
        except Exception as error:
            future.set_exception(error)
            # The error's traceback refers to this frame: a cycle that would keep a model alive.
            future = None


def _begin_worker(threads: int) -> None:
    """Limit a worker's threads, and let it end with its parent process, however that ends.

    Whoever kills the parent wants the trials to stop; an orphaned worker would wait forever and
    keep its memory on the GPU.
    """
    # Ctrl-C reaches every process of a terminal; the parent process terminates the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
