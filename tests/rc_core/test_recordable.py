"""Whose steps a GPU may replay: both plugins say so of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from torch import Tensor

from rc_core import plugins
from rc_core.assembly import recordable
from rc_core.compression.dense import Compression as Dense
from rc_core.compression.dense import Config as DenseConfig
from rc_core.config import PLUGIN_PACKAGES
from rc_core.losses.distil import Config, Loss

DENSE = Dense(DenseConfig(name="dense"))


@pytest.mark.parametrize("kind", ["loss", "compression"])
def test_all_of_ours_do(kind: str) -> None:
    package = PLUGIN_PACKAGES[kind]
    for name in plugins.available(package):
        module: Any = plugins.load(package, name)
        made: Any = module.Loss if kind == "loss" else module.Compression
        assert vars(made)["recordable"] is True, name


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

    assert not recordable(Loss(config), Silent())  # type: ignore[arg-type]
