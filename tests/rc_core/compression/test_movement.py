"""Movement pruning: scores against autograd and sums by hand, masks against a sort, when."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rc_core.compression._gradual import sparsity_at
from rc_core.compression._masks import lowest_masks, num_entries, num_zeros, prunable_weights
from rc_core.compression.movement import Compression, Config, _masked_weights
from rc_core.errors import ModelError, TrialError
from rc_core.schema import validate_section
from tests.contracts._tiny import adamw, logits_of, tiny_context, tiny_model, train_steps


def config(**values: Any) -> Config:
    found = validate_section(Config, {"name": "movement", **values})
    assert isinstance(found, Config)
    return found


def prepared(architecture: str = "bert", **values: Any) -> tuple[Any, Compression]:
    compression = Compression(config(**values))
    return compression.prepare(tiny_model(architecture), tiny_context(architecture)), compression


def masks_of(model: nn.Module) -> list[Tensor]:
    return [masked.mask.clone() for _, masked in _masked_weights(model)]


def query(model: Any) -> Any:
    """Return a layer, untyped: its weight and what computes it are found by name."""
    return model.bert.encoder.layer[0].attention.self.query


@pytest.mark.parametrize("seed", range(30))
def test_masks_are_those_of_a_stable_sort(seed: int) -> None:
    draw = random.Random(seed)
    values = [-torch.inf, -1.0, -0.5, 0.0, 0.25, 2.0]
    shapes = [(draw.randint(1, 4), draw.randint(1, 5)) for _ in range(draw.randint(1, 4))]
    scores = [torch.tensor([draw.choices(values, k=c) for _ in range(r)]) for r, c in shapes]
    flat = torch.cat([each.flatten() for each in scores]).tolist()
    for count in range(len(flat) + 1):
        pruned = set(sorted(range(len(flat)), key=flat.__getitem__)[:count])
        expected = [0.0 if i in pruned else 1.0 for i in range(len(flat))]
        found = lowest_masks(scores, count)
        assert [mask.shape for mask in found] == [each.shape for each in scores]
        assert torch.cat([mask.flatten() for mask in found]).tolist() == expected


def test_a_score_that_is_no_number_is_told() -> None:
    with pytest.raises(TrialError, match=r"lower training.learning_rate"):
        lowest_masks([torch.tensor([[0.0, torch.nan]])], 1)


def test_scores_have_the_gradient_that_the_mask_would_have() -> None:
    """Autograd's own, with masks as leaves, for weights that are pruned as well."""
    model, _ = prepared()
    layer = query(model)
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(16, 16, generator=generator) > 0.4).float()
    layer.parametrizations.weight[0].mask.copy_(mask)
    hidden = torch.randn(5, 16, generator=generator)

    weight = layer.parametrizations.weight.original.detach().clone().requires_grad_()
    leaf = mask.clone().requires_grad_()
    expected = hidden @ (weight * leaf).T + layer.bias.detach()
    expected.square().sum().backward()

    found = layer(hidden)
    assert torch.equal(found, expected)
    found.square().sum().backward()
    scores = layer.parametrizations.weight[0].scores
    assert leaf.grad is not None and (leaf.grad[mask == 0] != 0).any()
    torch.testing.assert_close(scores.grad.view(16, 16), leaf.grad)
    torch.testing.assert_close(layer.parametrizations.weight.original.grad, weight.grad)


def test_a_score_adds_up_what_its_weight_was_moved() -> None:
    """s = -rate sum of w dL/d(w m) over the steps, by plain gradient descent."""
    model, _ = prepared()
    layer = query(model)
    held = layer.parametrizations.weight
    layer.bias.requires_grad_(False)
    optimizer = torch.optim.SGD([held.original, held[0].scores], lr=0.05)
    expected = torch.zeros(16, 16)
    for seed in range(4):
        hidden = torch.randn(5, 16, generator=torch.Generator().manual_seed(seed))
        weight = held.original.detach().clone()
        masked = (weight * held[0].mask).requires_grad_()
        (hidden @ masked.T + layer.bias).square().sum().backward()
        assert masked.grad is not None
        expected -= 0.05 * masked.grad * weight
        layer(hidden).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        held[0].mask.copy_((torch.arange(256).view(16, 16) % (seed + 2) > 0).float())
    torch.testing.assert_close(held[0].scores.view(16, 16).detach(), expected)


def test_what_moves_away_from_zero_stays_though_it_is_small() -> None:
    model, compression = prepared(sparsity=0.5, ramp=1.0, num_prunings=1, scope="layer")
    layer = query(model)
    held = layer.parametrizations.weight
    with torch.no_grad():
        held.original[:, :8] = 0.01
        held.original[:, 8:] = 1.0
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    # The small ones grow, the large ones shrink.
    layer(torch.cat([-torch.ones(1, 8), torch.ones(1, 8)], dim=1)).sum().backward()
    optimizer.step()
    compression.after_step(model, 1.0)
    assert (held[0].mask[:, :8] == 1).all() and (held[0].mask[:, 8:] == 0).all()
    assert (layer.weight[:, 8:] == 0).all() and (held.original[:, 8:] > 0.9).all()


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("ramp", [0.3, 0.5, 1.0])
def test_masks_change_when_they_are_due_and_have_the_zeros_that_are_due(
    scope: str, ramp: float
) -> None:
    given: dict[str, Any] = {"ramp": ramp, "num_prunings": 4, "sparsity": 0.6}
    model, compression = prepared(scope=scope, **given)
    optimizer, total = adamw(model), 40
    before = masks_of(model)
    changed = []
    for step in range(1, total + 1):
        train_steps(model, compression, optimizer, first=step, last=step, total=total)
        after = masks_of(model)
        if any(not torch.equal(one, other) for one, other in zip(before, after, strict=True)):
            changed.append(step)
        before = after
        due = sparsity_at(step / total, final=0.6, ramp=ramp, num_prunings=4)
        groups = [after] if scope == "global" else [[mask] for mask in after]
        for group in groups:
            assert num_zeros(group) == round(due * num_entries(group)), step
    steps = [step for step in range(1, total) if step % round(total * ramp / 4) == 0]
    assert changed == (steps if ramp < 1.0 else [*steps, total])


def test_a_pruned_weight_may_come_back_after_the_ramp() -> None:
    model, compression = prepared(ramp=0.25, num_prunings=1)
    optimizer = adamw(model)
    train_steps(model, compression, optimizer, last=4, total=16)
    before = masks_of(model)
    train_steps(model, compression, optimizer, first=5, last=12, total=16)
    after = masks_of(model)
    back = sum(int((two > one).sum()) for one, two in zip(before, after, strict=True))
    assert back > 0 and num_zeros(after) == num_zeros(before)


def test_a_stop_between_two_choices_moves_none_of_them() -> None:
    """The 7th and the 14th of 40 steps lie between them, where nothing but a buffer knows."""
    model, compression = prepared(num_prunings=4)
    start, optimizer = copy.deepcopy(model.state_dict()), adamw(model)
    expected = []
    for step in range(1, 41):
        train_steps(model, compression, optimizer, first=step, last=step, total=40)
        expected.append(masks_of(model))
    for cut in (7, 14, 27):
        model, compression = prepared(num_prunings=4)
        model.load_state_dict(start)
        optimizer = adamw(model)
        train_steps(model, compression, optimizer, last=cut, total=40)
        kept = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        model, compression = prepared(num_prunings=4)
        optimizer = adamw(model)
        model.load_state_dict(kept[0])
        optimizer.load_state_dict(kept[1])
        for step in range(cut + 1, 41):
            train_steps(model, compression, optimizer, first=step, last=step, total=40)
            same = zip(masks_of(model), expected[step - 1], strict=True)
            assert all(torch.equal(one, other) for one, other in same), (cut, step)


def test_nothing_is_chosen_anew_at_the_very_end_unless_the_ramp_asks_for_it() -> None:
    """Other scores would give other masks, with which nothing was trained."""
    for ramp, chosen_at_the_end in ((0.5, False), (1.0, True)):
        model, compression = prepared(sparsity=0.5, ramp=ramp, num_prunings=1)
        compression.after_step(model, 0.5)
        before = masks_of(model)
        with torch.no_grad():
            for _, masked in _masked_weights(model):
                masked.scores.copy_(torch.linspace(-1.0, 1.0, len(masked.scores)))
        compression.after_step(model, 0.99)
        assert all(map(torch.equal, masks_of(model), before))
        compression.after_step(model, 1.0)
        same = all(map(torch.equal, masks_of(model), before))
        assert same is not chosen_at_the_end


def test_what_is_left_is_what_training_saw() -> None:
    model, compression = prepared(sparsity=0.7)
    names = set(tiny_model("bert").state_dict())
    train_steps(model, compression, adamw(model), last=8, total=8)
    seen = logits_of(model.eval())
    model = compression.finalize(model)
    assert torch.equal(logits_of(model.eval()), seen)
    assert not any(parametrize.is_parametrized(module) for module in model.modules())
    assert set(model.state_dict()) == names
    report = compression.report(model)
    assert report["asked"]["sparsity"] == 0.7
    assert report["measured"]["sparsity"] == pytest.approx(0.7, abs=1e-3)


def test_scores_have_a_rate_of_their_own_and_no_decay() -> None:
    model, compression = prepared(score_learning_rate=0.3)
    (group,) = compression.parameter_groups(model)
    assert (group.learning_rate, group.weight_decay) == (0.3, 0.0)
    expected = {id(p) for name, p in model.named_parameters() if name.endswith(".scores")}
    assert {id(p) for p in group.parameters} == expected
    weights = sum(p.numel() for name, p in model.named_parameters() if name.endswith(".original"))
    assert num_entries(group.parameters) == weights > 0


def test_embeddings_are_frozen_and_all_else_is_trained() -> None:
    model, compression = prepared("electra")
    start = copy.deepcopy(model.state_dict())
    train_steps(model, compression, adamw(model), last=4, total=4)
    for name, value in compression.finalize(model).state_dict().items():
        frozen = ".embeddings" in name
        key = name if name in start else name.replace("weight", "parametrizations.weight.original")
        assert torch.equal(value, start[key]) == frozen, name


def test_weights_that_are_zero_by_themselves_are_pruned_first() -> None:
    model = tiny_model("bert")
    with torch.no_grad():
        for weight in prunable_weights(model).values():
            weight[0] = 0.0
    compression = Compression(config(sparsity=0.5))
    model = compression.prepare(model, tiny_context("bert"))
    for latent, _ in _masked_weights(model):
        # Dead ones: nothing moves them.
        latent.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor([0]), 0.0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train_steps(model, compression, optimizer, last=8, total=8)
    assert all((masked.mask[0] == 0).all() for _, masked in _masked_weights(model))
    compression.finalize(model)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_more_zeros_at_the_start_than_asked_for_are_refused(scope: str) -> None:
    model = tiny_model("bert")
    with torch.no_grad():
        for weight in prunable_weights(model).values():
            weight[::2] = 0.0
    with pytest.raises(TrialError, match=r"starting weights, 0\.5.*is 0\.3"):
        Compression(config(sparsity=0.3, scope=scope)).prepare(model, tiny_context("bert"))


def test_a_weight_that_two_places_share_is_refused() -> None:
    model = tiny_model("bert")
    first, second = (block.output.dense for block in model.bert.encoder.layer[:2])
    second.weight = first.weight
    with pytest.raises(ModelError, match="but BertForSequenceClassification does"):
        Compression(config()).prepare(model, tiny_context())


def test_ending_before_the_ramp_is_refused() -> None:
    model, compression = prepared(sparsity=0.5)
    train_steps(model, compression, adamw(model), last=2, total=8)
    with pytest.raises(TrialError, match=r"train to the end of compression.ramp"):
        compression.finalize(model)


def test_its_label_says_the_sparsity() -> None:
    assert config(sparsity=0.7).label() == "movement-70"
    assert config(scope="layer").label() == "movement-50 scope=layer"
