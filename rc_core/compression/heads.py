"""Whole attention heads cut out: the least important ones, before training; smaller and faster.

The importance of a head is I_h = E_x |dL(x) / d xi_h|, where xi_h is a factor on the head's output
whose value is 1 (Michel et al. 2019, who divide it by the norm over its layer before ranking layers
together; Du et al. 2023 do not mention a norm, and here it lost more: see `normalisation`). It is
measured on the fine-tuned dense reference, with dropout off and plain cross-entropy, whatever the
trial's `init` and loss are: a freshly initialised classification head carries no information, and
losses should be compared on the same structure. Du et al. 2023 (table 3) remove 28 of BERT-base's
144 heads.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from rc_core.compression._base import CompressionContext
from rc_core.compression._heads import (
    attentions,
    head_size,
    heads_per_layer,
    keep_heads,
    lowest,
    normalised_by_layer,
    restore_heads,
)
from rc_core.compression._importance import (
    UnitsConfig,
    family_problems,
    of_reference,
    unit_importance,
)
from rc_core.compression._layers import embeddings
from rc_core.compression._masks import measure
from rc_core.errors import Problem, TrialError
from rc_core.model_facts import ModelFacts

# tests/contracts/test_compressions.py cuts, trains, saves and loads one of each.
FAMILIES = (
    "bert",
    "camembert",
    "data2vec-text",
    "distilbert",
    "electra",
    "ernie",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
)


class Config(UnitsConfig):
    """How many heads are removed; see also `UnitsConfig`.

    Attributes:
        remove: share of all heads, in [0, 1); the paper's 28 of 144 are 0.194.
        min_per_layer: number of heads that every layer keeps at least.
        normalisation: `none` ranks importance as it is; `layer` divides it by the Euclidean norm
            over its layer, so that every layer gives up heads, even one in which all heads matter
            (compared in tune_configs/paper/RESULTS.md; it was the default for one day, 2026-11-27).
    """

    normalisation: Literal["layer", "none"] = "none"
    min_per_layer: Annotated[int, Field(ge=1)] = 1


def problems(config: Config, facts: ModelFacts) -> list[Problem]:
    """Return what is wrong with `config` for an encoder: its family, or too few heads left."""
    wrong = family_problems(config, facts, FAMILIES)
    if wrong:
        return wrong
    total = facts.num_layers * facts.num_heads
    most = facts.num_layers * max(facts.num_heads - config.min_per_layer, 0)
    asked = round(config.remove * total)
    if asked <= most:
        return []
    return [
        Problem(
            "compression.remove",
            f"must leave {config.min_per_layer} of {facts.num_heads} heads in each of "
            f"{facts.num_layers} layers, so at most {most} of {total} can go, but "
            f"{config.remove:g} asks for {asked}",
        )
    ]


def importance(
    model: nn.Module, context: CompressionContext, *, num_batches: int
) -> list[list[float]]:
    """Return I_h = mean over samples of |d CE(x) / d xi_h|, per layer and head.

    See `unit_importance`. Raises TrialError if a gradient is not finite.
    """
    outputs = [each.output for each in attentions(model)]
    return unit_importance(model, outputs, context, width=head_size(model), num_batches=num_batches)


def structure(model: nn.Module) -> dict[str, Any]:
    """Return which heads every layer kept."""
    config: Any = model.config
    return {"kept_heads": config.rc_kept_heads}


def restore(model: nn.Module, structure: dict[str, Any]) -> nn.Module:
    """Return a stock model reduced to these heads.

    Raises:
        ModelError, ValueError: it cannot be.
    """
    keep_heads(model, structure["kept_heads"])
    return model


class Compression:
    """Cuts heads out before training; nothing happens during training."""

    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config
        self._importance: list[list[float]] = []
        self._kept: list[list[int]] = []

    def prepare(self, model: nn.Module, context: CompressionContext) -> nn.Module:
        """Return the model without its least important heads.

        Raises:
            ModelError: unsupported encoder, or more heads asked for than can be removed.
            TrialError: the importance is not finite.
        """
        heads = heads_per_layer(model)
        self._importance = of_reference(
            importance, model, context, num_batches=self.config.num_batches
        )
        ranked = self._importance
        if self.config.normalisation == "layer":
            ranked = normalised_by_layer(ranked)
        self._kept = lowest(
            ranked,
            round(self.config.remove * sum(heads)),
            min_per_layer=self.config.min_per_layer,
        )
        keep_heads(model, self._kept)
        if self.config.freeze_embeddings:
            for module in embeddings(model):
                module.requires_grad_(False)
        return model

    def after_step(self, model: nn.Module, progress: float) -> None:
        """Do nothing."""

    def finalize(self, model: nn.Module) -> nn.Module:
        """Return the model.

        Raises:
            TrialError: it does not have the heads that should have stayed.
        """
        asked, found = [len(heads) for heads in self._kept], heads_per_layer(model)
        if asked != found:
            raise TrialError(f"layers must keep {asked} heads, but have {found}")
        return model

    def to_stock(self, model: nn.Module) -> nn.Module:
        """Return the model with removed heads as zeros: stock shapes, the same logits.

        Plain transformers loads it. This form is neither smaller nor faster; the trial's own
        `model/` is (`rc_core.models.load_model` reads it).
        """
        config: Any = model.config
        kept = getattr(config, "rc_kept_heads", None) or self._kept
        restore_heads(model, kept)
        if hasattr(config, "rc_kept_heads"):
            del config.rc_kept_heads
        return model

    def stock_note(self) -> str:
        """Return what a user of the stock form has to know."""
        return (
            "Removed heads are zeros here, so that plain transformers loads the model: this form "
            "is not smaller or faster than the dense one. The trial's own folder holds the small "
            "form (`rc_core.models.load_model`)."
        )

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Return the heads asked for, kept and measured, and their importance."""
        heads = heads_per_layer(model)
        return {
            "asked": {"heads": float(sum(len(kept) for kept in self._kept))},
            "measured": {**measure(model), "heads": float(sum(heads))},
            "kept_heads": self._kept,
            "importance": [[float(f"{value:.4g}") for value in row] for row in self._importance],
        }
