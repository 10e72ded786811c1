"""A training step on a GPU: launched kernel by kernel, replayed, and against the card's own peak.

    python -m tests.benchmarks.gpu_steps              MiniLM and BERT-base shapes, random weights

Steps prune half of the weights, embeddings frozen, bf16, all samples of one length. The peak is
that of large matrix products, measured in the same run; kernel times are torch's profiler's.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from transformers import BertConfig, BertForSequenceClassification

from rc_core.compression._base import CompressionContext
from rc_core.compression.magnitude import Compression, Config
from rc_core.config import TrainingConfig
from rc_core.losses import vanilla
from rc_core.training import fit
from tests.benchmarks import _harness as harness
from tests.benchmarks.growth import LABELS, random_pairs, trained_flop

# Name -> hidden size, blocks, heads, inner size, samples of a batch, tokens of a sample.
SHAPES: dict[str, tuple[int, int, int, int, int, int]] = {
    "MiniLM, 32 x 64 tokens": (384, 6, 12, 1536, 32, 64),
    "BERT-base, 32 x 64 tokens": (768, 12, 12, 3072, 32, 64),
    "BERT-base, 32 x 128 tokens": (768, 12, 12, 3072, 32, 128),
    "BERT-base of 3 blocks, 32 x 64 tokens": (768, 3, 12, 3072, 32, 64),
}
# Parts of the names that libraries give their kernels, by what these are for; the first that fits.
KINDS = {
    "optimizer, clipping, masks": ("multi_tensor", "lpnorm", "foreach"),
    "attention": ("fmha", "flash", "attention", "softmax"),
    "matrix products": ("gemm", "nvjet", "cutlass", "cublas", "splitk"),
    "layer norm": ("layer_norm", "layernorm", "gamma", "cunn"),
    "dropout": ("dropout", "philox", "masked_scale"),
    "activation": ("gelu", "tanh"),
    "copies between precisions": ("copy", "memcpy", "memset"),
    "sums (gradients of biases)": ("reduce",),
}


def encoder(shape: tuple[int, int, int, int, int, int], device: torch.device) -> nn.Module:
    """Return a BERT of random weights, of a shape of `SHAPES`."""
    hidden, count, heads, inner, _, _ = shape
    torch.manual_seed(0)
    config = BertConfig(  # type: ignore[call-arg]
        hidden_size=hidden,
        num_hidden_layers=count,
        num_attention_heads=heads,
        intermediate_size=inner,
        num_labels=len(LABELS),
    )
    with device:  # BERT-base's random numbers take seconds on a processor
        return cast(nn.Module, BertForSequenceClassification(config))


def step_seconds(
    shape: tuple[int, int, int, int, int, int],
    device: torch.device,
    *,
    steps: int,
    recordable: bool,
    kernels: Counter[str] | None = None,
) -> float:
    """Return the seconds of a training step, of the second half of `steps`.

    Args:
        shape: of `SHAPES`.
        device: where to.
        steps: an even number; recording and first uses fall into the first half.
        recordable: let a GPU replay them.
        kernels: gets the seconds of a step by kind of kernel, of steps that are not timed.
    """
    model = encoder(shape, device)
    *_, batch_size, length = shape
    data = random_pairs(batch_size * steps, length)
    # All prunings fall into the first half: 20 of a thousand steps would be too many of 50.
    compression = Compression(Config(name="magnitude", sparsity=0.5, ramp=0.3))
    context: Any = CompressionContext(lambda: iter(()), device)
    model = compression.prepare(model, context)
    rungs = 3 if kernels is not None else 2
    training = TrainingConfig(epochs=1.0, batch_size=batch_size, rungs=rungs)
    points = fit(
        model,
        data,
        vanilla.Loss(vanilla.Config(name="vanilla")),
        training,
        precision="bf16",
        after_step=lambda done: compression.after_step(model, done),
        recordable=recordable,
    )
    first, second = next(points), next(points)
    if kernels is not None:
        _profile(points, second.step, steps, kernels)
    return (second.seconds - first.seconds) / (second.step - first.step)


def _profile(points: Any, start: int, end: int, kernels: Counter[str]) -> None:
    """Run the rest of a training under the profiler; add each kernel's seconds of a step."""
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        next(points)
    for event in found.key_averages():
        kernels[kind_of(event.key)] += event.self_device_time_total / 1e6 / (end - start)


def kind_of(kernel: str) -> str:
    """Return what a kernel is for, by its name."""
    name = kernel.lower()
    for kind, parts in KINDS.items():
        if any(part in name for part in parts):
            return kind
    return "everything else (element by element)"


def peak(device: torch.device, *, size: int = 8192, repeats: int = 10) -> float:
    """Return the bf16 matrix products of random numbers that a GPU does at its best, in FLOP/s."""
    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    times = []
    for _ in range(repeats + 3):
        begin, finish = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        torch.mm(left, right)
        finish.record()
        finish.synchronize()
        times.append(begin.elapsed_time(finish) / 1e3)
    return float(2 * size**3 / min(times[3:]))


def main() -> None:
    """Run the benchmark from the command line."""
    given = harness.options(__doc__, steps=60)
    if not torch.cuda.is_available():
        raise SystemExit("a CUDA device must be there, but there is none")
    device = torch.device("cuda")
    best = peak(device)
    figures = harness.Figures(given.append)
    notes = []
    for name, shape in SHAPES.items():
        for recordable in (False, True):  # kernels that are compiled or chosen at first use
            step_seconds(shape, device, steps=8, recordable=recordable)
        for turn in range(given.repeats):
            order = [False, True] if turn % 2 else [True, False]
            found = {
                side: 1e3 * step_seconds(shape, device, steps=given.steps, recordable=side)
                for side in order
            }
            figures.add(name, **{"launched": found[False], "replayed": found[True]})
        kernels: Counter[str] = Counter()
        step_seconds(shape, device, steps=given.steps, recordable=True, kernels=kernels)
        replayed = sum(figures.rows[name]["replayed"]) / len(figures.rows[name]["replayed"]) / 1e3
        *_, batch_size, length = shape
        flop = batch_size * trained_flop(encoder(shape, torch.device("cpu")), length)
        parts = ", ".join(f"{kind} {100 * s / replayed:.0f} %" for kind, s in kernels.most_common())
        notes.append(
            f"- {name}: {flop / 1e12:.3f} TFLOP of matrix products a step, "
            f"{100 * flop / replayed / best:.1f} % of the peak; a replayed step's time by kernel: "
            f"{parts}; no kernel {100 * (1 - sum(kernels.values()) / replayed):.0f} %"
        )
    harness.say(
        __doc__,
        f"Peak {best / 1e12:.0f} TFLOP/s.",
        figures.table("launched", "replayed", "ms"),
        "\n".join(notes),
    )


if __name__ == "__main__":
    main()
