"""Attention heads as units that can be measured, cut out, and put back as zeros.

A block's attention is four linear layers: query, key and value give each head its own rows, the
output projection its own columns. transformers 5 infers the number of heads from the size of the
projections, so a block with smaller ones runs as it is; only reloading needs to know
(`heads.restore`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rc_core.compression._layers import linears
from rc_core.errors import ModelError

# (query, key, value, output) of a block: BERT, RoBERTa and ELECTRA; DistilBERT.
_PLACES = (
    (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
    ),
    ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
)


@dataclass(frozen=True)
class Attention:
    """The four projections of one block.

    Attributes:
        inputs: query, key and value, each hidden -> heads * head_size.
        output: heads * head_size -> hidden.
    """

    inputs: tuple[nn.Linear, nn.Linear, nn.Linear]
    output: nn.Linear

    def num_heads(self, head_size: int) -> int:
        return self.output.in_features // head_size


def attentions(model: nn.Module) -> list[Attention]:
    """Return the attention of every block, first to last.

    Raises:
        ModelError: unsupported encoder.
    """
    what = "its attention's query, key, value and output projections"
    return [Attention((q, k, v), output) for q, k, v, output in linears(model, _PLACES, what)]


def head_size(model: nn.Module) -> int:
    """Return the width of one head, from the model's config."""
    config: Any = model.config
    return int(config.hidden_size) // int(config.num_attention_heads)


def heads_per_layer(model: nn.Module) -> list[int]:
    """Return how many heads each block has. Raises ModelError."""
    size = head_size(model)
    return [attention.num_heads(size) for attention in attentions(model)]


@torch.no_grad()
def keep_heads(model: nn.Module, kept: Sequence[Sequence[int]]) -> None:
    """Reduce every block, in place, to some of its heads.

    The heads that stay are recorded in the model's config (`rc_kept_heads`), for reloading.

    Args:
        model: an encoder of L blocks.
        kept: per block, the positions of the heads that stay, increasing, at least one.
    """
    size = head_size(model)
    config: Any = model.config
    config.rc_kept_heads = [list(heads) for heads in kept]
    for attention, heads in zip(attentions(model), kept, strict=True):
        if len(heads) == attention.num_heads(size):
            continue
        rows = _rows(heads, size).to(attention.output.weight.device)
        for linear in attention.inputs:
            linear.weight = _like(linear.weight, linear.weight[rows])
            if linear.bias is not None:
                linear.bias = _like(linear.bias, linear.bias[rows])
            linear.out_features = len(rows)
        linear = attention.output
        linear.weight = _like(linear.weight, linear.weight[:, rows])
        linear.in_features = len(rows)


@torch.no_grad()
def restore_heads(model: nn.Module, kept: Sequence[Sequence[int]]) -> None:
    """Give every block its stock shape back, in place; removed heads become zeros.

    The logits stay the same: a head whose values are zero adds nothing through the output
    projection.

    Args:
        model: reduced by `keep_heads`.
        kept: as it was given there.
    """
    size = head_size(model)
    config: Any = model.config
    full = int(config.num_attention_heads) * size
    for attention, heads in zip(attentions(model), kept, strict=True):
        if attention.output.in_features == full:
            continue
        rows = _rows(heads, size).to(attention.output.weight.device)
        for linear in attention.inputs:
            weight = linear.weight.new_zeros(full, linear.in_features)
            weight[rows] = linear.weight
            linear.weight = _like(linear.weight, weight)
            if linear.bias is not None:
                bias = linear.bias.new_zeros(full)
                bias[rows] = linear.bias
                linear.bias = _like(linear.bias, bias)
            linear.out_features = full
        linear = attention.output
        weight = linear.weight.new_zeros(linear.out_features, full)
        weight[:, rows] = linear.weight
        linear.weight = _like(linear.weight, weight)
        linear.in_features = full


def normalised_by_layer(importance: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return importance divided by the Euclidean norm of its layer; zeros if that norm is zero."""
    norms = [math.hypot(*layer) for layer in importance]
    return [
        [value / norm if norm else 0.0 for value in layer]
        for layer, norm in zip(importance, norms, strict=True)
    ]


def lowest(
    importance: Sequence[Sequence[float]], count: int, *, min_per_layer: int
) -> list[list[int]]:
    """Return the heads that stay, per layer, when the `count` least important are removed.

    Heads of all layers are ranked together; a layer that is down to `min_per_layer` loses no more.
    Among equal ones, the earlier goes first.

    Args:
        importance: per layer and head.
        count: number of heads to remove.
        min_per_layer: at least 1.

    Raises:
        ModelError: that many cannot be removed.
    """
    sizes = [len(layer) for layer in importance]
    most = sum(max(size - min_per_layer, 0) for size in sizes)
    if count > most:
        raise ModelError(
            f"compression.remove asks for {count} of {sum(sizes)} heads, but at most {most} can go "
            f"with {min_per_layer} kept in each of {len(sizes)} layers; ask for fewer"
        )
    order = sorted(
        (value, layer, head)
        for layer, values in enumerate(importance)
        for head, value in enumerate(values)
    )
    kept = [set(range(size)) for size in sizes]
    for _, layer, head in order:
        if count == 0:
            break
        if len(kept[layer]) > min_per_layer:
            kept[layer].discard(head)
            count -= 1
    return [sorted(heads) for heads in kept]


def _rows(heads: Sequence[int], size: int) -> Tensor:
    """Return the rows of the projections that belong to some heads."""
    return torch.cat([torch.arange(head * size, (head + 1) * size) for head in heads])


def _like(old: Tensor, new: Tensor) -> nn.Parameter:
    """Return a parameter with other values, trainable if the old one is."""
    return nn.Parameter(new.detach().clone().contiguous(), requires_grad=old.requires_grad)
