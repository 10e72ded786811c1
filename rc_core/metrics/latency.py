"""How long a model computes on one batch, measured separately after training.

A time depends on the machine and on what else it does, so it steers no search. Models are timed in
turn, round by round in one process, and what can be compared is a model's time over the dense
reference's in the same round. How precise that is follows from the rounds themselves: see
`median_interval`.
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
# Coverage of an interval, and the fewest rounds that have one: the widest of five covers 94 %.
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

    In each round every run has one turn, and each round starts with another run. A turn is two
    calls, of which the second is timed: the first refills the caches that the other models
    displaced, as if the model served alone.

    Args:
        runs: name -> computes one batch.
        rounds: at least 1; `WARM_UP` more run before them and are not timed.
        clock: returns seconds.
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
        seconds: per batch, for each round.
        reference: the dense reference's, for the same rounds.
        batch: samples per batch.
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
    """Return the 95 % interval of every metric of `METRICS`, None if there are too few rounds.

    Args:
        seconds: per batch, for each round.
        reference: the dense reference's, for the same rounds.
        batch: samples per batch.
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

    The median of the distribution that n values are drawn from lies between the k-th smallest and
    the k-th largest value unless fewer than k of them fall on one side of it, which has a binomial
    probability. No shape is assumed: times on a busy machine have long tails.
    """
    n = len(values)
    if n < LEAST_ROUNDS:
        return None
    # Integers, because 2 to the power of some thousand rounds exceeds a float.
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
        models: name -> sequence classifier of transformers; they stay on the device they are moved
            to.
        batch: samples per batch.
        length: tokens per sample, without padding; at most what the encoders have positions for.
        rounds: at least 1.
        threads: number of torch's threads in this process while it measures.
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
    """Return the inputs of text pairs: random tokens without padding, the same in every call.

    The second half of each sample is the second text, if the encoder distinguishes the two.
    """
    import torch

    config: Any = model.config
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, config.vocab_size, (batch, length), generator=generator)
    # RoBERTa gives padding tokens no position, even if the mask includes them.
    if config.pad_token_id is not None:
        tokens[tokens == config.pad_token_id] = 0 if config.pad_token_id else 1
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    # DistilBERT has no token types, RoBERTa a single one.
    if getattr(config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = (torch.arange(length) >= length // 2).long().repeat(batch, 1)
    return inputs
