"""Pruning by sensitivity: the weights go without which the loss would change least, to first order.

The importance of a weight in a step is I = |w dL/dw|, what the loss would change without it to
first order, on one batch. A score is made of two running means (PLATON, Zhang et al. 2022,
section 3), so that a weight whose importance is uncertain stays:

    A <- b1 A + (1 - b1) I             its importance
    U <- b2 U + (1 - b2) |I - A|       how uncertain that is
    score = A U

All else is as in magnitude pruning: the schedule, frozen embeddings, and that what is gone stays
gone (in PLATON it may come back). A and U take every batch, with gradients that are not clipped and
the weight before the step; PLATON's code takes means over some steps, clipped, after it. Not in Du
et al. 2023.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rc_core.compression._base import CompressionContext
from rc_core.compression._gradual import ZEROS_NOTE, Gradual, check_start, scheduled
from rc_core.compression._masks import (
    prunable_places,
    prunable_weights,
    ranked_masks,
    target_zeros,
)
from rc_core.config import CompressionConfig
from rc_core.errors import Problem
from rc_core.labels import short_number
from rc_core.model_facts import ModelFacts

# Buffers beside each weight while it is trained.
_BUFFERS = ("rc_importance", "rc_uncertainty")


class Config(CompressionConfig):
    """How much is pruned, where, when, and how long importance is remembered.

    Attributes:
        sparsity: share of the blocks' 2-D weights that end as zero, in [0, 1).
        scope: scores are ranked over all blocks together (`global`) or within each weight matrix
            (`layer`, every matrix reaches the same sparsity).
        schedule: how sparsity grows: `cubic` (fast first) or `linear`.
        ramp: share of the steps at which the target is reached, in (0, 1]; the rest recovers.
        num_prunings: equal parts of the ramp; at the end of each, weights are removed.
        beta1: of the mean of the importance, in (0, 1). At 0 the mean would be the last batch's
            importance, nothing uncertain and every score 0.
        beta2: of the mean of its uncertainty, in [0, 1).
    """

    sparsity: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    scope: Literal["global", "layer"] = "global"
    schedule: Literal["cubic", "linear"] = "cubic"
    ramp: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    num_prunings: Annotated[int, Field(ge=1)] = 20
    beta1: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.85
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95

    def label(self) -> str:
        """Return `sensitivity-70`, and what else differs from the defaults."""
        parts = self.label_parts(leave_out=["sparsity"])
        return " ".join([f"{self.name}-{short_number(100 * self.sparsity)}", *parts])


def problems(config: Config, facts: ModelFacts) -> list[Problem]:
    """Return what is wrong with `config` for an encoder: never anything."""
    return []


class Compression(Gradual):
    """Removes the weights of the lowest scores, which every step's gradients move."""

    # Hooks on gradients are a part of the backward pass, so a GPU replays what they do. Steps that
    # were recorded before the last pruning go on with it afterwards; nothing reads the means then.
    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(scheduled(config, config.sparsity))
        self._means: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._taken: list[RemovableHandle] = []

    def prepare(self, model: nn.Module, context: CompressionContext) -> nn.Module:
        """Freeze the embeddings and return the model with the means of its weights as buffers.

        Raises:
            ModelError: unsupported encoder.
            TrialError: more weights are zero already than are to be.
        """
        model = super().prepare(model, context)
        self._means, self._taken = ([], []), []
        for module, name, weight in _places(model):
            # Loading a checkpoint writes into these very tensors.
            means = torch.zeros_like(weight.detach()), torch.zeros_like(weight.detach())
            for buffer, mean, all_means in zip(_BUFFERS, means, self._means, strict=True):
                module.register_buffer(f"{name}_{buffer}", mean)
                all_means.append(mean)
            take = partial(_take, weakref.ref(self), importance=means[0], uncertainty=means[1])
            self._taken.append(weight.register_post_accumulate_grad_hook(take))
        return model

    def _are_needed(self) -> bool:
        """Tell whether the means are: until the last pruning."""
        return self._level < self.config.sparsity

    @torch.no_grad()
    def finalize(self, model: nn.Module) -> nn.Module:
        """Return the model with its pruned weights at zero and nothing attached to it.

        Raises:
            TrialError: measured sparsity is not what was asked, by more than one weight.
        """
        for hook in self._taken:
            hook.remove()
        for module, name, _ in _places(model):
            for buffer in _BUFFERS:
                delattr(module, f"{name}_{buffer}")
        self._means, self._taken = ([], []), []
        return super().finalize(model)

    def stock_note(self) -> str:
        """Return what a user of the stock form has to know."""
        return ZEROS_NOTE

    def _masks_at(self, weights: Sequence[Tensor], share: float) -> list[Tensor]:
        scores = torch._foreach_mul(*self._means)
        masks = ranked_masks(scores, weights, share, scope=self.config.scope)
        # Also where more is zero than is due: at the start, or in one matrix of several.
        torch._foreach_mul_(masks, [(weight != 0).to(weight.dtype) for weight in weights])
        return masks

    def _asked_zeros(self, weights: Sequence[Tensor]) -> int:
        return sum(target_zeros(weights, self.config.sparsity, scope=self.config.scope))

    def _asked_as(self) -> str:
        return f"compression.sparsity {self.config.sparsity:g}"

    def _check_zeros(self, named: Mapping[str, Tensor]) -> None:
        check_start(list(named.values()), self.config.sparsity, scope=self.config.scope)


@torch.no_grad()
def _take(
    owner: weakref.ref[Compression], weight: Tensor, *, importance: Tensor, uncertainty: Tensor
) -> None:
    """Take the gradient of one batch into the means of a weight, as long as they are needed.

    Args:
        owner: weak, as it knows the weight: of a cycle through a weight's hooks Python's collector
            sees nothing, and the models of stopped trials would stay in memory.
    """
    compression = owner()
    if weight.grad is None or compression is None or not compression._are_needed():
        return
    found = (weight * weight.grad).abs_()
    importance.lerp_(found, 1 - compression.config.beta1)
    found.sub_(importance).abs_()
    uncertainty.lerp_(found, 1 - compression.config.beta2)


def _places(model: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """Return modules, names and weights, in the order of `prunable_weights`; shared ones once."""
    first = {
        id(weight): (module, name, weight)
        for module, name, weight in reversed(prunable_places(model))
    }
    return [first[id(weight)] for weight in prunable_weights(model).values()]
