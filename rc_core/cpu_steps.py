"""Training steps on a CPU without their two largest costs besides matrix products.

On a CPU, torch draws dropout's random numbers one by one, and attention with dropout falls back to
a path that multiplies in float32 and checks every row for -inf. Together they cost a quarter of a
step of a small encoder. Inside `fast_steps` both are replaced by equivalents: the same
distributions and formulas, but other random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

_NAME = "rc_cpu"
_LANES = 4  # 16-bit numbers in one 64-bit draw
_LEVELS = 1 << 16


class FastDropout(nn.Module):
    """Dropout whose mask is cut from 64-bit draws, four entries per draw.

    The probability is rounded to a multiple of 1 / 65,536. Kept entries are scaled by the rounded
    one, so the expectation is exact.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, hidden: Tensor) -> Tensor:
        return dropout(hidden, self.p) if self.training else hidden


def dropout(hidden: Tensor, p: float) -> Tensor:
    """Return `hidden` with entries zeroed with probability p and the rest scaled by 1 / (1 - p).

    Args:
        hidden: any shape, on the CPU.
        p: in [0, 1). Draws follow torch's own seed (`torch.manual_seed`).
    """
    dropped = round(p * _LEVELS)
    if dropped == 0:
        return hidden
    count = hidden.numel()
    # A new generator per call costs microseconds and leaves torch's state the only random state.
    seed = int(torch.randint(0, 2**63 - 1, ()))
    generator = np.random.Generator(np.random.SFC64(seed))
    draws = generator.integers(0, 2**64, math.ceil(count / _LANES), dtype=np.uint64)
    lanes = torch.from_numpy(draws.view(np.int16))[:count].view(hidden.shape)
    kept = (lanes >= dropped - _LEVELS // 2).to(hidden.dtype)
    return hidden * kept.mul_(_LEVELS / (_LEVELS - dropped))


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Return softmax(q k^T scaling + mask) v with dropout on the weights, as transformers calls it.

    Args:
        module: not used.
        query: (B, H, T, D).
        key: (B, H, T, D).
        value: (B, H, T, D).
        attention_mask: (B, 1, 1, T), added to the scores; None if nothing is padded.
        scaling: by default 1 / sqrt(D).
        dropout: probability, on the attention weights, in [0, 1).
        rest: further arguments of transformers; not used.

    Returns:
        (B, T, H, D), None.
    """
    del module, rest
    scores = torch.matmul(query * (scaling or query.shape[-1] ** -0.5), key.transpose(2, 3))
    # Softmax in float32, as in SDPA; the bf16 kernel is slower than both conversions together.
    scores = scores.float()
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = torch.softmax(scores, dim=-1).to(value.dtype)
    if dropout:
        weights = _dropout(weights, dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


# Inside `attention`, transformers' argument name `dropout` hides the function.
_dropout = dropout


def padding_mask(attention_mask: Tensor | None = None, **rest: Any) -> Tensor | None:
    """Return what to add to the scores, (B, 1, 1, T) float32; None if nothing is padded."""
    del rest
    if attention_mask is None or bool(attention_mask.all()):
        return None
    padded = ~attention_mask.bool()[:, None, None, :]
    return torch.zeros(padded.shape).masked_fill_(padded, torch.finfo(torch.float32).min)


def _attends_to_all(config: Any) -> bool:
    """Tell whether every token attends to every other, and each head has its own keys."""
    heads = getattr(config, "num_attention_heads", None)
    kinds = getattr(config, "layer_types", None) or ()
    keys = getattr(config, "num_key_value_heads", None)
    return set(kinds) <= {"full_attention"} and keys in (None, heads)


AttentionInterface.register(_NAME, attention)
AttentionMaskInterface.register(_NAME, padding_mask)


@contextmanager
def fast_steps(model: nn.Module) -> Iterator[None]:
    """Make training `model` faster while inside; restore it afterwards. Does nothing on a GPU.

    Args:
        model: a transformers encoder. Attention other than SDPA (the default), and local attention
            (ModernBERT), are left alone.
    """
    if next(model.parameters()).device.type != "cpu":
        yield
        return
    swapped = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Dropout and child.p > 0
    ]
    config: Any = getattr(model, "config", None)
    uses_sdpa = getattr(config, "_attn_implementation", None) == "sdpa" and _attends_to_all(config)
    try:
        for parent, name, child in swapped:
            setattr(parent, name, FastDropout(child.p).train(child.training))
        if uses_sdpa:
            config._attn_implementation = _NAME
        yield
    finally:
        for parent, name, child in swapped:
            setattr(parent, name, child.train(parent.training))
        if uses_sdpa:
            config._attn_implementation = "sdpa"
