"""Estimates a trial's time when none like it has run, by timing one block of the encoder.

Nothing is loaded or downloaded: the block has the encoder's shape and random weights. This takes a
second, or a few for a large encoder.
"""

from __future__ import annotations

import re
import time
from itertools import islice

import torch
from torch import nn

from rc_core.config import TrainingConfig
from rc_core.data._task import DEV_ROLES, Split, Task
from rc_core.forward import autocast
from rc_core.model_facts import ModelFacts
from rc_core.precision import EMULATED

# A WordPiece vocabulary knows most words and punctuation marks as a whole.
_PIECES = re.compile(r"\w+|[^\w\s]")
_PIECES_PER_WORD = 1.15
_SAMPLES = 500
_REPEATS = 3
# Of a larger batch only this many tokens are timed; time is proportional to the tokens.
_MOST_TOKENS = 1_024


def rough_seconds(training: TrainingConfig, facts: ModelFacts, task: Task, threads: int) -> float:
    """Return about how many seconds a trial trains and evaluates on the CPU.

    For a dense encoder with plain cross-entropy and all weights trained: a student takes less, a
    loss that needs more passes takes more.

    Args:
        training: the trials'.
        facts: the encoder's.
        task: the loaded task.
        threads: threads of a trial; at least 1.
    """
    (train,) = task.of_role("train")
    evaluated = [split for role in DEV_ROLES for split in task.of_role(role)]
    tokens = max(2, round(_mean_tokens(train, training.max_length)))
    batch = max(1, min(training.batch_size, _MOST_TOKENS // tokens))
    step, forward = _block_seconds(facts, batch, tokens, training.precision, threads)
    trained = len(train) * training.epochs * step / batch
    return facts.num_layers * (trained + sum(map(len, evaluated)) * forward / batch)


def _mean_tokens(split: Split, most: int) -> float:
    """Return about how many tokens a sample has, special ones included, once cut to `most`."""
    every = max(1, len(split) // _SAMPLES)
    lengths = []
    for texts in islice(split.texts(), 0, None, every):
        parts = [len(_PIECES.findall(text)) for text in texts if text]
        lengths.append(min(most, _PIECES_PER_WORD * sum(parts) + 1 + len(parts)))
    return sum(lengths) / len(lengths)


def _block_seconds(
    facts: ModelFacts, batch: int, tokens: int, precision: str, threads: int
) -> tuple[float, float]:
    """Return the seconds of a training step, in the faster precision allowed, and of a forward."""
    block = _block(facts)
    optimizer = torch.optim.AdamW(block.parameters(), lr=0.0, fused=True)
    width, cpu = block.linear1.in_features, torch.device("cpu")

    def seconds(samples: int, *, bf16: bool, train: bool, repeats: int = _REPEATS) -> float:
        states = torch.randn(samples, tokens, width)
        found = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            with torch.set_grad_enabled(train), autocast(cpu, "bf16" if bf16 else "fp32"):
                output = block(states)
            if train:
                output.float().square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
            found.append(time.perf_counter() - start)
        # Other load only adds time, so take the minimum; the first run is a warm-up.
        return min(found[1:])

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        forward = seconds(batch, bf16=False, train=False)
        steps = []
        if precision != "bf16":
            steps.append(seconds(batch, bf16=False, train=True))
        if precision == "bf16" or (
            precision == "auto"
            and seconds(2, bf16=True, train=True, repeats=1)
            < EMULATED * seconds(2, bf16=False, train=True, repeats=1)
        ):
            steps.append(seconds(batch, bf16=True, train=True))
        return min(steps), forward
    finally:
        torch.set_num_threads(before)


def _block(facts: ModelFacts) -> nn.TransformerEncoderLayer:
    width, inner = min(facts.widths), max(facts.widths)
    heads = facts.num_heads if width % facts.num_heads == 0 else 1
    return nn.TransformerEncoderLayer(
        width, heads, dim_feedforward=inner, activation="gelu", batch_first=True
    )
