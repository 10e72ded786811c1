"""The last block for the first token only: the stock model's logits and gradients."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rc_core.compression._heads import keep_heads
from rc_core.compression._layers import blocks, keep_blocks
from rc_core.config import TrainingConfig
from rc_core.cpu_steps import fast_steps
from rc_core.first_token import first_token_only
from rc_core.models import load_encoder
from rc_core.training import fit_vanilla, predict
from tests.contracts._tiny import ARCHITECTURES
from tests.rc_core._data import LABELS, encoded

LIKE_BERT = [each for each in ARCHITECTURES if each != "modernbert"]


def encoder(architecture: str = "bert") -> nn.Module:
    return load_encoder(f"tiny:{architecture}", label_names=LABELS, seed=0)


def batch(*, padded: bool = True) -> dict[str, Tensor]:
    ids = torch.randint(5, 60, (4, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def run(model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    logits = model(**inputs).logits
    logits.square().sum().backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), grads


def compare(model: nn.Module, inputs: dict[str, Tensor], *, fast: bool) -> None:
    expected = run(model, inputs)
    with ExitStack() as stack:
        if fast:
            stack.enter_context(fast_steps(model))
        stack.enter_context(first_token_only(model))
        widths: list[int] = []
        hook = blocks(model)[-1].register_forward_hook(lambda m, i, o: widths.append(o.shape[1]))
        found = run(model, inputs)
        hook.remove()
    assert widths == [1], "the last block was computed for other tokens too"
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-6)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("architecture", LIKE_BERT)
def test_logits_and_gradients_are_the_stock_models(architecture: str, fast: bool) -> None:
    model = encoder(architecture).eval()
    compare(model, batch(), fast=fast)
    compare(model, batch(padded=False), fast=fast)


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_a_model_with_blocks_and_heads_cut_out_keeps_its_logits(architecture: str) -> None:
    model = encoder(architecture).eval()
    keep_blocks(model, [0, 2])
    keep_heads(model, [[0, 3], [1]])
    compare(model, batch(), fast=True)


@pytest.mark.parametrize("architecture", LIKE_BERT)
def test_the_model_is_as_it_was_afterwards_also_after_an_error(architecture: str) -> None:
    model = encoder(architecture)
    with pytest.raises(KeyError), first_token_only(model):
        assert any("forward" in vars(module) for module in model.modules())
        raise KeyError
    assert not any("forward" in vars(module) for module in model.modules())


def test_dropout_is_at_work_in_the_last_block() -> None:
    model = encoder()
    keep_blocks(model, [0])
    model.eval()
    model.bert.encoder.train()
    with first_token_only(model):
        first, second = (model(**batch()).logits for _ in range(2))
    assert not torch.equal(first, second)


def test_other_models_and_other_attention_are_left_alone() -> None:
    model: Any = encoder()
    model.config._attn_implementation = "eager"
    for each in (model, encoder().get_submodule("bert"), nn.Linear(2, 2)):
        with first_token_only(each):
            assert not any("forward" in vars(module) for module in each.modules())


def bypassed(model: nn.Module) -> Any:
    """Return the module of the last block that the shortcut does not call."""
    attention: Any = blocks(model)[-1].attention
    return getattr(attention, "self", attention)


@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
@pytest.mark.parametrize("architecture", LIKE_BERT)
def test_hooks_in_the_last_block_are_called_in_training(architecture: str, kind: str) -> None:
    model, calls = encoder(architecture), []
    register = getattr(bypassed(model), f"register_{kind}_hook")
    register(lambda module, *rest: calls.append(module))
    training = TrainingConfig(epochs=1, batch_size=4)
    list(fit_vanilla(model, encoded(12, 0, f"tiny:{architecture}"), training, precision="fp32"))
    assert len(calls) == 3


@pytest.mark.parametrize("architecture", LIKE_BERT)
def test_hooks_in_the_last_block_are_called_in_predict_and_see_every_token(
    architecture: str,
) -> None:
    model, widths = encoder(architecture), []
    inner, data = bypassed(model), encoded(12, 0, f"tiny:{architecture}")
    plain = predict(model, data)
    inner.register_forward_hook(lambda module, inputs, output: widths.append(output[0].shape[1]))
    torch.testing.assert_close(predict(model, data), plain)
    assert widths == [data.lengths.max()]


@pytest.mark.parametrize("architecture", LIKE_BERT)
def test_a_forward_of_the_instance_is_called_and_stays(architecture: str) -> None:
    model = encoder(architecture)
    last: Any = blocks(model)[-1]
    places = [last, last.attention, bypassed(model)]
    calls: list[nn.Module] = []
    for module in places:

        def forward(*inputs: Any, module: Any = module, **more: Any) -> Any:
            calls.append(module)
            return type(module).forward(module, *inputs, **more)

        module.forward = forward
        with first_token_only(model):
            model(**batch())
        assert module in calls
        assert module.forward is forward
        del module.forward


@pytest.mark.parametrize("architecture", LIKE_BERT)
def test_a_class_of_its_own_is_left_alone(architecture: str) -> None:
    model = encoder(architecture)
    last: Any = blocks(model)[-1]
    heads = [getattr(model, "classifier", None), getattr(model.base_model, "pooler", None)]
    modules = [model, last, last.attention, bypassed(model)]
    for module in modules + [each for each in heads if not isinstance(each, nn.Linear | None)]:
        stock = type(module)
        module.__class__ = type(stock.__name__, (stock,), {"__module__": __name__})
        with first_token_only(model):
            assert not any("forward" in vars(each) for each in model.modules())
        module.__class__ = stock
    with first_token_only(model):
        assert any("forward" in vars(each) for each in model.modules())
