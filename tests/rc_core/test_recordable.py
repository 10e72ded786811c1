"""Whose steps a GPU may replay: both plugins say so of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from rc_core import plugins
from rc_core.assembly import recordable
from rc_core.compression.dense import Compression as Dense
from rc_core.compression.dense import Config as DenseConfig
from rc_core.config import PLUGIN_PACKAGES
from rc_core.losses._base import Forward, LossContext, Need
from rc_core.losses.distil import Config, Loss

DENSE = Dense(DenseConfig(name="dense"))


# What this package brings; a plugin of a user's own may leave `recordable` out.
OURS = {
    "loss": ("conf_reg", "distil", "focal", "jtt", "poe", "rmc", "smooth", "vanilla"),
    "compression": (
        "dense",
        "ffn",
        "heads",
        "magnitude",
        "movement",
        "quantized",
        "semistructured",
        "sensitivity",
        "student",
    ),
}


def made(kind: str, name: str) -> Any:
    module: Any = plugins.load(PLUGIN_PACKAGES[kind], name)
    return module.Loss if kind == "loss" else module.Compression


@pytest.mark.parametrize("kind", OURS)
def test_all_of_ours_do(kind: str) -> None:
    assert set(OURS[kind]) <= set(plugins.available(PLUGIN_PACKAGES[kind]))
    for name in OURS[kind]:
        assert vars(made(kind, name)).get("recordable") is True, name


@pytest.mark.parametrize("kind", OURS)
def test_whoever_says_so_says_it_with_a_bool(kind: str) -> None:
    for name in plugins.available(PLUGIN_PACKAGES[kind]):
        assert isinstance(vars(made(kind, name)).get("recordable", False), bool), name


def test_what_is_derived_from_ours_has_to_say_so_again() -> None:
    """Here: a teacher's weight that Python counts up, which a recording would freeze."""

    class Annealed(Loss):
        calls = 0

        def __call__(self, logits: Tensor, labels: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
            self.calls += 1
            return super().__call__(logits, labels, rows) / self.calls

    class Same(Loss):
        recordable = True

    config = Config(name="distil")
    assert recordable(Loss(config), DENSE)
    assert not recordable(Annealed(config), DENSE)
    assert recordable(Same(config), DENSE)

    class Silent:
        pass

    # Nobody has tried whether a recording is right of a model that the loss runs itself.
    class Twice(Loss):
        recordable = True

        def on_model(self, forward: Forward, labels: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
            return forward().logits.sum() + forward().logits.sum()

    # Nor of a loss that is trained.
    class Weighted(nn.Module):
        needs: ClassVar[frozenset[Need]] = frozenset()
        recordable = True

        def __init__(self, *, trained: bool) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()), requires_grad=trained)

        def rows(self, context: LossContext) -> dict[str, Tensor]:
            return {}

    assert not recordable(Twice(config), DENSE)
    assert not recordable(Weighted(trained=True), DENSE)
    assert recordable(Weighted(trained=False), DENSE)

    assert not recordable(Loss(config), Silent())  # type: ignore[arg-type]
