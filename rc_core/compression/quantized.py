"""Weights rounded to a few bits, with training that knows it: the blocks' 2-D weights, row by row.

w_q = s clamp(round(w / s), -n, n), n = 2^(bits - 1) - 1: symmetric, one step s for each row (output
unit), as runtimes with integer weights have it. From 5 bits on s = max|w| / n; below, where one
large weight would cost all the others their levels, s = min(max|w| / n, c_bits sqrt(mean w^2)),
with c the step that is best for normal weights (Max 1960). Either way the largest weight of a row
ends at n s, so a runtime that takes max|w_q| / n for its step loses nothing more.

The forward sees w_q, the optimizer moves w: gradients pass the rounding unchanged (straight-
through, Bengio et al. 2013; as training for 8 bits in Jacob et al. 2018 and Zafrir et al. 2019).
Activations are not rounded. Not in Du et al. 2023.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rc_core.compression._base import CompressionContext
from rc_core.compression._layers import blocks, embeddings
from rc_core.compression._masks import (
    measure,
    num_entries,
    prunable_places,
    prunable_weights,
)
from rc_core.config import CompressionConfig
from rc_core.errors import Problem, TrialError
from rc_core.model_facts import ModelFacts

# Step over standard deviation with the least squared error on a normal distribution, for 3, 7 and
# 15 levels. On all-MiniLM-L6-v2's weights the error is 2, 9 and 34 % above that of the best step of
# every row by itself; max|w| / n has 3.6, 2.4 and 1.6 times as much.
_NORMAL_STEPS = {2: 1.2240, 3: 0.6508, 4: 0.3534}


class Config(CompressionConfig):
    """How finely weights are kept.

    Attributes:
        bits: of a weight, 2 to 8; 2 leaves -s, 0 and s.
        embeddings: round the embedding tables as well, once, before training (they are frozen).
    """

    bits: Annotated[int, Field(ge=2, le=8)] = 8
    embeddings: bool = False

    def label(self) -> str:
        """Return `quantized-4bit`, and what else differs from the defaults."""
        parts = self.label_parts(leave_out=["bits"])
        return " ".join([f"{self.name}-{self.bits}bit", *parts])


def problems(config: Config, facts: ModelFacts) -> list[Problem]:
    """Return what is wrong with `config` for an encoder: never anything."""
    return []


def rounded(weight: Tensor, bits: int) -> Tensor:
    """Return the weights on the grid of each row.

    Args:
        weight: (rows, columns), float, finite; a row of zeros stays one.
        bits: 2 to 8.
    """
    most = 2 ** (bits - 1) - 1
    step = weight.abs().amax(dim=1, keepdim=True) / most
    if bits in _NORMAL_STEPS:
        deviation = weight.square().mean(dim=1, keepdim=True).sqrt()
        step = torch.minimum(step, _NORMAL_STEPS[bits] * deviation)
    # A row of zeros, or of what is zero in float32 once it is divided.
    step = step.clamp(min=torch.finfo(weight.dtype).tiny)
    found: Tensor = (weight / step).round().clamp(-most, most) * step
    return found


def num_levels(weight: Tensor) -> Tensor:
    """Return how many different values each row of a (rows, columns) tensor has, (rows,) int64."""
    ordered = weight.detach().sort(dim=1).values
    return 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(dim=1)


class _Through(torch.autograd.Function):
    """Rounds forward; backward the gradient passes as it is."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bits: int) -> Tensor:
        return rounded(weight, bits)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        return gradients[0], None


class _Rounded(nn.Module):
    """What torch calls whenever a weight is asked for."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self._bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        found: Tensor = _Through.apply(weight, self._bits)  # type: ignore[no-untyped-call]
        return found


class Compression:
    """Trains with rounded weights, and leaves them rounded.

    What is trained are the weights before rounding, so a checkpoint has all that there is.
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
        for module in list(blocks(model).modules()):
            if parametrize.is_parametrized(module):
                for name in list(module.parametrizations):  # type: ignore[arg-type]
                    parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        share = self._share(model)
        if share < 1:
            raise TrialError(
                f"every row of the blocks' weights must take at most {2**self.config.bits - 1} "
                f"values (compression.bits {self.config.bits}), but {1 - share:.2%} of the weights "
                "are in rows that do not, or are not finite; lower training.learning_rate"
            )
        return model

    def to_stock(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged: rounded weights are ordinary ones."""
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
        """Return the bits of an entry, its row's float32 step included, by parameter name."""
        found = dict(prunable_weights(model))
        if self.config.embeddings:
            tables = {id(p) for m in embeddings(model) for p in m.parameters() if p.ndim == 2}
            found |= {name: p for name, p in model.named_parameters() if id(p) in tables}
        return {name: self.config.bits + 32 / weight.shape[1] for name, weight in found.items()}

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Return the share of weights that are on a grid (all), and the most values of a row."""
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
        """Return the share of the blocks' weights in rows that have not too many values."""
        weights = list(prunable_weights(model).values())
        most, held = 2**self.config.bits - 1, 0
        for weight in weights:
            fine = (num_levels(weight) <= most) & weight.isfinite().all(dim=1)
            held += int(fine.sum()) * weight.shape[1]
        return held / num_entries(weights)
