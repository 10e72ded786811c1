"""The uncompressed encoder: nothing is removed; the reference everything is compared with."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from rc_core.compression._base import CompressionContext
from rc_core.compression._layers import blocks
from rc_core.compression._masks import measure
from rc_core.config import CompressionConfig
from rc_core.errors import Problem
from rc_core.model_facts import ModelFacts


class Config(CompressionConfig):
    """No settings of its own."""


def problems(config: Config, facts: ModelFacts) -> list[Problem]:
    """Return what is wrong with `config` for an encoder: never anything."""
    return []


class Compression:
    """Leaves the model as it is."""

    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config

    def prepare(self, model: nn.Module, context: CompressionContext) -> nn.Module:
        """Return the model unchanged. Raises ModelError for an unsupported encoder."""
        blocks(model)
        return model

    def after_step(self, model: nn.Module, progress: float) -> None:
        """Do nothing."""

    def finalize(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged."""
        return model

    def to_stock(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged: it is a stock model."""
        return model

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Return what was measured; nothing was asked for."""
        return {"asked": {"sparsity": 0.0}, "measured": measure(model)}
