"""Pruning by sensitivity: the weights go that change the loss least when removed, to first order.

The importance of a weight in one step is I = |w dL/dw|: how much the loss would change without it,
to first order, on one batch. Its score combines two running means (PLATON, Zhang et al. 2022,
section 3), so that a weight whose importance is uncertain stays:

    A <- b1 A + (1 - b1) I             importance
    U <- b2 U + (1 - b2) |I - A|       uncertainty of the importance
    score = A U

Everything else is as in magnitude pruning: the schedule, the frozen embeddings, and that pruned
weights stay pruned (PLATON lets them come back). A and U use every batch, the unclipped gradients
and the weight before the step; PLATON's code averages over some steps, clipped, after the step. Not
in Du et al. 2023.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rc_core.compression._base import CompressionContext
from rc_core.compression._gradual import Gradual, SparsityConfig, scheduled
from rc_core.compression._masks import prunable_places, prunable_weights, ranked_masks
from rc_core.errors import Problem
from rc_core.model_facts import ModelFacts

# Buffers beside each weight during training.
_BUFFERS = ("rc_importance", "rc_uncertainty")


class Config(SparsityConfig):
    """How much is pruned, where, when, and how long importance is remembered.

    Attributes:
        beta1: decay of the mean of the importance, in (0, 1). At 0 the mean would be the last
            batch's importance, so nothing would be uncertain and every score 0.
        beta2: decay of the mean of its uncertainty, in [0, 1).
    """

    beta1: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.85
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95


def problems(config: Config, facts: ModelFacts) -> list[Problem]:
    """Return what is wrong with `config` for an encoder: never anything."""
    return []


class Compression(Gradual):
    """Removes the weights with the lowest scores; every step's gradients update the scores."""

    # Hooks on gradients are part of the backward pass, so a GPU replays them. Steps recorded before
    # the last pruning still update the means after it, when nothing reads them any more.
    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(scheduled(config, config.sparsity), scope=config.scope)
        # Importance and uncertainty of each prunable weight.
        self._means: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._gradient_hooks: list[RemovableHandle] = []

    def prepare(self, model: nn.Module, context: CompressionContext) -> nn.Module:
        """Freeze the embeddings and return the model, with the means of its weights as buffers.

        Raises:
            ModelError: unsupported encoder.
            TrialError: more weights are zero already than should be at the end.
        """
        model = super().prepare(model, context)
        self._means, self._gradient_hooks = ([], []), []
        for module, name, weight in _places(model):
            # Loading a checkpoint copies into these tensors, so the references stay valid.
            means = torch.zeros_like(weight.detach()), torch.zeros_like(weight.detach())
            for buffer, mean, all_means in zip(_BUFFERS, means, self._means, strict=True):
                module.register_buffer(f"{name}_{buffer}", mean)
                all_means.append(mean)
            update = partial(
                _update_means, weakref.ref(self), importance=means[0], uncertainty=means[1]
            )
            self._gradient_hooks.append(weight.register_post_accumulate_grad_hook(update))
        return model

    def _needs_means(self) -> bool:
        """Tell whether a pruning is still to come."""
        return self._level < self.config.sparsity

    @torch.no_grad()
    def finalize(self, model: nn.Module) -> nn.Module:
        """Return the model with its pruned weights at zero and nothing attached to it.

        Raises:
            TrialError: the measured sparsity differs from what was asked by more than one weight.
        """
        for hook in self._gradient_hooks:
            hook.remove()
        for module, name, _ in _places(model):
            for buffer in _BUFFERS:
                delattr(module, f"{name}_{buffer}")
        self._means, self._gradient_hooks = ([], []), []
        return super().finalize(model)

    def _masks_at(self, weights: Sequence[Tensor], share: float) -> list[Tensor]:
        scores = torch._foreach_mul(*self._means)
        masks = ranked_masks(scores, weights, share, scope=self._scope)
        # Zeros stay pruned even where there are more than are due: at the start, or in one matrix.
        torch._foreach_mul_(masks, [(weight != 0).to(weight.dtype) for weight in weights])
        return masks


@torch.no_grad()
def _update_means(
    owner: weakref.ref[Compression], weight: Tensor, *, importance: Tensor, uncertainty: Tensor
) -> None:
    """Add the gradient of one batch to the means of a weight, as long as they are needed.

    Args:
        owner: the compression. A weak reference, because the compression refers to the weight:
            Python's garbage collector does not see cycles through a tensor's hooks, so the models
            of stopped trials would never be freed.
        weight: after its gradient was accumulated.
        importance: mean, updated in place.
        uncertainty: mean, updated in place.
    """
    compression = owner()
    if weight.grad is None or compression is None or not compression._needs_means():
        return
    found = (weight * weight.grad).abs_()
    importance.lerp_(found, 1 - compression.config.beta1)
    found.sub_(importance).abs_()
    uncertainty.lerp_(found, 1 - compression.config.beta2)


def _places(model: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """Return module, name and weight, in the order of `prunable_weights`; shared weights once."""
    first = {
        id(weight): (module, name, weight)
        for module, name, weight in reversed(prunable_places(model))
    }
    return [first[id(weight)] for weight in prunable_weights(model).values()]
