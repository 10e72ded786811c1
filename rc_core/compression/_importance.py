"""How much a model's loss depends on parts of its hidden layers: heads, feed-forward neurons.

A part's importance is E_x |dL(x) / d xi|, xi a factor on its output that is 1 (Michel et al. 2019).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice
from typing import Annotated, ClassVar, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from rc_core.compression._base import CompressionContext
from rc_core.config import CompressionConfig
from rc_core.errors import Problem, TrialError
from rc_core.labels import short_number
from rc_core.model_facts import ModelFacts


class UnitsConfig(CompressionConfig):
    """How many units go; a plugin with such a Config has a function `importance` (a `Measure`).

    Attributes:
        remove: share of the units, in [0, 1).
        num_batches: training batches over which the importance is a mean.
        freeze_embeddings: as for magnitude pruning (Du et al. 2023, section 3).
    """

    # What `rc_core.importance` stores it under, besides the reference and the plugin's file.
    artifact_keys: ClassVar[frozenset[str]] = frozenset(
        {"compression.num_batches", "training.batch_size", "training.seed"}
    )

    remove: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    num_batches: Annotated[int, Field(ge=1)] = 32
    freeze_embeddings: bool = True

    def label(self) -> str:
        """Return `heads-20`, and what else differs from the defaults."""
        parts = self.label_parts(leave_out=["remove"])
        return " ".join([f"{self.name}-{short_number(100 * self.remove)}", *parts])


def family_problems(
    config: UnitsConfig, facts: ModelFacts, families: Collection[str]
) -> list[Problem]:
    """Return what is wrong where an encoder is of a family that was not tried with a compression.

    Layers in known places do not tell: some families read the number of heads from their config,
    or cut their output into heads of a size of their own.

    Args:
        families: as transformers names them (`model_type`).
    """
    if facts.model_type in families:
        return []
    return [
        Problem(
            "compression.name",
            f"{config.name} cuts encoders of the families {', '.join(sorted(families))}, but the "
            f"model is of '{facts.model_type}'; take another encoder, or magnitude or student",
        )
    ]


class Measure(Protocol):
    """A plugin's `importance`: what it may depend on, so that its result can be shared."""

    def __call__(
        self, model: nn.Module, context: CompressionContext, *, num_batches: int
    ) -> list[list[float]]:
        """Return the importance of a model's units, per layer."""
        ...


def of_reference(
    measure: Measure, model: nn.Module, context: CompressionContext, *, num_batches: int
) -> list[list[float]]:
    """Return the units' importance in the dense reference: the shared one, else measured here.

    Args:
        measure: the plugin's.
        model: judged itself where there is no reference.
        context: of the trial.
        num_batches: of the plugin's configuration.
    """
    if context.importance is not None:
        return context.importance()
    judged = model if context.teacher is None else context.teacher().to(context.device)
    return measure(judged, context, num_batches=num_batches)


def unit_importance(
    model: nn.Module,
    outputs: Sequence[nn.Linear],
    context: CompressionContext,
    *,
    width: int,
    num_batches: int,
) -> list[list[float]]:
    """Return the mean over samples of |d CE(x) / d xi| of every unit, per layer.

    Each sample has factors of its own, so that absolute values are taken before the mean.

    Args:
        model: on the context's device; its mode and its gradients are left as they were.
        outputs: per layer the linear layer that reads the units, U * width features wide.
        context: its batches are read.
        width: features of one unit (a head's size; 1 for a neuron).
        num_batches: how many.

    Raises:
        TrialError: a gradient is not finite, or there was no batch.
    """
    sums = [torch.zeros(each.in_features // width, dtype=torch.float64) for each in outputs]
    factors: list[Tensor] = []
    was_training, samples = model.training, 0
    frozen = [(p, p.requires_grad) for p in model.parameters()]

    def scale(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        values = inputs[0]
        factor = values.new_ones(values.shape[0], values.shape[-1] // width, requires_grad=True)
        factors.append(factor)
        return (values * factor.repeat_interleave(width, dim=1).unsqueeze(1), *inputs[1:])

    hooks = [each.register_forward_pre_hook(scale) for each in outputs]
    try:
        model.eval()
        for parameter, _ in frozen:
            parameter.requires_grad_(False)
        for batch in islice(context.batches(), num_batches):
            factors.clear()
            logits = model(**batch.inputs).logits.float()
            # A sum: each sample's gradient is its own, not divided by the batch size.
            total = functional.cross_entropy(logits, batch.labels, reduction="sum")
            for layer, gradient in enumerate(torch.autograd.grad(total, factors)):
                sums[layer] += gradient.abs().sum(dim=0).double().cpu()
            samples += len(batch.labels)
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, flag in frozen:
            parameter.requires_grad_(flag)
        model.train(was_training)
    if samples == 0 or not all(bool(torch.isfinite(layer).all()) for layer in sums):
        raise TrialError(
            "the importance of heads and neurons must be finite, but is not: the dense reference "
            "diverged; lower teacher.learning_rate"
        )
    return [(layer / samples).tolist() for layer in sums]
