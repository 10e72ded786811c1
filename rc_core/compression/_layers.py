"""Where an encoder keeps its embeddings and its transformer blocks.

BERT, RoBERTa and ELECTRA hold their blocks in `encoder.layer`, DistilBERT in `transformer.layer`,
ModernBERT in `layers` beside its `embeddings`. Encoders laid out the same way work too; anything
else is rejected rather than guessed at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from rc_core.errors import ModelError

# (module inside the encoder, "" for the encoder itself; name of the list of blocks in it).
_PLACES = (("encoder", "layer"), ("transformer", "layer"), ("", "layers"))


def blocks(model: nn.Module) -> nn.ModuleList:
    """Return the transformer blocks of an encoder, first to last.

    Raises:
        ModelError: the model has no list of blocks where the supported encoders keep theirs.
    """
    holder, name = _holder(model)
    layers = getattr(holder, name)
    assert isinstance(layers, nn.ModuleList)
    return layers


def linears(
    model: nn.Module, places: Sequence[Sequence[str]], what: str
) -> list[tuple[nn.Linear, ...]]:
    """Return certain linear layers of every block, first to last.

    Args:
        model: an encoder.
        places: names of the layers inside a block, one sequence per kind of encoder; the first
            sequence whose layers all exist is used.
        what: what the layers are, for the error message.

    Raises:
        ModelError: unsupported encoder.
    """
    found = []
    for block in blocks(model):
        layers = next(_at_places(block, places), None)
        if layers is None:
            raise ModelError(
                f"model must keep {what} where BERT or DistilBERT do, but {type(model).__name__} "
                "does not; take another encoder"
            )
        found.append(layers)
    return found


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
        ModelError: unsupported encoder; or a block would move to a position where a stock encoder
            has a block of another shape (ModernBERT's first one has no norm before its attention).
    """
    holder, name = _holder(model)
    layers = blocks(model)
    for place, position in enumerate(keep):
        if _shapes(layers[position]) != _shapes(layers[place]):
            raise ModelError(
                f"block {place} of {type(model).__name__} has a special shape, but block "
                f"{position} would take its place; keep block {place} too"
            )
    setattr(holder, name, nn.ModuleList([layers[position] for position in keep]))
    if hasattr(holder, "n_layers"):
        holder.n_layers = len(keep)
    config: Any = model.config
    # Each block keeps its kind of attention (ModernBERT: global or local).
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[position] for position in keep]
    # DistilBERT's config maps this name to its own `n_layers`.
    config.num_hidden_layers = len(keep)


def bake_parametrizations(model: nn.Module) -> None:
    """Replace every parametrized weight of the blocks by its current value, in place.

    Raises:
        ModelError: unsupported encoder.
    """
    for module in list(blocks(model).modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _shapes(block: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each.shape) for name, each in block.named_parameters()}


def _at_places(
    block: nn.Module, places: Sequence[Sequence[str]]
) -> Iterator[tuple[nn.Linear, ...]]:
    """Yield the linear layers of each sequence of names that a block has in full."""
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


def _holder(model: nn.Module) -> tuple[Any, str]:
    """Return the module that holds the list of blocks, and the list's name in it."""
    base = _base(model)
    for where, name in _PLACES:
        holder = getattr(base, where, None) if where else base
        # Decoders keep theirs in `layers` too, but have no module `embeddings`.
        known = bool(where) or isinstance(getattr(base, "embeddings", None), nn.Module)
        if known and isinstance(getattr(holder, name, None), nn.ModuleList):
            assert isinstance(holder, nn.Module)
            return holder, name
    raise ModelError(_refusal(model, "keeps its blocks in none of them"))


def _refusal(model: nn.Module, why: str) -> str:
    """Return the error message for an unsupported encoder."""
    return (
        "model must be an encoder with its transformer blocks in encoder.layer (BERT, RoBERTa, "
        "ELECTRA), transformer.layer (DistilBERT) or layers (ModernBERT), but "
        f"{type(model).__name__} {why}; take an encoder of one of these families"
    )
