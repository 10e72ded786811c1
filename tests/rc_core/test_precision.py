"""What `precision: auto` is: decided by the steps that are trained, whatever else is running."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rc_core import precision
from rc_core.config import TrainingConfig, decode
from rc_core.models import load_encoder
from rc_core.precision import timed_precision
from rc_core.workspace import Workspace
from tests.rc_core._data import LABELS, encoded


class Timed(nn.Module):
    """Moves the processor's clock by so many seconds a step, and by an hour where others disturb.

    Args:
        disturbed: whole steps, counted over both precisions.
    """

    def __init__(self, bf16: float, disturbed: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.head = nn.Linear(1, 2)
        self.seconds, self.disturbed, self.now = {"fp32": 1.0, "bf16": bf16}, disturbed, 0.0
        self.steps: list[tuple[str, int]] = []
        self.threads: set[int] = set()

    def process_time(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        raise AssertionError("the time that goes by is not the trial's alone")

    def forward(self, input_ids: Tensor, **_: Tensor) -> Any:
        assert self.training
        kind, size = "bf16" if torch.is_autocast_enabled("cpu") else "fp32", len(input_ids)
        whole = sum(each == 20 for _, each in self.steps)
        first = (kind, size) not in self.steps
        self.now += 3600.0 if first or whole in self.disturbed else self.seconds[kind]
        self.steps.append((kind, size))
        self.threads.add(torch.get_num_threads())
        return SimpleNamespace(logits=self.head(input_ids[:, :1].float()))


@pytest.mark.parametrize(
    ("net", "expected", "sizes"),
    [
        # Emulated: no whole batch is tried in it.
        (Timed(3.1), "fp32", {2}),
        (Timed(2.9), "fp32", {2, 20}),
        # Not clearly faster.
        (Timed(0.96), "fp32", {2, 20}),
        (Timed(0.94), "bf16", {2, 20}),
        # A disturbed step of each, the first of them not counted.
        (Timed(0.9, disturbed=(3, 6)), "bf16", {2, 20}),
        (Timed(1.0, disturbed=(4, 8)), "fp32", {2, 20}),
    ],
)
def test_bf16_is_taken_where_a_step_is_clearly_faster_in_it(
    net: Timed, expected: str, sizes: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The module's own name alone: everyone else's clock goes on.
    monkeypatch.setattr(precision, "time", net)
    torch.set_num_threads(2)
    training = TrainingConfig(batch_size=20, learning_rate=1e9)
    assert timed_precision(net, encoded(40, 0), training) == expected
    assert {size for _, size in net.steps} == sizes
    whole = [kind for kind, size in net.steps if size == 20]
    assert whole == ["fp32", "bf16"] * (len(whole) // 2), "in turn"
    assert len(whole) in (0, 12), "five that count, after one that does not"
    assert net.threads == {1} and torch.get_num_threads() == 2


def test_the_timed_steps_are_those_of_the_training_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []
    fit = precision.fit  # type: ignore[attr-defined]

    def seen(*given: Any, **rest: Any) -> Any:
        entered.append(rest["precision"])
        return fit(*given, **rest)

    monkeypatch.setattr(precision, "fit", seen)
    net = load_encoder("tiny:bert", label_names=LABELS, seed=0)
    assert timed_precision(net, encoded(16, 0), TrainingConfig()) in ("fp32", "bf16")
    assert set(entered) == {"fp32", "bf16"}
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_that_has_bf16_takes_it_untimed(
    supported: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(including_emulation: bool = True) -> bool:
        return supported or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", asked)
    workspace, config = Workspace(tmp_path, device="cuda"), decode({"model": "tiny:bert"})
    assert workspace.knows_precision(config)
    assert workspace.precision(config) == ("bf16" if supported else "fp32")
    assert not workspace.store.entries()
