"""Where an encoder keeps its embeddings and its transformer blocks.

BERT, RoBERTa and ELECTRA hold their blocks in `encoder.layer`, DistilBERT in `transformer.layer`;
encoders built the same way work too. Anything else is refused rather than guessed at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from rc_core.errors import ModelError

_HOLDERS = ("encoder", "transformer")


def blocks(model: nn.Module) -> nn.ModuleList:
    """Return the transformer blocks of an encoder, first to last.

    Raises:
        ModelError: the model keeps no list of blocks where the supported encoders do.
    """
    layers = _holder(model).layer
    assert isinstance(layers, nn.ModuleList)
    return layers


def linears(
    model: nn.Module, places: Sequence[Sequence[str]], what: str
) -> list[tuple[nn.Linear, ...]]:
    """Return linear layers of every block, first to last.

    Args:
        model: an encoder.
        places: names of the layers inside a block, for each kind of encoder; the first fits whose
            layers are all there.
        what: they are, for people.

    Raises:
        ModelError: unsupported encoder.
    """
    found = [next(_at_places(block, places), None) for block in blocks(model)]
    whole = [layers for layers in found if layers is not None]
    if len(whole) < len(found):
        raise ModelError(
            f"model must keep {what} where BERT or DistilBERT do, but {type(model).__name__} does "
            "not; take another encoder"
        )
    return whole


def embeddings(model: nn.Module) -> list[nn.Module]:
    """Return the embeddings: the tables with their norm, and ELECTRA's projection to hidden size.

    Raises:
        ModelError: the encoder has no module `embeddings`.
    """
    base = _base(model)
    found = [getattr(base, name, None) for name in ("embeddings", "embeddings_project")]
    if not isinstance(found[0], nn.Module):
        raise ModelError(_refusal(model, "has no module `embeddings`"))
    return [module for module in found if isinstance(module, nn.Module)]


def keep_blocks(model: nn.Module, keep: Sequence[int]) -> None:
    """Reduce the encoder, in place, to the blocks at `keep`, in that order; its config follows.

    Args:
        model: an encoder with L blocks and its transformers config.
        keep: positions in 0 ... L - 1.

    Raises:
        ModelError: unsupported encoder.
    """
    layers = blocks(model)
    holder: Any = _holder(model)
    holder.layer = nn.ModuleList([layers[position] for position in keep])
    if hasattr(holder, "n_layers"):
        holder.n_layers = len(keep)
    # DistilBERT's config maps this name to its own `n_layers`.
    config: Any = model.config
    config.num_hidden_layers = len(keep)


def _at_places(
    block: nn.Module, places: Sequence[Sequence[str]]
) -> Iterator[tuple[nn.Linear, ...]]:
    for names in places:
        try:
            found = [block.get_submodule(name) for name in names]
        except AttributeError:
            continue
        layers = tuple(each for each in found if isinstance(each, nn.Linear))
        if len(layers) == len(names):
            yield layers


def _base(model: nn.Module) -> nn.Module:
    base = getattr(model, "base_model", model)
    assert isinstance(base, nn.Module)
    return base


def _holder(model: nn.Module) -> nn.Module:
    base = _base(model)
    for name in _HOLDERS:
        holder = getattr(base, name, None)
        if isinstance(holder, nn.Module) and isinstance(
            getattr(holder, "layer", None), nn.ModuleList
        ):
            return holder
    raise ModelError(_refusal(model, "keeps its blocks in neither"))


def _refusal(model: nn.Module, why: str) -> str:
    return (
        "model must be an encoder with its transformer blocks in encoder.layer (BERT, RoBERTa, "
        f"ELECTRA) or transformer.layer (DistilBERT), but {type(model).__name__} {why}; "
        "take an encoder of one of these families"
    )
