"""A smaller encoder of some of the transformer blocks: the first, evenly spaced, or named ones.

The paper's Truncated-l6 is `num_layers: 6, select: first, init: teacher` (the first six layers of
the fine-tuned teacher); its Pretrained-l6 is the same with `init: pretrained` (Du et al. 2023,
section 3). Every parameter is trained, embeddings included.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from torch import nn

from rc_core.compression._base import CompressionContext
from rc_core.compression._layers import blocks, keep_blocks
from rc_core.compression._masks import measure
from rc_core.config import CompressionConfig
from rc_core.errors import ModelError, Problem


class Config(CompressionConfig):
    """Exactly one of `num_layers` and `keep`.

    Attributes:
        num_layers: blocks of the student, at most those of the encoder.
        select: `first` takes blocks 0 ... num_layers - 1; `spaced` spreads them evenly from the
            first to the last (one block: the first).
        keep: named blocks, counted from 0, strictly increasing; `select` has no part in it.
    """

    num_layers: Annotated[int, Field(ge=1)] | None = None
    select: Literal["first", "spaced"] = "first"
    keep: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None

    def label(self) -> str:
        """Return `student-3`, `student-3-spaced` or `student-0.2.5`."""
        if self.keep is not None:
            return f"student-{'.'.join(map(str, self.keep))}"
        return f"student-{self.num_layers}{'' if self.select == 'first' else '-spaced'}"

    @model_validator(mode="after")
    def _check(self) -> Config:
        if (self.num_layers is None) == (self.keep is None):
            raise ValueError("exactly one of num_layers and keep must be given")
        if self.keep is not None and list(self.keep) != sorted(set(self.keep)):
            raise ValueError("keep must be strictly increasing")
        return self


def problems(config: Config, num_layers: int) -> list[Problem]:
    """Return what is wrong with `config` for an encoder of `num_layers` blocks."""
    if config.num_layers is not None and config.num_layers > num_layers:
        return [
            Problem(
                "compression.num_layers",
                f"must be at most the encoder's {num_layers} layers, but got {config.num_layers}",
            )
        ]
    if config.keep is not None and config.keep[-1] >= num_layers:
        return [
            Problem(
                "compression.keep",
                f"must name layers of 0 ... {num_layers - 1} (the encoder has {num_layers}), "
                f"but got {list(config.keep)}",
            )
        ]
    return []


def kept_layers(config: Config, num_layers: int) -> tuple[int, ...]:
    """Return the positions of the blocks that stay, increasing.

    Args:
        num_layers: L, blocks of the encoder; `problems(config, L)` must be empty.

    Returns:
        `keep`, or k = num_layers of the config: 0 ... k - 1 (`first`), or i (L - 1) / (k - 1)
        rounded, half to even (`spaced`).
    """
    if config.keep is not None:
        return config.keep
    assert config.num_layers is not None
    count = config.num_layers
    if config.select == "first" or count == 1:
        return tuple(range(count))
    return tuple(round(i * (num_layers - 1) / (count - 1)) for i in range(count))


class Compression:
    """Drops blocks before training; nothing else changes."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._kept: tuple[int, ...] = ()

    def prepare(self, model: nn.Module, context: CompressionContext) -> nn.Module:
        """Return the model with the chosen blocks only.

        Raises:
            ModelError: unsupported encoder, or one with fewer blocks than asked.
        """
        num_layers = len(blocks(model))
        wrong = problems(self.config, num_layers)
        if wrong:
            raise ModelError(wrong)
        self._kept = kept_layers(self.config, num_layers)
        keep_blocks(model, self._kept)
        return model

    def after_step(self, model: nn.Module, progress: float) -> None:
        """Do nothing."""

    def finalize(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged."""
        return model

    def to_stock(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged: it is a stock model with fewer layers in its config."""
        return model

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Return the layers kept and what was measured."""
        return {
            "asked": {"layers": len(self._kept), "kept": list(self._kept)},
            "measured": measure(model),
        }
