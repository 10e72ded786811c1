"""What one forward says: hidden states against transformers' own, precision, the frozen teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rc_core.compression._base import Batch
from rc_core.errors import ModelError, TrialError
from rc_core.feeds import DeviceFeed
from rc_core.first_token import first_token_only
from rc_core.forward import BatchForward, FrozenTeacher, run, shape_of
from rc_core.losses._base import ModelShape
from rc_core.models import load_encoder
from tests.contracts._tiny import ARCHITECTURES, NUM_LAYERS, tiny_batch, tiny_model
from tests.rc_core._data import encoded


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def forward(model: nn.Module, batch: Batch, **options: Any) -> BatchForward:
    return BatchForward(model, batch, "fp32", **{"hidden": True, "teacher": None, **options})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_hidden_states_are_those_of_transformers(architecture: str) -> None:
    model, batch = tiny_model(architecture), tiny_batch()
    found = run(model, batch.inputs, "fp32", hidden=True)
    with torch.no_grad():
        expected = model(**batch.inputs, output_hidden_states=True)
    assert len(found.hidden_states) == NUM_LAYERS + 1 == len(expected.hidden_states)
    # ModernBERT's last one is told behind a norm of the whole encoder.
    last = NUM_LAYERS if architecture == "modernbert" else NUM_LAYERS + 1
    for ours, theirs in zip(found.hidden_states[:last], expected.hidden_states, strict=False):
        torch.testing.assert_close(ours, theirs)
    if architecture == "modernbert":
        final = model.base_model.final_norm(found.hidden_states[-1])
        torch.testing.assert_close(final, expected.hidden_states[-1])
    torch.testing.assert_close(found.logits, expected.logits)
    assert torch.equal(found.mask, batch.inputs["attention_mask"] == 1)
    assert shape_of(model) == ModelShape(NUM_LAYERS, 16)


def test_hooks_are_there_only_while_the_model_runs() -> None:
    model, batch = tiny_model("bert"), tiny_batch()
    before = hooks(model)
    run(model, batch.inputs, "fp32", hidden=True)
    assert hooks(model) == before
    wrong = {**batch.inputs, "input_ids": batch.inputs["input_ids"] + 1_000}
    with pytest.raises(IndexError):
        run(model, wrong, "fp32", hidden=True)
    assert hooks(model) == before


def test_a_block_that_stands_in_two_places_says_what_it_makes_in_each() -> None:
    model, batch = tiny_model("bert", num_layers=3), tiny_batch()
    layers = model.base_model.encoder.layer
    layers[2] = layers[0]
    found = run(model, batch.inputs, "fp32", hidden=True).hidden_states
    assert len(found) == 4
    with torch.no_grad():
        expected = model(**batch.inputs, output_hidden_states=True).hidden_states
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_in_bf16_everything_that_is_said_is_float32() -> None:
    """What a norm returns is so of itself; here a block ends in something else."""
    model, batch = tiny_model("bert"), tiny_batch()

    def rounded(module: nn.Module, given: object, output: Tensor) -> Tensor:
        return output.bfloat16() if torch.is_autocast_enabled("cpu") else output

    model.base_model.encoder.layer[1].register_forward_hook(rounded)
    found, full = (run(model, batch.inputs, each, hidden=True) for each in ("bf16", "fp32"))
    assert {each.dtype for each in (found.logits, *found.hidden_states)} == {torch.float32}
    assert not torch.equal(found.logits, full.logits)
    for ours, theirs in zip(found.hidden_states, full.hidden_states, strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.1, rtol=0.1)
    found.hidden_states[2].sum().backward()
    assert model.base_model.encoder.layer[0].output.dense.weight.grad.dtype == torch.float32


def test_each_pass_draws_dropout_of_its_own_and_the_teacher_none() -> None:
    model, frozen, batch = tiny_model("bert"), tiny_model("bert", seed=9).train(), tiny_batch()
    ask = forward(model.train(), batch, teacher=FrozenTeacher(frozen))
    with pytest.raises(TrialError, match=r"on_model\(\) must call forward\(\)"):
        ask.check_called()
    first, second = ask(), ask()
    ask.check_called()
    assert not torch.equal(first.logits, second.logits)
    said, again = ask.teacher(), ask.teacher()
    assert torch.equal(said.logits, again.logits)
    for each in (said.logits, *said.hidden_states):
        assert not each.requires_grad
    assert model.training and not frozen.training
    assert not any(each.requires_grad for each in frozen.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_hidden_states_the_teacher_says_the_same(architecture: str) -> None:
    frozen, batch = tiny_model(architecture), tiny_batch()
    teacher = FrozenTeacher(frozen)
    whole, quick = (teacher.output(batch, "fp32", hidden=each) for each in (True, False))
    torch.testing.assert_close(quick.logits, whole.logits, atol=1e-5, rtol=1e-5)
    attention = next((m for m in frozen.modules() if "forward" in vars(m)), None)
    assert attention is None, "what is computed for the first token only is over after it"


def test_what_was_not_asked_for_before_training_is_told() -> None:
    model, batch = tiny_model("bert"), tiny_batch()
    ask = forward(model, batch, hidden=False)
    with pytest.raises(TrialError, match=r"Loss\.needs does not name 'hidden_states'; add"):
        _ = ask().hidden_states
    with pytest.raises(TrialError, match="needs does not name 'teacher_model'; add it"):
        ask.teacher()
    with pytest.raises(ModelError, match="transformer blocks"):
        shape_of(tiny_model("albert"))


def test_states_of_the_last_block_are_whole_outside_of_the_first_token_s_short_cut() -> None:
    """Which `fit` leaves out for a loss that sees them; see also tests/rc_core/test_training.py."""
    model, batch = tiny_model("bert"), tiny_batch()

    def last() -> Tensor:
        return run(model, batch.inputs, "fp32", hidden=True).hidden_states[-1]

    assert last().shape == (6, 8, 16)
    with first_token_only(model):
        assert last().shape == (6, 1, 16)


def test_a_teacher_with_tokens_of_its_own_does_not_wait_for_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To read row numbers back from a GPU would drain its queue in every step."""
    tokens = encoded(8, 0)
    teacher = FrozenTeacher(load_encoder("tiny:bert", label_names=["a", "b", "c"], seed=0), tokens)
    batch = DeviceFeed(tokens, torch.device("cpu")).batch(np.array([5, 2, 7]))
    expected = teacher.output(replace(batch, host_rows=None), "fp32", hidden=False)

    def wait(*unused: object, **options: object) -> None:
        raise AssertionError("a tensor was read on the host")

    for name in ("cpu", "numpy", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, wait)
    assert torch.equal(teacher.output(batch, "fp32", hidden=False).logits, expected.logits)
