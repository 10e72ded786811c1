"""How long a model computes on one batch, measured alone after training.

A time depends on the machine and on what else it does, so it steers no search: models are timed in
turn, round by round in one process, and what compares is a model's time over the dense reference's
of the same round. How well that is known, the rounds themselves say: see `median_interval`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from rc_core.metrics._base import Metric, catalogue

if TYPE_CHECKING:
    import torch
    from torch import nn

MILLISECONDS, RELATIVE = "latency/milliseconds", "latency/relative"
SAMPLES_PER_SECOND = "latency/samples_per_second"
METRICS: dict[str, Metric] = catalogue(
    Metric(MILLISECONDS, "min", "median time of one batch of samples of a stated length"),
    Metric(RELATIVE, "min", "time / dense reference's of the same round; median over rounds"),
    Metric(SAMPLES_PER_SECOND, "max", "samples of that batch / its median time"),
)
WARM_UP = 3
# Coverage of an interval, and the fewest rounds that have one: with five the widest covers 94 %.
LEVEL = 0.95
LEAST_ROUNDS = 6


def in_turn(
    runs: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    synchronise: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Return the seconds of each run in each round.

    In a round every run has its turn, and each round begins with another one. A turn is two calls,
    of which the second is timed: the first brings back what the other models pushed out of the
    caches, as a model that serves alone finds it.

    Args:
        runs: name -> computes one batch.
        rounds: at least 1; `WARM_UP` more come before them and are not timed.
        clock: seconds.
        synchronise: returns when the device has nothing left to do.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(-WARM_UP, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            runs[name]()
            synchronise()
            begin = clock()
            runs[name]()
            synchronise()
            elapsed = clock() - begin
            if number >= 0:
                seconds[name].append(elapsed)
    return seconds


def latency(seconds: Sequence[float], reference: Sequence[float], batch: int) -> dict[str, float]:
    """Return every metric of `METRICS`.

    Args:
        seconds: of one batch, per round.
        reference: the dense reference's, of the same rounds.
        batch: samples in it.
    """
    middle = median(seconds)
    return {
        MILLISECONDS: 1000 * middle,
        RELATIVE: median(ratios(seconds, reference)),
        SAMPLES_PER_SECOND: batch / middle,
    }


def intervals(
    seconds: Sequence[float], reference: Sequence[float], batch: int
) -> dict[str, list[float] | None]:
    """Return the 95 % interval of every metric of `METRICS`, None where there are too few rounds.

    Args:
        seconds: of one batch, per round.
        reference: the dense reference's, of the same rounds.
        batch: samples in it.
    """
    return {
        MILLISECONDS: median_interval([1000 * each for each in seconds]),
        RELATIVE: median_interval(ratios(seconds, reference)),
        SAMPLES_PER_SECOND: median_interval([batch / each for each in seconds]),
    }


def ratios(seconds: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Return a run's time over the reference's, round by round."""
    return [own / other for own, other in zip(seconds, reference, strict=True)]


def median_interval(values: Sequence[float]) -> list[float] | None:
    """Return the 95 % interval of a median from the order of the values, None for fewer than 6.

    Of n values the median of what they are drawn from lies between the k-th smallest and the k-th
    largest unless fewer than k fall on one side of it, which a fair coin does so often. It
    assumes no shape: times on a busy machine have long tails.
    """
    n = len(values)
    if n < LEAST_ROUNDS:
        return None
    # Whole numbers: 2 to the power of some thousand rounds is no float.
    k, tail = 0, 1
    while tail / 2**n <= (1 - LEVEL) / 2:
        k += 1
        tail += math.comb(n, k)
    ordered = sorted(values)
    return [ordered[k - 1], ordered[n - k]]


def time_models(
    models: Mapping[str, nn.Module],
    *,
    batch: int,
    length: int,
    rounds: int,
    threads: int,
    device: torch.device,
) -> dict[str, list[float]]:
    """Return the seconds that each classifier takes for one batch, per round; see `in_turn`.

    Args:
        models: name -> sequence classifier of transformers; they stay where they are moved to.
        batch: samples.
        length: tokens of each, no padding among them; at most what the encoders have positions for.
        rounds: at least 1.
        threads: of torch in this process, while it measures.
        device: where they compute.
    """
    # Imported late: the list of metrics has to start without torch.
    import torch

    def run(model: nn.Module) -> Callable[[], object]:
        model = model.to(device).eval()
        inputs = {key: each.to(device) for key, each in batch_of(model, batch, length).items()}
        return lambda: model(**inputs).logits

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            runs = {name: run(model) for name, model in models.items()}
            if device.type == "cuda":
                return in_turn(
                    runs, rounds=rounds, synchronise=lambda: torch.cuda.synchronize(device)
                )
            return in_turn(runs, rounds=rounds)
    finally:
        torch.set_num_threads(before)


def batch_of(model: nn.Module, batch: int, length: int) -> dict[str, torch.Tensor]:
    """Return the inputs of text pairs: random tokens, the same in every call, none of them padding.

    The second half of each is the second text, where the encoder tells the two apart.
    """
    import torch

    config: Any = model.config
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, config.vocab_size, (batch, length), generator=generator)
    # RoBERTa gives padding no position, even where the mask lets it take part.
    if config.pad_token_id is not None:
        tokens[tokens == config.pad_token_id] = 0 if config.pad_token_id else 1
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    # DistilBERT has no types, RoBERTa one.
    if getattr(config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = (torch.arange(length) >= length // 2).long().repeat(batch, 1)
    return inputs
