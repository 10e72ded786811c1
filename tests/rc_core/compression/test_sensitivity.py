"""Pruning by sensitivity: its means by hand in NumPy, what goes, and when."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rc_core.compression._gradual import sparsity_at
from rc_core.compression._masks import num_entries, num_zeros, prunable_weights
from rc_core.compression.sensitivity import Compression, Config
from rc_core.errors import ConfigError, TrialError
from rc_core.schema import validate_section
from tests.contracts._tiny import adamw, tiny_batch, tiny_context, tiny_model, train_steps


def config(**values: Any) -> Config:
    found = validate_section(Config, {"name": "sensitivity", **values})
    assert isinstance(found, Config)
    return found


def prepared(architecture: str = "bert", **values: Any) -> tuple[Any, Compression]:
    compression = Compression(config(**values))
    return compression.prepare(tiny_model(architecture), tiny_context(architecture)), compression


def weights(model: nn.Module) -> list[nn.Parameter]:
    return list(prunable_weights(model).values())


def backward(model: Any, seed: int) -> None:
    batch = tiny_batch(seed=seed)
    nn.functional.cross_entropy(model(**batch.inputs).logits, batch.labels).backward()


def means_by_hand(steps: list[list[Any]], beta1: float, beta2: float) -> list[tuple[Any, Any]]:
    """Return A and U of every weight from I of every step, in double precision."""
    found = []
    for each in zip(*steps, strict=True):
        mean, uncertain = np.zeros(each[0].shape), np.zeros(each[0].shape)
        for importance in each:
            mean = beta1 * mean + (1 - beta1) * importance
            uncertain = beta2 * uncertain + (1 - beta2) * np.abs(importance - mean)
        found.append((mean, uncertain))
    return found


@pytest.mark.parametrize(("beta1", "beta2"), [(0.85, 0.95), (0.1, 0.5), (0.6, 0.0)])
def test_the_lowest_scores_go(beta1: float, beta2: float) -> None:
    """After some steps in which nothing is pruned yet, all at once."""
    given: dict[str, Any] = {"ramp": 1.0, "num_prunings": 1, "sparsity": 0.4}
    model, compression = prepared(beta1=beta1, beta2=beta2, **given)
    optimizer = adamw(model)
    steps: list[list[Any]] = []
    for step in range(1, 5):
        backward(model, step)
        gradients: list[Any] = [w.grad for w in weights(model)]
        pairs = zip(weights(model), gradients, strict=True)
        steps.append([(w * g).abs().detach().double().numpy() for w, g in pairs])
        optimizer.step()
        optimizer.zero_grad()
        before = [w.detach().clone() for w in weights(model)]
        compression.after_step(model, step / 4)
    means = means_by_hand(steps, beta1, beta2)
    held = list(buffers(model).values())
    for expected, mean in zip([each for pair in means for each in pair], held, strict=True):
        torch.testing.assert_close(mean.double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-12)
    scores = np.concatenate([(a * u).ravel() for a, u in means])
    pruned = torch.cat([(w == 0).flatten() for w in weights(model)]).numpy()
    count = round(0.4 * len(scores))
    assert pruned.sum() == count
    # Rounded to float32 neighbours may change places.
    limit = np.sort(scores)[count - 1]
    assert (scores[pruned] <= limit * (1 + 1e-4)).all()
    assert (scores[~pruned] >= limit * (1 - 1e-4)).all()
    kept = [torch.equal(w[w != 0], b[w != 0]) for w, b in zip(weights(model), before, strict=True)]
    assert all(kept)


def test_a_weight_that_the_loss_needs_stays_though_it_is_small() -> None:
    model, compression = prepared(sparsity=0.5, ramp=1.0, num_prunings=1, scope="layer")
    layer = model.bert.encoder.layer[0].attention.self.query
    with torch.no_grad():
        layer.weight[:, :8], layer.weight[:, 8:] = 0.01, 1.0
    for scale in (1.0, 2.0):
        hidden = torch.cat([torch.full((1, 8), 500.0 * scale), torch.full((1, 8), 0.01)], dim=1)
        layer(hidden).sum().backward()
        model.zero_grad()
    compression.after_step(model, 1.0)
    assert (layer.weight[:, :8] != 0).all() and (layer.weight[:, 8:] == 0).all()


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("schedule", ["cubic", "linear"])
def test_zeros_come_when_they_are_due_and_stay(scope: str, schedule: str) -> None:
    given: dict[str, Any] = {"ramp": 0.5, "num_prunings": 4, "schedule": schedule}
    model, compression = prepared(scope=scope, sparsity=0.6, **given)
    optimizer, total = adamw(model), 24
    before = [torch.zeros_like(w, dtype=torch.bool) for w in weights(model)]
    for step in range(1, total + 1):
        train_steps(model, compression, optimizer, first=step, last=step, total=total)
        after = [w == 0 for w in weights(model)]
        assert all(bool((a | ~b).all()) for a, b in zip(after, before, strict=True)), step
        before = after
        due = sparsity_at(step / total, final=0.6, **given)
        groups = [weights(model)] if scope == "global" else [[w] for w in weights(model)]
        for group in groups:
            assert num_zeros(group) == round(due * num_entries(group)), step


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_what_is_zero_at_the_start_stays_so_also_where_it_is_more_than_is_due(scope: str) -> None:
    model = tiny_model("bert")
    with torch.no_grad():
        for weight in weights(model):
            weight[:, ::3] = 0.0
    zeros = [w == 0 for w in weights(model)]
    compression = Compression(config(scope=scope, num_prunings=4))
    model = compression.prepare(model, tiny_context("bert"))
    optimizer = adamw(model)
    for step in range(1, 41):
        train_steps(model, compression, optimizer, first=step, last=step, total=40)
        back = [bool((w[z] != 0).any()) for w, z in zip(weights(model), zeros, strict=True)]
        assert not any(back), step
    compression.finalize(model)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_more_zeros_at_the_start_than_asked_for_are_refused(scope: str) -> None:
    model = tiny_model("bert")
    with torch.no_grad():
        for weight in weights(model):
            weight[::2] = 0.0
    with pytest.raises(TrialError, match=r"starting weights, 0\.5.*is 0\.3"):
        Compression(config(sparsity=0.3, scope=scope)).prepare(model, tiny_context("bert"))


def test_a_mean_of_nothing_but_the_last_batch_is_refused() -> None:
    """Nothing would be uncertain then, and the first weights go whatever they are worth."""
    with pytest.raises(ConfigError, match="beta1"):
        config(beta1=0.0)


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in model.named_buffers() if "rc_importance" in k or "rc_unc" in k}


def test_means_stand_still_after_the_last_pruning_and_are_gone_at_the_end() -> None:
    model, compression = prepared(num_prunings=2)
    names, optimizer = set(tiny_model("bert").state_dict()), adamw(model)
    train_steps(model, compression, optimizer, last=4, total=8)
    before = copy.deepcopy(buffers(model))
    assert len(before) == 2 * len(weights(model)) and all(b.any() for b in before.values())
    train_steps(model, compression, optimizer, first=5, last=8, total=8)
    assert all(torch.equal(before[k], v) for k, v in buffers(model).items())
    model = compression.finalize(model)
    assert set(model.state_dict()) == names
    assert compression.report(model)["measured"]["sparsity"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("cut", [7, 14, 21])
def test_a_stop_between_two_prunings_changes_nothing(cut: int) -> None:
    model, compression = prepared(num_prunings=4, ramp=0.8)
    start, optimizer = copy.deepcopy(model.state_dict()), adamw(model)
    train_steps(model, compression, optimizer, last=40, total=40)
    expected = model.state_dict()
    model, compression = prepared(num_prunings=4, ramp=0.8)
    model.load_state_dict(start)
    optimizer = adamw(model)
    train_steps(model, compression, optimizer, last=cut, total=40)
    kept = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    model, compression = prepared(num_prunings=4, ramp=0.8)
    optimizer = adamw(model)
    model.load_state_dict(kept[0])
    optimizer.load_state_dict(kept[1])
    train_steps(model, compression, optimizer, first=cut + 1, last=40, total=40)
    assert all(torch.equal(expected[k], v) for k, v in model.state_dict().items())


def test_a_weight_that_two_places_share_is_pruned_once() -> None:
    model = tiny_model("bert")
    first, second = (block.output.dense for block in model.bert.encoder.layer[:2])
    second.weight = first.weight
    compression = Compression(config())
    model = compression.prepare(model, tiny_context())
    assert len(buffers(model)) == 2 * len(weights(model))
    train_steps(model, compression, adamw(model), last=4, total=4)
    model = compression.finalize(model)
    assert second.weight is first.weight
    assert num_zeros(weights(model)) == round(0.5 * num_entries(weights(model)))


def test_a_weight_without_a_gradient_counts_as_unimportant() -> None:
    model, compression = prepared(ramp=1.0, num_prunings=1, sparsity=0.1)
    dead = weights(model)[0].requires_grad_(False)
    for seed in (1, 2):
        backward(model, seed)
        model.zero_grad()
    compression.after_step(model, 1.0)
    assert num_zeros([dead]) == dead.numel()


def test_gradients_are_read_before_they_are_clipped_and_no_more_at_the_end() -> None:
    model, compression = prepared(ramp=1.0, num_prunings=1)
    backward(model, 1)
    layer = model.bert.encoder.layer[0].output.dense
    expected = 0.15 * (layer.weight * layer.weight.grad).abs()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-12)
    torch.testing.assert_close(layer.weight_rc_importance, expected.detach())
    model.zero_grad()
    compression.after_step(model, 1.0)
    model = compression.finalize(model)
    backward(model, 2)
    assert not buffers(model)


def test_divergence_is_told_at_the_next_pruning() -> None:
    model, compression = prepared(ramp=1.0, num_prunings=1)
    with torch.no_grad():
        model.classifier.weight.fill_(torch.nan)
    backward(model, 1)
    with pytest.raises(TrialError, match=r"some are NaN: .*lower training\.learning_rate"):
        compression.after_step(model, 1.0)


def test_its_label_says_the_sparsity() -> None:
    assert config(sparsity=0.7).label() == "sensitivity-70"
    assert config(beta1=0.5, scope="layer").label() == "sensitivity-50 scope=layer beta1=0.5"
