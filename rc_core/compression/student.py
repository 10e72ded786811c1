"""A smaller encoder: the first, evenly spaced or named blocks, or another encoder altogether.

The paper's Truncated-l6 is `num_layers: 6, select: first, init: teacher` (the first six layers of
the fine-tuned teacher); its Pretrained-l6 is the same with `init: pretrained` (Du et al. 2023,
section 3). Every parameter is trained, embeddings included.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from torch import nn

from rc_core.compression._base import CompressionContext
from rc_core.compression._layers import blocks, keep_blocks
from rc_core.compression._masks import measure
from rc_core.config import CompressionConfig, absolute_model
from rc_core.errors import ModelError, Problem
from rc_core.model_facts import ModelFacts


class Config(CompressionConfig):
    """Blocks of the sweep's encoder (exactly one of `num_layers` and `keep`), or another encoder.

    Attributes:
        num_layers: number of blocks of the student, at most those of the encoder.
        select: `first` takes blocks 0 ... num_layers - 1; `spaced` spreads them evenly from the
            first to the last (a single block: the first).
        keep: the blocks to keep, counted from 0, strictly increasing; `select` is not used then.
        model: another encoder, named as the sweep's `model` is, with its own tokenizer (DistilBERT,
            a smaller BERT); then all its blocks are kept unless `num_layers` or `keep` says
            otherwise.
    """

    num_layers: Annotated[int, Field(ge=1)] | None = None
    select: Literal["first", "spaced"] = "first"
    keep: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    model: Annotated[str, Field(min_length=1)] | None = None

    @field_validator("model")
    @classmethod
    def _absolute(cls, model: str | None) -> str | None:
        return None if model is None else absolute_model(model)

    def encoder(self, model: str) -> str:
        """Return the student's own encoder, or the sweep's."""
        return self.model or model

    def label(self) -> str:
        """Return `student-3`, `student-3-spaced`, `student-0.2.5` or `student-distilbert-base`."""
        parts = ["student"]
        if self.model is not None:
            # The last part of a path or a hub id, without its revision, is enough of a name.
            name = self.model.partition("@")[0].rstrip("/").rpartition("/")[2]
            parts.append(name.rpartition(":")[2])
        if self.keep is not None:
            parts.append(".".join(map(str, self.keep)))
        elif self.num_layers is not None:
            parts.append(str(self.num_layers))
            parts += [] if self.select == "first" else [self.select]
        return "-".join(parts)

    @model_validator(mode="after")
    def _check(self) -> Config:
        given = (self.num_layers is not None) + (self.keep is not None)
        if given > 1 or (given == 0 and self.model is None):
            raise ValueError("exactly one of num_layers and keep must be given")
        if self.model is not None and self.init == "teacher":
            raise ValueError(
                "another encoder cannot start from the teacher: init must be pretrained"
            )
        if self.keep is not None and list(self.keep) != sorted(set(self.keep)):
            raise ValueError("keep must be strictly increasing")
        return self


def problems(config: Config, facts: ModelFacts) -> list[Problem]:
    """Return what is wrong with `config` for the encoder that it is cut from."""
    found = _problems(config, facts.num_layers)
    if facts.model_type == "modernbert" and config.keep is not None and config.keep[0] != 0:
        found.append(
            Problem(
                "compression.keep",
                "must begin with 0, as ModernBERT's first block has a shape of its own, but got "
                f"{list(config.keep)}",
            )
        )
    return found


def _problems(config: Config, num_layers: int) -> list[Problem]:
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
    """Return the positions of the blocks that are kept, increasing.

    Args:
        config: of the student.
        num_layers: L, blocks of the encoder; `problems` must be empty.

    Returns:
        `keep`, or with k the config's num_layers: 0 ... k - 1 (`first`), or i (L - 1) / (k - 1)
        rounded, half to even (`spaced`).
    """
    if config.keep is not None:
        return config.keep
    count = num_layers if config.num_layers is None else config.num_layers
    if config.select == "first" or count == 1:
        return tuple(range(count))
    return tuple(round(i * (num_layers - 1) / (count - 1)) for i in range(count))


class Compression:
    """Drops blocks before training; nothing else changes."""

    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config
        self._kept: tuple[int, ...] = ()

    def prepare(self, model: nn.Module, context: CompressionContext) -> nn.Module:
        """Return the model with the chosen blocks only.

        Raises:
            ModelError: unsupported encoder, or one with fewer blocks than asked for.
        """
        num_layers = len(blocks(model))
        wrong = _problems(self.config, num_layers)
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
        """Return the model unchanged: a stock model whose config states fewer layers."""
        return model

    def stock_note(self) -> str:
        """Return what a user of the stock form has to know."""
        if self.config.model is not None:
            return (
                f"An ordinary encoder made of {self.config.model}, with a tokenizer of its own: as "
                "small and as fast as it looks, on every runtime."
            )
        return (
            "An ordinary encoder in which only the layers that were kept are left: the fewer they "
            "are, the smaller and faster it is, on every runtime."
        )

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Return the layers kept, and what was measured."""
        return {
            "asked": {"layers": len(self._kept), "kept": list(self._kept)},
            "measured": measure(model),
        }
