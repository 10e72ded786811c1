"""Losses of other kinds than ours, each one file: what they keep, draw, and cannot have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rc_core.assembly import prepare_loss
from rc_core.config import PLUGIN_PACKAGES, TrialConfig, decode
from rc_core.errors import TrialError
from rc_core.record import TrialFolder
from rc_core.trial import run_trial, trial_steps
from rc_core.workspace import Workspace
from tests.contracts import test_losses as contract
from tests.rc_core._plugins import WrittenPlugins, written
from tests.rc_core._trials import tiny_trial

__all__ = ["written"]

PACKAGE = PLUGIN_PACKAGES["loss"]

# Groups with a large loss count more (Sagawa et al. 2020), and labels are smoothed less and less.
GROUP_DRO = '''"""Group DRO with label smoothing that is annealed."""

import torch
from torch.nn import functional

from rc_core.config import PluginConfig


class Config(PluginConfig):
    """How fast weights move, and how much is smoothed at first."""

    rate: float = 0.5
    smoothing: float = 0.3


class Loss:
    """Cross-entropy, weighted by group."""

    needs = frozenset()

    def __init__(self, config):
        self.config = config
        self.weights = torch.ones(2)
        self.smoothing = config.smoothing

    def rows(self, context):
        return {"group": context.labels % 2}

    def before_step(self, progress):
        self.smoothing = self.config.smoothing * (1 - progress)

    def __call__(self, logits, labels, rows):
        each = functional.cross_entropy(
            logits.float(), labels, reduction="none", label_smoothing=self.smoothing
        )
        for group in (0, 1):
            inside = each.detach()[rows["group"] == group]
            if len(inside):
                self.weights[group] *= torch.exp(self.config.rate * inside.mean())
        self.weights = 2 * self.weights / self.weights.sum()
        return (self.weights[rows["group"]] * each).mean()

    def state_dict(self):
        return {"weights": self.weights}

    def load_state_dict(self, state):
        self.weights = state["weights"]
'''


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("artifacts"))


def config(**changes: Any) -> TrialConfig:
    section = tiny_trial(train_size=100, held_out=60, epochs=2, rungs=2, loss={"name": "mine"})
    return decode({**section, "compression": {"name": "magnitude"}, **changes})


def test_what_a_loss_keeps_and_how_far_it_is_outlive_a_stop(
    written: WrittenPlugins, workspace: Workspace, tmp_path: Path
) -> None:
    written.write(PACKAGE, GROUP_DRO)
    contract.test_what_is_kept_from_step_to_step_outlives_a_stop("mine")
    whole, cut = TrialFolder(tmp_path / "whole"), TrialFolder(tmp_path / "cut")
    run_trial(config(), workspace, whole, trial_id="t")
    steps = trial_steps(config(), workspace, cut, trial_id="t")
    next(steps)
    steps.close()
    run_trial(config(), workspace, cut, trial_id="t")
    found = [(each.model / "model.safetensors").read_bytes() for each in (whole, cut)]
    assert found[0] == found[1]


def test_what_a_loss_draws_does_not_depend_on_what_ran_before(
    written: WrittenPlugins, workspace: Workspace
) -> None:
    text = GROUP_DRO.replace("context.labels % 2", "torch.randint(2, context.labels.shape)")
    assert text != GROUP_DRO
    written.write(PACKAGE, text)
    drawn = []
    for used in (3, 5):
        torch.rand(used)
        drawn.append(prepare_loss(config(), workspace)[1]["group"])
    other = config(training=config().training.as_dict() | {"seed": 1})
    drawn.append(prepare_loss(other, workspace)[1]["group"])
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("module", [False, True])
def test_a_loss_that_would_be_trained_is_refused(
    written: WrittenPlugins, workspace: Workspace, module: bool
) -> None:
    """Its parameters would stay as they are, and nothing would say so."""
    text = GROUP_DRO.replace("torch.ones(2)", "torch.nn.Parameter(torch.ones(2))")
    if module:
        text = text.replace("class Loss:", "class Loss(torch.nn.Module):").replace(
            "        self.config = config\n",
            "        super().__init__()\n        self.config = config\n",
        )
    written.write(PACKAGE, text)
    with pytest.raises(TrialError, match=r"mine.py: nothing of a loss itself is trained, but it"):
        prepare_loss(config(), workspace)
