"""How much a model's loss depends on units of its hidden layers: attention heads, neurons.

The importance of a unit is E_x |dL(x) / d xi|, where xi is a factor on its output whose value is 1
(Michel et al. 2019).
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
    """How many units are removed; goes with a plugin's function `importance` (see `Measure`).

    Attributes:
        remove: share of the units that are removed, in [0, 1).
        num_batches: training batches over which the importance is averaged.
        freeze_embeddings: whether the embeddings are frozen, as in magnitude pruning (Du et al.
            2023, section 3).
    """

    # `rc_core.importance` stores the result under these, the reference and the plugin's file.
    artifact_keys: ClassVar[frozenset[str]] = frozenset(
        {"compression.num_batches", "training.batch_size", "training.seed"}
    )

    remove: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    num_batches: Annotated[int, Field(ge=1)] = 32
    freeze_embeddings: bool = True

    def label(self) -> str:
        """Return `heads-20`, followed by whatever else differs from the defaults."""
        parts = self.label_parts(leave_out=["remove"])
        return " ".join([f"{self.name}-{short_number(100 * self.remove)}", *parts])


def family_problems(
    config: UnitsConfig, facts: ModelFacts, families: Collection[str]
) -> list[Problem]:
    """Return what is wrong if a compression was not tested on encoders of this family.

    Finding layers in known places is not enough: some families read the number of heads from their
    config, or split their output into heads of another size.

    Args:
        config: of the compression.
        facts: of the encoder.
        families: tested ones, as transformers names them (`model_type`).
    """
    if facts.model_type in families:
        return []
    return [
        Problem(
            "compression.name",
            f"{config.name} supports encoders of the families {', '.join(sorted(families))}, but "
            f"this one is of '{facts.model_type}'; take another encoder, or magnitude or student",
        )
    ]


class Measure(Protocol):
    """A plugin's `importance`: it depends on its arguments alone, so its result can be shared."""

    def __call__(
        self, model: nn.Module, context: CompressionContext, *, num_batches: int
    ) -> list[list[float]]:
        """Return the importance of a model's units, per layer."""
        ...


def of_reference(
    measure: Measure, model: nn.Module, context: CompressionContext, *, num_batches: int
) -> list[list[float]]:
    """Return the units' importance in the dense reference: the shared result, or measured here.

    Args:
        measure: the plugin's `importance`.
        model: measured itself if there is no reference.
        context: of the trial.
        num_batches: from the plugin's configuration.
    """
    if context.importance is not None:
        return context.importance()
    reference = model if context.teacher is None else context.teacher().to(context.device)
    return measure(reference, context, num_batches=num_batches)


def unit_importance(
    model: nn.Module,
    outputs: Sequence[nn.Linear],
    context: CompressionContext,
    *,
    width: int,
    num_batches: int,
) -> list[list[float]]:
    """Return the mean over samples of |d CE(x) / d xi| of every unit, per layer.

    Each sample has its own factors, so that absolute values are taken before the mean.

    Args:
        model: on the context's device; its mode and gradient flags are restored.
        outputs: per layer, the linear layer that reads the units, U * width features wide.
        context: provides the batches.
        width: features per unit (a head's size; 1 for a neuron).
        num_batches: how many batches are read.

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
            # Summed, not averaged: a sample's gradient must not depend on the batch size.
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
