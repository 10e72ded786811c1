"""Quantization-aware training: the blocks' 2-D weights rounded to a few bits, row by row.

w_q = s clamp(round(w / s), -n, n) with n = 2^(bits - 1) - 1: symmetric, with one step s per row
(output unit), as in runtimes with integer weights. From 5 bits on, s = max|w| / n. Below that,
where one large weight would cost all others their levels, s = min(max|w| / n, c_bits sqrt(mean
w^2)), with c the best step for normally distributed weights (Max 1960). Either way the largest
weight of a row ends at n s, so a runtime that uses max|w_q| / n as its step loses nothing more.

The forward pass sees w_q, the optimizer updates w: gradients pass the rounding unchanged
(straight-through, Bengio et al. 2013; as in 8-bit training in Jacob et al. 2018 and Zafrir et al.
2019). Activations are not rounded. Not in Du et al. 2023.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rc_core.compression._base import CompressionContext
from rc_core.compression._layers import bake_parametrizations, embeddings
from rc_core.compression._masks import (
    measure,
    num_entries,
    prunable_places,
    prunable_weights,
)
from rc_core.config import CompressionConfig
from rc_core.errors import Problem, TrialError
from rc_core.model_facts import ModelFacts

# Step / standard deviation with the least squared error on a normal distribution, for 3, 7 and 15
# levels. On all-MiniLM-L6-v2's weights its error is 2, 9 and 34 % above that of the best step for
# each row; the error of max|w| / n is 3.6, 2.4 and 1.6 times as large.
_NORMAL_STEPS = {2: 1.2240, 3: 0.6508, 4: 0.3534}


class Config(CompressionConfig):
    """How finely weights are stored.

    Attributes:
        bits: per weight, 2 to 8; 2 leaves the values -s, 0 and s.
        embeddings: whether the embedding tables are rounded as well, once, before training (they
            are frozen).
    """

    bits: Annotated[int, Field(ge=2, le=8)] = 8
    embeddings: bool = False

    def label(self) -> str:
        """Return `quantized-4bit`, followed by whatever else differs from the defaults."""
        parts = self.label_parts(leave_out=["bits"])
        return " ".join([f"{self.name}-{self.bits}bit", *parts])


def problems(config: Config, facts: ModelFacts) -> list[Problem]:
    """Return what is wrong with `config` for an encoder: never anything."""
    return []


def rounded(weight: Tensor, bits: int) -> Tensor:
    """Return the weights rounded to each row's grid.

    Args:
        weight: (rows, columns), float, finite; a row of zeros stays zero.
        bits: 2 to 8.
    """
    most = 2 ** (bits - 1) - 1
    step = weight.abs().amax(dim=1, keepdim=True) / most
    if bits in _NORMAL_STEPS:
        deviation = weight.square().mean(dim=1, keepdim=True).sqrt()
        step = torch.minimum(step, _NORMAL_STEPS[bits] * deviation)
    # A row of zeros, or one whose step underflows to zero, must not divide by zero.
    step = step.clamp(min=torch.finfo(weight.dtype).tiny)
    on_grid: Tensor = (weight / step).round().clamp(-most, most) * step
    return on_grid


def num_levels(weight: Tensor) -> Tensor:
    """Return how many distinct values each row of a (rows, columns) tensor has, (rows,) int64."""
    ordered = weight.detach().sort(dim=1).values
    return 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(dim=1)


class _Through(torch.autograd.Function):
    """Rounds forward; backward, the gradient passes unchanged."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bits: int) -> Tensor:
        return rounded(weight, bits)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        return gradients[0], None


class _Rounded(nn.Module):
    """The parametrization that torch calls whenever a weight is read."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self._bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        on_grid: Tensor = _Through.apply(weight, self._bits)  # type: ignore[no-untyped-call]
        return on_grid


class Compression:
    """Trains with rounded weights, and leaves them rounded.

    The weights before rounding are what is trained, so a checkpoint is complete.
    """

    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config

    @torch.no_grad()
    def prepare(self, model: nn.Module, context: CompressionContext) -> nn.Module:
        """Freeze the embeddings and return the model, whose blocks see rounded weights from now on.

        Raises:
            ModelError: unsupported encoder.
        """
        bits = self.config.bits
        for module in embeddings(model):
            module.requires_grad_(False)
            if self.config.embeddings:
                for table in module.parameters():
                    if table.ndim == 2:
                        table.copy_(rounded(table, bits))
        for module, name, _ in prunable_places(model):
            parametrize.register_parametrization(module, name, _Rounded(bits))
        return model

    def after_step(self, model: nn.Module, progress: float) -> None:
        """Do nothing: rounding is a part of the forward."""

    def finalize(self, model: nn.Module) -> nn.Module:
        """Return the model with its rounded weights, and nothing attached to it.

        Raises:
            TrialError: weights are not finite, or take more values than asked.
        """
        bake_parametrizations(model)
        share = self._share(model)
        if share < 1:
            raise TrialError(
                f"every row of the blocks' weights must take at most {2**self.config.bits - 1} "
                f"values (compression.bits {self.config.bits}), but {1 - share:.2%} of the weights "
                "are in rows that do not, or are not finite; lower training.learning_rate"
            )
        return model

    def to_stock(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged: rounded weights are ordinary weights."""
        return model

    def stock_note(self) -> str:
        """Return what a user of the stock form has to know."""
        most = 2 ** (self.config.bits - 1) - 1
        return (
            f"Weights of the blocks take at most {2 * most + 1} values in each row, but are "
            "stored in full: this form is neither smaller nor faster than the dense one. A runtime "
            f"with symmetric {self.config.bits}-bit weights and a step for each row (output "
            f"channel), max|w| / {most}, makes it smaller and changes no weight."
        )

    def packed_bits(self, model: nn.Module) -> dict[str, float]:
        """Return the bits per entry, its share of the row's float32 step included, by name."""
        matrices = dict(prunable_weights(model))
        if self.config.embeddings:
            tables = {id(p) for m in embeddings(model) for p in m.parameters() if p.ndim == 2}
            matrices |= {name: p for name, p in model.named_parameters() if id(p) in tables}
        return {name: self.config.bits + 32 / each.shape[1] for name, each in matrices.items()}

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Return the share of weights on a grid (all should be), and the most values of a row."""
        weights = prunable_weights(model).values()
        most = max(int(num_levels(weight).max()) for weight in weights)
        return {
            "asked": {"quantized": 1.0, "bits_asked": float(self.config.bits)},
            "measured": {
                **measure(model),
                "quantized": self._share(model),
                "values_per_row": float(most),
            },
        }

    def _share(self, model: nn.Module) -> float:
        """Return the share of the blocks' weights in rows that have no more values than allowed."""
        weights = list(prunable_weights(model).values())
        most, on_grid = 2**self.config.bits - 1, 0
        for weight in weights:
            rows = (num_levels(weight) <= most) & weight.isfinite().all(dim=1)
            on_grid += int(rows.sum()) * weight.shape[1]
        return on_grid / num_entries(weights)
