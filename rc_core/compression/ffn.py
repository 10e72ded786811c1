"""Feed-forward neurons cut out: the least important ones of each block, before training.

Every block loses the same number of neurons, so the result is an ordinary encoder with a smaller
`intermediate_size`: plain transformers loads it as it is, and it is smaller and faster. Importance
is measured as for heads (Michel et al. 2019, with a factor on each neuron), on the fine-tuned dense
reference. Not in Du et al. 2023.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from rc_core.compression._base import CompressionContext
from rc_core.compression._importance import (
    UnitsConfig,
    family_problems,
    of_reference,
    unit_importance,
)
from rc_core.compression._layers import embeddings, linears
from rc_core.compression._masks import measure
from rc_core.errors import Problem, TrialError
from rc_core.model_facts import ModelFacts

# (first, second) linear layer of a block: BERT, RoBERTa and ELECTRA; DistilBERT; ModernBERT, whose
# first layer outputs all neurons, followed by the gates of all neurons.
_PLACES = (
    ("intermediate.dense", "output.dense"),
    ("ffn.lin1", "ffn.lin2"),
    ("mlp.Wi", "mlp.Wo"),
)
# tests/contracts/test_compressions.py cuts, trains, saves and loads one of each.
FAMILIES = (
    "bert",
    "big_bird",
    "camembert",
    "convbert",
    "data2vec-text",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "megatron-bert",
    "modernbert",
    "mpnet",
    "nystromformer",
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "roformer",
    "xlm-roberta",
    "xlm-roberta-xl",
)
# Names of the number of neurons in the configs of transformers.
_SIZES = ("intermediate_size", "hidden_dim")


class Config(UnitsConfig):
    """How many neurons are removed; see also `UnitsConfig`.

    Attributes:
        remove: share of every block's feed-forward neurons, in [0, 1).
    """

    remove: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5


def problems(config: Config, facts: ModelFacts) -> list[Problem]:
    """Return what is wrong with `config` for an encoder: its family."""
    return family_problems(config, facts, FAMILIES)


def neurons_kept(size: int, remove: float) -> int:
    """Return how many of a block's `size` neurons stay: at least one."""
    return max(1, size - round(remove * size))


def importance(
    model: nn.Module, context: CompressionContext, *, num_batches: int
) -> list[list[float]]:
    """Return the mean over samples of |d CE(x) / d xi| of every neuron, per block.

    See `unit_importance`. Raises TrialError if a gradient is not finite.
    """
    outputs = [second for _, second in _layers(model)]
    return unit_importance(model, outputs, context, width=1, num_batches=num_batches)


class Compression:
    """Cuts neurons out before training; nothing happens during training."""

    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config
        self._asked = 0

    def prepare(self, model: nn.Module, context: CompressionContext) -> nn.Module:
        """Return the model without its least important feed-forward neurons.

        Raises:
            ModelError: unsupported encoder.
            TrialError: the importance is not finite.
        """
        per_block = of_reference(importance, model, context, num_batches=self.config.num_batches)
        size = _layers(model)[0][1].in_features
        self._asked = neurons_kept(size, self.config.remove)
        for (first, second), values in zip(_layers(model), per_block, strict=True):
            chosen = torch.tensor(values).topk(self._asked).indices.sort().values
            _keep(first, second, chosen.to(first.weight.device))
        config: Any = model.config
        name = next(name for name in _SIZES if getattr(config, name, None) == size)
        setattr(config, name, self._asked)
        if self.config.freeze_embeddings:
            for module in embeddings(model):
                module.requires_grad_(False)
        return model

    def after_step(self, model: nn.Module, progress: float) -> None:
        """Do nothing."""

    def finalize(self, model: nn.Module) -> nn.Module:
        """Return the model. Raises TrialError if a block does not have the neurons asked for."""
        found = [second.in_features for _, second in _layers(model)]
        if any(each != self._asked for each in found):
            raise TrialError(f"every block must keep {self._asked} neurons, but they have {found}")
        return model

    def to_stock(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged: its config says how many neurons a block has."""
        return model

    def stock_note(self) -> str:
        """Return what a user of the stock form has to know."""
        return (
            "An ordinary encoder in which only the feed-forward neurons that were kept are left: "
            "the fewer they are, the smaller and faster it is, on every runtime."
        )

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Return the neurons per block that were asked for, and what was measured."""
        return {
            "asked": {"neurons": float(self._asked)},
            "measured": {**measure(model), "neurons": float(_layers(model)[0][1].in_features)},
        }


def _layers(model: nn.Module) -> list[tuple[nn.Linear, nn.Linear]]:
    pairs = linears(model, _PLACES, "its feed-forward layers")
    return [(first, second) for first, second in pairs]


@torch.no_grad()
def _keep(first: nn.Linear, second: nn.Linear, chosen: Tensor) -> None:
    """Reduce both layers, in place, to the neurons at `chosen`, together with their gates."""
    starts = range(0, first.out_features, second.in_features)
    rows = torch.cat([start + chosen for start in starts])
    first.weight = nn.Parameter(first.weight[rows].contiguous())
    if first.bias is not None:
        first.bias = nn.Parameter(first.bias[rows].contiguous())
    second.weight = nn.Parameter(second.weight[:, chosen].contiguous())
    first.out_features, second.in_features = len(rows), len(chosen)
