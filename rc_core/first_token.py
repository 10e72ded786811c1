"""Computing the last block for the first token only: all that a classification head reads of it.

Sequence classifiers of the four supported families take the final hidden state of the first token
and drop the others. In the last block those others are needed only as keys and values. Their
queries, their output projection and their feed-forward layer are work whose result is thrown away:
a seventh of the cost of a six-layer encoder. Logits and gradients are the same up to rounding;
dropout in that block draws fewer random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface

from rc_core.compression._layers import blocks

# Families whose blocks look as the functions below expect, and whose head reads token 0.
_LIKE_BERT = ("bert", "electra", "roberta")
_LIKE_DISTILBERT = ("distilbert",)
# Attention implementations that accept fewer queries than keys with the masks of transformers.
_ATTENTIONS = ("sdpa", "rc_cpu")
_INTERFACES = AttentionInterface()


@contextmanager
def first_token_only(model: nn.Module) -> Iterator[None]:
    """Compute the last block for the first token only while inside; restore the model afterwards.

    Inside, hidden states of the last block are (B, 1, H). Other models are left alone, and so are
    models with attention other than SDPA (the default). The same holds if a module that would be
    bypassed, or one that reads the block's output, is not as transformers made it: it has its own
    class or `forward`, or hooks that would not be called.

    Args:
        model: a sequence classifier of transformers.
    """
    config: Any = getattr(model, "config", None)
    kind = getattr(config, "model_type", None)
    wanted = (
        type(model).__name__.endswith("ForSequenceClassification")
        and getattr(config, "_attn_implementation", None) in _ATTENTIONS
    )
    target: Any = None
    if wanted and kind in (*_LIKE_BERT, *_LIKE_DISTILBERT):
        block: Any = blocks(model)[-1]
        if _is_stock(model, kind, block):
            target = block.attention if kind in _LIKE_BERT else block
            make = _bert_attention if kind in _LIKE_BERT else _distilbert_block
            target.forward = make(target)
    try:
        yield
    finally:
        if target is not None:
            # Uncovers the class's own `forward`.
            del target.forward


def _is_stock(model: Any, kind: str, block: Any) -> bool:
    """Tell whether the functions below can bypass parts of a block without losing anything."""
    # BERT's attention module is still called, hooks included; the module it holds as `self` is not.
    attention = getattr(block, "attention", None)
    bypassed = getattr(attention, "self", None) if kind in _LIKE_BERT else attention
    # Whatever reads the block's output must read the first token only: the rest of the model, and
    # the head unless it is a linear layer (in BERT and DistilBERT the pooler or the model itself
    # takes the first token before that).
    base = model.base_model
    heads = [getattr(model, "classifier", None), getattr(base, "pooler", None)]
    heads = [head for head in heads if head is not None and type(head) is not nn.Linear]
    stack = getattr(base, "encoder" if kind in _LIKE_BERT else "transformer", None)
    modules = (model, base, stack, block, attention, bypassed, *heads)
    origin = f"transformers.models.{kind}.modeling_{kind}"
    stock = all(
        type(module).__module__ == origin and "forward" not in vars(module) for module in modules
    )
    return stock and not _has_hooks(bypassed)


def _has_hooks(module: Any) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _bert_attention(attention: Any) -> Any:
    """Return a new forward for a block's attention, with its projection and residual."""

    def forward(
        hidden_states: Tensor, attention_mask: Tensor | None = None, **rest: Any
    ) -> tuple[Tensor, None]:
        inner = attention.self
        projections = (inner.query, inner.key, inner.value)
        attended = _attend(inner, projections, hidden_states, attention_mask, rest)
        return attention.output(attended, hidden_states[:, :1]), None

    return forward


def _distilbert_block(block: Any) -> Any:
    """Return a new forward for a whole block."""

    def forward(hidden_states: Tensor, attention_mask: Tensor | None = None, **rest: Any) -> Tensor:
        inner = block.attention
        projections = (inner.q_lin, inner.k_lin, inner.v_lin)
        attended = _attend(inner, projections, hidden_states, attention_mask, rest)
        hidden = block.sa_layer_norm(inner.out_lin(attended) + hidden_states[:, :1])
        found: Tensor = block.output_layer_norm(block.ffn(hidden) + hidden)
        return found

    return forward


def _attend(
    module: Any,
    projections: Sequence[nn.Module],
    hidden: Tensor,
    mask: Tensor | None,
    rest: dict[str, Any],
) -> Tensor:
    """Return the attention output of the first token, (B, 1, heads * head size).

    Args:
        module: holds the head size, the scaling, dropout on the weights, and the config.
        projections: query, key, value.
        hidden: (B, T, H).
        mask: (B, 1, 1 or T, T), or None if nothing is padded.
        rest: further arguments of transformers, passed on.
    """
    inputs = (hidden[:, :1], hidden, hidden)
    query, key, value = (
        projection(part).unflatten(-1, (-1, module.attention_head_size)).transpose(1, 2)
        for projection, part in zip(projections, inputs, strict=True)
    )
    function: Any = _INTERFACES[module.config._attn_implementation]
    found: Tensor = function(
        module,
        query,
        key,
        value,
        None if mask is None else mask[:, :, :1],
        dropout=module.dropout.p if module.training else 0.0,
        scaling=module.scaling,
        **rest,
    )[0]
    return found.flatten(2)
