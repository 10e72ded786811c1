"""Movement pruning: the weights that training moves towards zero go, whatever their magnitude.

Every weight w of the blocks has a score s, initially zero. The forward pass sees w m, with m = 1
where s is among the highest and 0 elsewhere. Gradients pass the choice of m unchanged
(straight-through), so dL/ds = w dL/d(w m): a score grows while training moves its weight away from
zero. This goes for pruned weights too, which may therefore come back (Sanh, Wolf and Rush 2020,
section 4: hard, with the top v of the scores). Embeddings are frozen. Not in Du et al. 2023, who
prune as `magnitude` does.

Masks are chosen anew at the end of each of `num_prunings` parts of the ramp, and at the same
interval after it; not in every step, because choosing them takes about half as long as a step.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rc_core.compression._base import CompressionContext, ParameterGroup
from rc_core.compression._gradual import (
    ZEROS_NOTE,
    SparsityConfig,
    check_reached,
    check_start,
    scheduled,
)
from rc_core.compression._layers import bake_parametrizations, blocks, embeddings
from rc_core.compression._masks import (
    measure,
    prunable_places,
    prunable_weights,
    ranked_masks,
    target_zeros,
)
from rc_core.errors import ModelError, Problem
from rc_core.model_facts import ModelFacts

# Buffer of the whole model: how many choices of masks are done, so that a checkpoint knows it.
_CHOSEN = "movement_chosen"


class Config(SparsityConfig):
    """How much is pruned, where, when, and how fast scores move.

    Attributes:
        ramp: share of the steps at which the target is reached, in (0, 1]; which weights are
            pruned may change after it, how many does not.
        num_prunings: number of equal parts of the ramp; at the end of each, masks are chosen.
        score_learning_rate: peak of the scores' learning rate, which follows the same schedule as
            the weights'; scores have no weight decay.
    """

    score_learning_rate: Annotated[float, Field(gt=0.0)] = 0.01


def problems(config: Config, facts: ModelFacts) -> list[Problem]:
    """Return what is wrong with `config` for an encoder: never anything."""
    return []


class _Through(torch.autograd.Function):
    """Applies the mask forward; backward, the score gets the gradient that the mask would have."""

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
    """The parametrization that torch calls whenever a weight is read.

    Attributes:
        scores: flat, so that they do not count as a 2-D weight of the block.
        mask: 1 keeps, 0 prunes.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(weight.new_zeros(weight.numel()))
        self.mask: Tensor
        self.register_buffer("mask", torch.ones_like(weight))

    def forward(self, weight: Tensor) -> Tensor:
        masked: Tensor = _Through.apply(weight, self.scores, self.mask)  # type: ignore[no-untyped-call]
        return masked


class Compression:
    """Trains weights and scores, and keeps the weights with the highest scores.

    Weights are not set to zero before the end. Scores and masks are parameters and buffers of the
    model, so a checkpoint is complete.
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
            TrialError: more weights are zero already than should be at the end, in all or, with
                scope `layer`, in a matrix.
        """
        for module in embeddings(model):
            module.requires_grad_(False)
        weights = list(prunable_weights(model).values())
        check_start(weights, self.config.sparsity, scope=self.config.scope)
        places = prunable_places(model)
        if len(places) > len(weights):
            raise ModelError(
                "model must not share matrices between its blocks, so that each has its own "
                f"scores, but {type(model).__name__} does; take another encoder, or compression "
                "magnitude"
            )
        for module, name, weight in places:
            parametrize.register_parametrization(module, name, _Masked(weight.detach()))
        model.register_buffer(_CHOSEN, torch.zeros((), dtype=torch.int64))
        self._chosen = None
        return model

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        """Return the scores as a group: they have their own learning rate and no weight decay."""
        scores = [masked.scores for _, masked in _masked_weights(model)]
        return [ParameterGroup(scores, self.config.score_learning_rate, 0.0)]

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        """Choose new masks when that is due.

        Raises:
            TrialError: a score is NaN at that point.
        """
        if self._chosen is None:
            # The first step, or the first one after a resume.
            self._chosen = int(model.get_buffer(_CHOSEN))
        part = self.config.ramp / self.config.num_prunings
        # Without the tolerance, rounding in step / steps would delay a choice by one step.
        due = math.floor(progress / part + 1e-9)
        # No new masks after the last step, unless the ramp ends there: nothing would be trained
        # with them.
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
            TrialError: the measured sparsity differs from what was asked by more than one weight.
        """
        bake_parametrizations(model)
        delattr(model, _CHOSEN)
        weights = list(prunable_weights(model).values())
        asked = sum(target_zeros(weights, self.config.sparsity, scope=self.config.scope))
        check_reached(weights, asked, f"compression.sparsity {self.config.sparsity:g}")
        return model

    def to_stock(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged: zeros are ordinary weights."""
        return model

    def stock_note(self) -> str:
        """Return what a user of the stock form has to know."""
        return ZEROS_NOTE

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Return the sparsity asked for, and what was measured."""
        return {"asked": {"sparsity": self.config.sparsity}, "measured": measure(model)}

    def _choose(self, model: nn.Module, progress: float) -> None:
        """Give every weight matrix the mask that is due."""
        due = scheduled(self.config, self.config.sparsity)(progress)
        pairs = _masked_weights(model)
        weights = [weight for weight, _ in pairs]
        scores = [masked.scores for _, masked in pairs]
        masks = ranked_masks(scores, weights, due, scope=self.config.scope)
        for (_, masked), mask in zip(pairs, masks, strict=True):
            masked.mask.copy_(mask)


def _masked_weights(model: nn.Module) -> list[tuple[Tensor, _Masked]]:
    """Return a prepared model's weights before masking, each with its parametrization."""
    return [
        (held.original, masked)
        for module in blocks(model).modules()
        if parametrize.is_parametrized(module)
        for held in module.parametrizations.values()  # type: ignore[operator]
        for masked in held
        if isinstance(masked, _Masked)
    ]
