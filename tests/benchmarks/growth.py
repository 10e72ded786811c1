"""Cost as work grows: time of a trial's training against size, length, sparsity and OOD sets.

    python -m tests.benchmarks.growth                     MiniLM, random tokens, one thread

Straight lines are fitted; the slope of the first one is set against the floating-point operations
of a pair and the measured peak of matrix products. Peak memory is that of the process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rc_core.compression._base import CompressionContext
from rc_core.compression._layers import blocks
from rc_core.compression.magnitude import Compression, Config
from rc_core.config import TrainingConfig
from rc_core.data._encoding import Encoded
from rc_core.losses import vanilla
from rc_core.models import load_encoder
from rc_core.training import fit, predict
from tests.benchmarks import _harness as harness
from tests.benchmarks import _setup as setup

LABELS = ("a", "b", "c")


def random_pairs(count: int, length: int, seed: int = 0) -> Encoded:
    """Return samples of exactly `length` tokens each."""
    generator = np.random.default_rng(seed)
    return Encoded(
        token_ids=generator.integers(5, 90, count * length).astype(np.int32),
        offsets=np.arange(count + 1, dtype=np.int64) * length,
        labels=generator.integers(0, len(LABELS), count),
        pad_token_id=0,
        token_types=None,
        truncated=0,
    )


def trained_flop(model: nn.Module, length: int) -> float:
    """Return the floating-point operations that training needs for a sample's matrix products.

    Of the transformer blocks, forward and backward (three products for each weight, but the first
    block's inputs need no gradient where embeddings are frozen); of the last block only the first
    token's queries, output projection and feed-forward layer are needed.
    """
    config: Any = model.config
    hidden, inner, count = config.hidden_size, config.intermediate_size, len(blocks(model))
    weights = 4 * hidden**2 + 2 * hidden * inner
    keys = 2 * hidden**2
    scores = 2 * hidden * length  # per token: q k^T and weights v
    total = (count - 1) * length * (3 * 2 * weights + 3 * 2 * scores)
    total += length * 3 * 2 * keys + 3 * 2 * (weights - keys + scores)
    return float(total - length * 2 * 3 * hidden**2)


def train_seconds(
    model_name: str, encoded: Encoded, *, sparsity: float = 0.5, batch_size: int = 16
) -> float:
    """Return the processor seconds that one epoch of pruned training takes."""
    model = load_encoder(model_name, label_names=LABELS, seed=0)
    compression = Compression(Config(name="magnitude", sparsity=sparsity))
    context: Any = CompressionContext(lambda: iter(()), torch.device("cpu"))
    model = compression.prepare(model, context)
    training = TrainingConfig(epochs=1.0, batch_size=batch_size, rungs=1)
    loss = vanilla.Loss(vanilla.Config(name="vanilla"))
    started = time.process_time()
    for _ in fit(
        model,
        encoded,
        loss,
        training,
        precision="fp32",
        after_step=lambda done: compression.after_step(model, done),
    ):
        pass
    return time.process_time() - started


def peak_memory(run: Callable[[], object]) -> float:
    """Return the largest resident size during `run`, MiB. Linux only: resets the kernel's mark."""
    Path("/proc/self/clear_refs").write_text("5")
    run()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the kernel must say VmHWM, but does not")


def grow(
    values: Sequence[float], run: Callable[[float], float], repeats: int
) -> tuple[list[float], list[float]]:
    """Return each value's median processor seconds and peak memory; values take turns."""
    times: list[list[float]] = [[] for _ in values]
    peaks = [0.0] * len(values)
    for _ in range(repeats):
        for i, value in enumerate(values):
            peaks[i] = max(peaks[i], peak_memory(lambda v=value, t=times[i]: t.append(run(v))))  # type: ignore[misc]
    return [statistics.median(found) for found in times], peaks


def main() -> None:
    """Run the benchmark from the command line."""
    given = harness.options(__doc__, model=setup.MINILM, pairs=64, length=48)
    torch.set_num_threads(1)
    name, pairs, length = given.model, given.pairs, given.length
    train_seconds(name, random_pairs(pairs, length))  # memory the system has not given yet
    peak = harness.matmul_peak(1)
    model = load_encoder(name, label_names=LABELS, seed=0)
    flop = trained_flop(model, length)

    def ood(count: float) -> float:
        sets = [random_pairs(32, length, seed=i) for i in range(int(count))]
        started = time.process_time()
        for each in sets:
            predict(model, each)
        return time.process_time() - started

    cases: dict[str, tuple[Sequence[float], Callable[[float], float]]] = {
        f"training pairs (of {length} tokens)": (
            [pairs / 2, pairs, 1.5 * pairs, 2 * pairs],
            lambda n: train_seconds(name, random_pairs(int(n), length)),
        ),
        f"tokens of a pair ({pairs} pairs)": (
            [16, 32, 64, 96, 128],
            lambda n: train_seconds(name, random_pairs(pairs, int(n))),
        ),
        f"sparsity ({pairs} pairs of {length} tokens)": (
            [0.0, 0.3, 0.6, 0.9],
            lambda s: train_seconds(name, random_pairs(pairs, length), sparsity=s),
        ),
        f"OOD sets (32 pairs of {length} tokens each)": ([1, 2, 4, 8], ood),
    }
    lines = [
        "| grows | values | processor seconds | line: fixed + slope | R^2 | peak memory, MiB |",
        "|---|---|---|---|---|---|",
    ]
    notes = []
    for title, (values, run) in cases.items():
        seconds, peaks = grow(values, run, given.repeats)
        fixed, slope, explained = harness.line_fit(values, seconds)
        lines.append(
            f"| {title} | {', '.join(f'{v:g}' for v in values)} "
            f"| {', '.join(f'{s:.2f}' for s in seconds)} | {fixed:.2f} s + {slope:.4f} s "
            f"| {explained:.3f} | {', '.join(f'{p:.0f}' for p in peaks)} |"
        )
        if title.startswith("training pairs"):
            notes.append(
                f"A pair of {length} tokens needs {flop / 1e9:.2f} GFLOP of matrix products; the "
                f"slope of {1000 * slope:.1f} ms is {flop / slope / 1e9:.1f} GFLOP/s, "
                f"{100 * flop / slope / peak:.0f} % of the measured peak of {peak / 1e9:.1f}."
            )
    harness.say(__doc__, f"{name}, fp32.", "\n".join(lines), *notes)


if __name__ == "__main__":
    main()
