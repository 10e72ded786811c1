"""Movement pruning: the weights that training moves towards zero go, whatever their size.

Every weight w of the blocks has a score s, zero at first. The forward sees w m, with m = 1 where s
is among the highest and 0 elsewhere; gradients pass the choice of m unchanged (straight-through),
so dL/ds = w dL/d(w m): a score grows while training moves its weight away from zero, that of a
pruned weight too, which may therefore come back (Sanh, Wolf and Rush 2020, section 4: hard, with
the top v of the scores). Embeddings are frozen. Not in Du et al. 2023, who prune as `magnitude`.

Here masks are chosen anew at the end of each of `num_prunings` parts of the ramp, and as often
after it, not in every step: to choose takes about half as long as a step.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rc_core.compression._base import CompressionContext, ParameterGroup
from rc_core.compression._gradual import ZEROS_NOTE, check_start, scheduled
from rc_core.compression._layers import blocks, embeddings
from rc_core.compression._masks import (
    measure,
    num_entries,
    num_zeros,
    prunable_places,
    prunable_weights,
    ranked_masks,
    target_zeros,
)
from rc_core.config import CompressionConfig
from rc_core.errors import ModelError, Problem, TrialError
from rc_core.labels import short_number
from rc_core.model_facts import ModelFacts

# Of the whole model: a checkpoint knows by it which masks it holds.
_CHOSEN = "movement_chosen"


class Config(CompressionConfig):
    """How much is pruned, where, when, and how fast scores move.

    Attributes:
        sparsity: share of the blocks' 2-D weights that end as zero, in [0, 1).
        scope: scores are ranked over all blocks together (`global`) or within each weight matrix
            (`layer`, every matrix reaches the same sparsity).
        schedule: how sparsity grows: `cubic` (fast first) or `linear`.
        ramp: share of the steps at which the target is reached, in (0, 1]; which weights are
            pruned may change after it, how many does not.
        num_prunings: equal parts of the ramp; at the end of each, masks are chosen.
        score_learning_rate: peak of the scores' learning rate, scheduled as the weights'; they have
            no weight decay.
    """

    sparsity: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    scope: Literal["global", "layer"] = "global"
    schedule: Literal["cubic", "linear"] = "cubic"
    ramp: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    num_prunings: Annotated[int, Field(ge=1)] = 20
    score_learning_rate: Annotated[float, Field(gt=0.0)] = 0.01

    def label(self) -> str:
        """Return `movement-70`, and what else differs from the defaults."""
        parts = self.label_parts(leave_out=["sparsity"])
        return " ".join([f"movement-{short_number(100 * self.sparsity)}", *parts])


def problems(config: Config, facts: ModelFacts) -> list[Problem]:
    """Return what is wrong with `config` for an encoder: never anything."""
    return []


class _Through(torch.autograd.Function):
    """Masks forward; backward the score has the gradient that the mask would have."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(weight, mask)
        return weight * mask

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, None]:
        weight, mask = ctx.saved_tensors
        (gradient,) = gradients
        return gradient * mask, (gradient * weight).flatten(), None


class _Masked(nn.Module):
    """What torch calls whenever a weight is asked for.

    Attributes:
        scores: flat, so that nobody takes them for a weight of the block.
        mask: 1 keeps, 0 prunes.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(weight.new_zeros(weight.numel()))
        self.mask: Tensor
        self.register_buffer("mask", torch.ones_like(weight))

    def forward(self, weight: Tensor) -> Tensor:
        found: Tensor = _Through.apply(weight, self.scores, self.mask)  # type: ignore[no-untyped-call]
        return found


class Compression:
    """Trains weights and scores, and leaves the weights of the highest scores.

    Weights are never set to zero before the end, and scores and masks are parameters and buffers of
    the model, so a checkpoint has all that there is.
    """

    # Masks are changed in place.
    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config
        self._chosen: int | None = None

    def prepare(self, model: nn.Module, context: CompressionContext) -> nn.Module:
        """Freeze the embeddings and return the model, whose blocks see masked weights from now on.

        Raises:
            ModelError: unsupported encoder, or one whose blocks share a weight.
            TrialError: more weights are zero already than are to be, in all or, with scope `layer`,
                in a matrix.
        """
        for module in embeddings(model):
            module.requires_grad_(False)
        found = list(prunable_weights(model).values())
        check_start(found, self.config.sparsity, scope=self.config.scope)
        places = prunable_places(model)
        if len(places) > len(found):
            raise ModelError(
                "model must have matrices of its own in every place of its blocks, so that each "
                f"has its scores, but {type(model).__name__} shares some between places; take "
                "another encoder, or compression magnitude"
            )
        for module, name, weight in places:
            masked = _Masked(weight.detach())
            parametrize.register_parametrization(module, name, masked)
        model.register_buffer(_CHOSEN, torch.zeros((), dtype=torch.int64))
        self._chosen = None
        return model

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        """Return the scores: they have a learning rate of their own and no decay."""
        scores = [masked.scores for _, masked in _masked_weights(model)]
        return [ParameterGroup(scores, self.config.score_learning_rate, 0.0)]

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        """Choose new masks when that is due.

        Raises:
            TrialError: a score is NaN then.
        """
        if self._chosen is None:
            # The first step, or the first one after a stop.
            self._chosen = int(model.get_buffer(_CHOSEN))
        part = self.config.ramp / self.config.num_prunings
        # Without the tolerance, rounding in step / steps would put a choice off by one step.
        due = math.floor(progress / part + 1e-9)
        # At the very end only what the ramp asks for: nothing would be trained with other masks.
        if progress >= 1.0 - 1e-9 and self._chosen >= self.config.num_prunings:
            return
        if due > self._chosen:
            self._choose(model, progress)
            self._chosen = due
            model.get_buffer(_CHOSEN).fill_(due)

    @torch.no_grad()
    def finalize(self, model: nn.Module) -> nn.Module:
        """Return the model with its pruned weights at zero and nothing attached to it.

        Raises:
            TrialError: measured sparsity is not what was asked, by more than one weight.
        """
        for module in list(blocks(model).modules()):
            if parametrize.is_parametrized(module):
                for name in list(module.parametrizations):  # type: ignore[arg-type]
                    parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        delattr(model, _CHOSEN)
        weights = list(prunable_weights(model).values())
        zeros = num_zeros(weights)
        asked = sum(target_zeros(weights, self.config.sparsity, scope=self.config.scope))
        if abs(zeros - asked) > 1:
            raise TrialError(
                f"{asked} of {num_entries(weights)} weights must be zero (compression.sparsity "
                f"{self.config.sparsity:g}), but {zeros} are; train to the end of compression.ramp"
            )
        return model

    def to_stock(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged: zeros are ordinary weights."""
        return model

    def stock_note(self) -> str:
        """Return what a user of the stock form has to know."""
        return ZEROS_NOTE

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Return the sparsity asked and what was measured."""
        return {"asked": {"sparsity": self.config.sparsity}, "measured": measure(model)}

    def _choose(self, model: nn.Module, progress: float) -> None:
        """Give every weight matrix the mask that is due."""
        due = scheduled(self.config, self.config.sparsity)(progress)
        found = _masked_weights(model)
        weights = [weight for weight, _ in found]
        scores = [masked.scores for _, masked in found]
        masks = ranked_masks(scores, weights, due, scope=self.config.scope)
        for (_, masked), mask in zip(found, masks, strict=True):
            masked.mask.copy_(mask)


def _masked_weights(model: nn.Module) -> list[tuple[Tensor, _Masked]]:
    """Return the weights before masking and what masks them, of a prepared model."""
    return [
        (held.original, masked)
        for module in blocks(model).modules()
        if parametrize.is_parametrized(module)
        for held in module.parametrizations.values()  # type: ignore[operator]
        for masked in held
        if isinstance(masked, _Masked)
    ]
