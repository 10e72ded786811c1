"""Turns, medians and inputs of a timing, with a clock that only the runs move."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rc_core.metrics.latency import (
    METRICS,
    WARM_UP,
    batch_of,
    in_turn,
    intervals,
    latency,
    median_interval,
    ratios,
    time_models,
)
from tests.contracts._tiny import ARCHITECTURES, tiny_model


class Machine:
    """A clock and runs of known cost; the first of two calls in a row costs ten times as much."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []
        self.pace = 1.0
        self.waits = 0

    def run(self, name: str, cost: float) -> Callable[[], None]:
        def call() -> None:
            cold = not self.calls or self.calls[-1] != name
            self.calls.append(name)
            self.now += cost * self.pace * (10 if cold else 1)

        return call

    def synchronise(self) -> None:
        self.waits += 1


def test_each_round_gives_every_run_a_turn_and_begins_with_another() -> None:
    machine = Machine()
    runs = {name: machine.run(name, cost) for name, cost in (("a", 4.0), ("b", 2.0), ("c", 1.0))}
    found = in_turn(
        runs, rounds=4, clock=lambda: machine.now, synchronise=lambda: machine.synchronise()
    )
    # The cold call before each is not in it, nor are the rounds of the warm-up.
    assert {name: len(each) for name, each in found.items()} == {"a": 4, "b": 4, "c": 4}
    for name, cost in (("a", 4.0), ("b", 2.0), ("c", 1.0)):
        assert found[name] == pytest.approx([cost] * 4)
    turns = machine.calls[::2]
    assert turns == machine.calls[1::2], "a turn is two calls in a row"
    assert len(turns) == 3 * (4 + WARM_UP)
    assert [turns[i : i + 3] for i in range(0, len(turns), 3)][-4:] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
    assert machine.waits == 2 * len(turns)


def test_a_machine_that_gets_slower_changes_no_ratio() -> None:
    machine = Machine()
    rounds = 0

    def reference() -> None:
        nonlocal rounds
        rounds += 1
        # Twice as slow from the middle on, as where another program starts.
        machine.pace = 1.0 if rounds <= 2 * WARM_UP + 8 else 2.0
        machine.run("dense", 4.0)()

    found = in_turn(
        {"dense": reference, "half": machine.run("half", 2.0)}, rounds=8, clock=lambda: machine.now
    )
    values = latency(found["half"], found["dense"], batch=8)
    assert set(values) == set(METRICS)
    assert values["latency/relative"] == pytest.approx(0.5)
    assert {round(each, 6) for each in found["half"]} == {2.0, 4.0}


def test_medians_are_over_rounds_and_ratios_within_them() -> None:
    """By hand: medians 3 s and 20 s, ratios 0.1, 0.15, 1.5; the middle one is 0.15."""
    own, dense = [1.0, 3.0, 30.0], [10.0, 20.0, 20.0]
    assert ratios(own, dense) == pytest.approx([0.1, 0.15, 1.5])
    values = latency(own, dense, batch=6)
    assert values == pytest.approx(
        {
            "latency/milliseconds": 3000.0,
            "latency/relative": 0.15,
            "latency/samples_per_second": 2.0,
        }
    )
    assert latency([1.0, 9.0, 1.0], [1.0, 3.0, 0.5], 1)["latency/relative"] == pytest.approx(2.0)


def test_the_interval_of_a_median_is_read_from_the_order_of_the_rounds() -> None:
    """Ranks from a table of the sign test: 1 and 6 of 6, 2 and 9 of 10, 10 and 21 of 30."""
    assert median_interval([5.0, 1.0, 4.0, 2.0, 3.0]) is None
    for n, low, high in ((6, 1, 6), (10, 2, 9), (30, 10, 21), (5000, 2431, 2570)):
        assert median_interval([float(value) for value in range(n, 0, -1)]) == [low, high]
    own, dense = [2.0, 2.0, 2.0, 2.0, 2.0, 3.0], [4.0, 4.0, 4.0, 5.0, 4.0, 4.0]
    assert intervals(own, dense, batch=6) == {
        "latency/milliseconds": [2000.0, 3000.0],
        "latency/relative": [0.4, 0.75],
        "latency/samples_per_second": [2.0, 3.0],
    }
    assert set(intervals(own[:2], dense[:2], 6).values()) == {None}


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Of times with the long tail of a busy machine."""
    draws = np.random.default_rng(0).lognormal(0.0, 1.0, (2_000, 30))
    found = [median_interval(row.tolist()) for row in draws]
    covered = [ends is not None and ends[0] <= 1.0 <= ends[1] for ends in found]
    assert 0.945 < np.mean(covered) < 0.97


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_inputs_are_pairs_without_padding_that_the_encoder_takes(architecture: str) -> None:
    model = tiny_model(architecture).eval()
    inputs = batch_of(model, 3, 32)
    assert inputs["input_ids"].shape == (3, 32)
    assert not (inputs["input_ids"] == model.config.pad_token_id).any()
    assert bool(inputs["attention_mask"].all())
    again = batch_of(model, 3, 32)
    assert all(torch.equal(each, again[key]) for key, each in inputs.items())
    if architecture == "bert":
        assert inputs["token_type_ids"][0].tolist() == [0] * 16 + [1] * 16
    with torch.inference_mode():
        assert model(**inputs).logits.shape[0] == 3


class Noted(torch.nn.Module):
    """A classifier that computes nothing and remembers how it was called."""

    config = SimpleNamespace(vocab_size=8, pad_token_id=0)

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[object, ...]] = []

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        shapes = tuple(input_ids.shape), tuple(attention_mask.shape)
        modes = self.training, torch.is_inference_mode_enabled()
        self.calls.append((*shapes, *modes, torch.get_num_threads()))
        return SimpleNamespace(logits=input_ids)


def test_models_are_called_as_stated_and_the_threads_are_given_back() -> None:
    models = {"dense": Noted().train(), "small": Noted().train()}
    before = torch.get_num_threads()
    found = time_models(
        models, batch=2, length=16, rounds=3, threads=before + 1, device=torch.device("cpu")
    )
    assert torch.get_num_threads() == before
    stated = ((2, 16), (2, 16), False, True, before + 1)
    for name, model in models.items():
        assert model.calls == [stated] * 2 * (3 + WARM_UP)
        assert len(found[name]) == 3 and min(found[name]) > 0
