"""Threads against processes on the CPU: pairs per second of the whole machine.

    python -m tests.benchmarks.threads                    one process of 2 threads, two of 1 thread

Each process trains its own magnitude-pruned MiniLM on its own copy of the same FEVER pairs; the
processes start together. Loading and tokenising are left out.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import _harness as harness
from tests.benchmarks import _setup as setup


def _train(
    task: dict[str, Any], model: str, threads: int, folder: str, start: Any, out: Any
) -> None:
    import torch

    from rc_core.compression._base import CompressionContext
    from rc_core.compression.magnitude import Compression
    from rc_core.losses import vanilla
    from rc_core.models import load_encoder
    from rc_core.training import fit
    from rc_core.workspace import Workspace

    torch.set_num_threads(threads)
    config = setup.trial(model, task, compression={"name": "magnitude", "sparsity": 0.5})
    data = Workspace(folder).data(config)
    train = data.encoded(data.task.train)
    net = load_encoder(model, label_names=data.task.label_names, seed=0)
    compression: Any = Compression(config.compression)  # type: ignore[arg-type]
    context: Any = CompressionContext(lambda: iter(()), torch.device("cpu"))
    net = compression.prepare(net, context)
    loss = vanilla.Loss(vanilla.Config(name="vanilla"))

    def epoch(seed: int) -> None:
        training = config.training.model_copy(update={"rungs": 1, "seed": seed})
        for _ in fit(
            net,
            train,
            loss,
            training,
            precision="fp32",
            after_step=lambda done: compression.after_step(net, done),
        ):
            pass

    epoch(1)  # the first one pays for memory that the system has not given yet
    start.wait()
    began = time.time()
    epoch(2)
    out.put((began, time.time()))


def pairs_per_second(
    task: dict[str, Any], model: str, folder: str, *, processes: int, threads: int, pairs: int
) -> float:
    """Return the pairs that all processes together train on in a second."""
    context = multiprocessing.get_context("spawn")
    start, out = context.Barrier(processes), context.SimpleQueue()
    workers = [
        context.Process(target=_train, args=(task, model, threads, folder, start, out))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    spans: list[tuple[float, float]] = [out.get() for _ in workers]
    return processes * pairs / (max(end for _, end in spans) - min(begin for begin, _ in spans))


def main() -> None:
    """Run the benchmark from the command line."""
    given = harness.options(__doc__, model=setup.MINILM, pairs=128, cores=2)
    figures = harness.Figures(given.append)
    with tempfile.TemporaryDirectory() as name:
        task = setup.fever(Path(name) / "data", train=given.pairs, dev=60)

        def side(processes: int, threads: int) -> Any:
            return lambda _: pairs_per_second(
                task, given.model, name, processes=processes, threads=threads, pairs=given.pairs
            )

        n = given.cores
        sides = {f"{n} x 1 thread": side(n, 1), f"1 x {n} threads": side(1, n)}
        for found in harness.alternate(sides, given.repeats):
            figures.add("pairs/s", **{name: each.result for name, each in found.items()})
    many, one = list(sides)
    peak = harness.matmul_peak(1) / 1e9
    rate = statistics.median(figures.rows["pairs/s"][many])
    harness.say(
        __doc__,
        f"{given.model}, {given.pairs} pairs, fp32. Peak of one thread {peak:.0f} GFLOP/s; "
        f"{rate / n:.1f} pairs/s a core.",
        figures.table(many, one, "pairs/s", digits=1),
    )


if __name__ == "__main__":
    main()
