"""When weights are pruned, that they stay pruned, and that nothing else is touched."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from rc_core.compression._gradual import milestones_at, sparsity_at
from rc_core.compression._masks import num_zeros, prunable_weights, sparsity
from rc_core.compression.magnitude import Compression, Config, problems
from rc_core.errors import ConfigError, TrialError
from rc_core.model_facts import ModelFacts
from rc_core.schema import validate_section
from rc_core.training import rung_steps
from tests.contracts._tiny import adamw, tiny_context, tiny_model, train_steps

NUM_WEIGHTS = 4 * (4 * 256 + 2 * 384)


def config_of(**values: Any) -> Config:
    return validate_section(Config, {"name": "magnitude", **values})


def prepared(*, target: Any = None, seed: int = 0, **values: Any) -> tuple[Any, Compression]:
    compression = Compression(config_of(**values), target=target)
    return compression.prepare(tiny_model("bert", seed=seed), tiny_context()), compression


def zero_places(model: Any) -> torch.Tensor:
    return torch.cat([(w == 0).flatten() for w in prunable_weights(model).values()])


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0.0, 0.0),
        (0.09, 0.0),
        (0.1, 0.8 * (1 - 0.75**3)),  # first of four prunings, ramp 0.4
        (0.19, 0.8 * (1 - 0.75**3)),
        (0.2, 0.8 * (1 - 0.5**3)),
        (0.3, 0.8 * (1 - 0.25**3)),
        (0.4, 0.8),
        (0.41, 0.8),
        (1.0, 0.8),
    ],
)
def test_sparsity_at_is_zhu_and_gupta_in_steps(progress: float, expected: float) -> None:
    due = sparsity_at(progress, final=0.8, ramp=0.4, num_prunings=4)
    assert due == pytest.approx(expected, abs=1e-12)


def test_sparsity_at_starts_from_the_initial_one() -> None:
    # Equation 1 of Zhu and Gupta: s_f + (s_i - s_f) (1 - t)^3
    due = sparsity_at(0.25, final=0.6, initial=0.2, ramp=1.0, num_prunings=4)
    assert due == pytest.approx(0.6 + (0.2 - 0.6) * 0.75**3)
    linear = sparsity_at(0.25, final=0.6, initial=0.2, ramp=1.0, num_prunings=4, schedule="linear")
    assert linear == pytest.approx(0.3)


@pytest.mark.parametrize("steps", [1, 3, 7, 10, 94, 187])
@pytest.mark.parametrize("ramp", [0.01, 0.3, 0.5, 1.0])
def test_schedule_never_falls_and_ends_exactly_at_the_target(steps: int, ramp: float) -> None:
    due = [sparsity_at(i / steps, final=0.7, ramp=ramp) for i in range(steps + 1)]
    assert due == sorted(due) and due[-1] == 0.7
    assert all(value == 0.7 for i, value in enumerate(due) if i / steps >= ramp)


@pytest.mark.parametrize("steps", [5, 10, 35, 94, 188])
def test_milestones_reach_each_level_at_the_end_of_its_part(steps: int) -> None:
    levels = (0.2, 0.35, 0.5, 0.65, 0.85)
    due = [milestones_at(i / steps, levels=levels) for i in range(steps + 1)]
    assert due == sorted(due)
    for k, level in enumerate(levels, start=1):
        # the last step not beyond the end of part k
        last = max(i for i in range(steps + 1) if i / steps <= k / 5 + 1e-12)
        assert due[last] == level


@pytest.mark.parametrize("steps", [5, 6, 19, 23, 94])
def test_milestones_reach_each_level_exactly_at_the_ends_that_are_given(steps: int) -> None:
    levels = (0.2, 0.35, 0.5, 0.65, 0.85)
    last = rung_steps(steps, len(levels))
    ends = [step / steps for step in last]
    due = [milestones_at(i / steps, levels=levels, ends=ends) for i in range(steps + 1)]
    assert due == sorted(due)
    assert [due[step] for step in last] == list(levels)


def test_ends_of_equal_parts_change_nothing() -> None:
    levels, ends = (0.2, 0.5, 0.85), [1 / 3, 2 / 3, 1.0]
    for i in range(31):
        given = milestones_at(i / 30, levels=levels, ends=ends)
        assert given == milestones_at(i / 30, levels=levels)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        # Half of each part is its ramp, of two prunings: at a quarter and at a half of the part.
        (None, {0.124: 0.0, 0.126: 0.1, 0.249: 0.1, 0.251: 0.2, 0.499: 0.2, 0.501: 0.2, 0.624: 0.2,
                0.626: 0.35, 0.749: 0.35, 0.751: 0.5, 1.0: 0.5}),
        ([0.2, 1.0], {0.0: 0.0, 0.049: 0.0, 0.051: 0.1, 0.101: 0.2, 0.199: 0.2, 0.201: 0.2,
                      0.399: 0.2, 0.401: 0.35, 0.599: 0.35, 0.601: 0.5}),
    ],
)  # fmt: skip
def test_milestones_prune_step_by_step_from_the_level_before(
    ends: list[float] | None, expected: dict[float, float]
) -> None:
    due = {
        progress: milestones_at(
            progress, levels=(0.2, 0.5), ends=ends, schedule="linear", num_prunings=2
        )
        for progress in expected
    }
    assert due == pytest.approx(expected)


def test_exactly_the_asked_number_of_weights_is_zero_and_they_never_come_back() -> None:
    model, compression = prepared(sparsity=0.7, num_prunings=3)
    optimizer = adamw(model, learning_rate=0.05)
    before, counts = zero_places(model), []
    for step in range(1, 13):
        train_steps(model, compression, optimizer, first=step, last=step, total=12)
        after = zero_places(model)
        assert bool((after | ~before).all())
        before = after
        counts.append(int(after.sum()))
    shares = [sparsity_at(i / 12, final=0.7, num_prunings=3) for i in range(1, 13)]
    assert counts == [round(share * NUM_WEIGHTS) for share in shares]
    assert num_zeros(prunable_weights(compression.finalize(model)).values()) == 5018


def test_weights_outside_the_matrices_of_the_blocks_are_trained_or_frozen_but_not_pruned() -> None:
    model, compression = prepared(sparsity=0.9)
    start = copy.deepcopy(model.state_dict())
    train_steps(model, compression, adamw(model), last=4, total=4)
    compression.finalize(model)
    pruned = set(prunable_weights(model))
    for name, value in model.state_dict().items():
        if ".embeddings." in name:
            assert torch.equal(value, start[name])
        elif name not in pruned:
            assert not torch.equal(value, start[name])
            assert num_zeros([value]) < value.numel() / 2
    assert all(not p.requires_grad for n, p in model.named_parameters() if ".embeddings." in n)


def test_layer_scope_prunes_every_matrix_alike() -> None:
    model, compression = prepared(sparsity=0.6, scope="layer")
    train_steps(model, compression, adamw(model), last=4, total=4)
    for weight in prunable_weights(compression.finalize(model)).values():
        assert num_zeros([weight]) == round(0.6 * weight.numel())


def test_sparsity_zero_prunes_nothing_and_still_freezes() -> None:
    model, compression = prepared(sparsity=0.0)
    train_steps(model, compression, adamw(model), last=3, total=3)
    assert sparsity(compression.finalize(model)) == 0.0
    assert not model.bert.embeddings.word_embeddings.weight.requires_grad


def test_target_replaces_the_schedule() -> None:
    levels = (0.2, 0.5, 0.85)
    model, compression = prepared(target=lambda p: milestones_at(p, levels=levels))
    optimizer = adamw(model)
    for k, level in enumerate(levels):
        train_steps(model, compression, optimizer, first=4 * k + 1, last=4 * k + 4, total=12)
        assert num_zeros(prunable_weights(model).values()) == round(level * NUM_WEIGHTS)
    compression.finalize(model)
    assert compression.report(model)["asked"] == {"sparsity": 0.85}


@pytest.mark.parametrize("value", [1.0, -0.1, float("nan")])
def test_target_outside_the_range_is_an_error(value: float) -> None:
    # asked 0.5 at the end, something impossible on the way
    model, compression = prepared(target=lambda p: 0.5 if p == 1.0 else value)
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        compression.after_step(model, 0.5)


def test_stopping_before_the_ramp_is_over_fails() -> None:
    model, compression = prepared(sparsity=0.7)
    train_steps(model, compression, adamw(model), last=3, total=12)
    with pytest.raises(TrialError, match=r"must be zero .*train to the end of compression.ramp"):
        compression.finalize(model)


def test_start_that_is_too_sparse_fails_before_training() -> None:
    model = tiny_model("bert")
    with torch.no_grad():
        next(iter(prunable_weights(model).values())).zero_()
    with pytest.raises(TrialError, match=r"weights, 0\.035714, but is 0\.01;"):
        Compression(config_of(sparsity=0.01)).prepare(model, tiny_context())


@pytest.mark.parametrize("more", [0, 1, 2])
def test_one_weight_more_than_asked_may_be_zero_and_no_two(more: int) -> None:
    """At the start, of which all else is refused, and at the end."""
    asked = NUM_WEIGHTS // 4

    def with_zeros() -> Any:
        model = tiny_model("bert")
        left = asked + more
        with torch.no_grad():
            for weight in prunable_weights(model).values():
                weight.flatten()[:left] = 0.0
                left = max(left - weight.numel(), 0)
        return model

    compression = Compression(config_of(sparsity=0.25))
    if more > 1:
        with pytest.raises(TrialError, match="starting weights"):
            compression.prepare(with_zeros(), tiny_context())
        with pytest.raises(
            TrialError, match=f"{asked} of {NUM_WEIGHTS} .*, but {asked + more} are"
        ):
            compression.finalize(with_zeros())
        return
    model = compression.prepare(with_zeros(), tiny_context())
    train_steps(model, compression, adamw(model), last=4, total=4)
    assert num_zeros(prunable_weights(compression.finalize(model)).values()) == asked + more


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_what_is_zero_at_the_start_stays_zero(scope: str) -> None:
    """As after a pruning that somebody saved: the small weights of every matrix."""
    model = tiny_model("bert")
    with torch.no_grad():
        for weight in prunable_weights(model).values():
            weight[weight.abs() < weight.abs().quantile(0.3)] = 0.0
    before = zero_places(model)
    compression = Compression(config_of(sparsity=0.5, scope=scope, num_prunings=2))
    compression.prepare(model, tiny_context())
    optimizer = adamw(model)
    for step in range(1, 9):
        train_steps(model, compression, optimizer, first=step, last=step, total=8)
        assert bool((zero_places(model) | ~before).all()), f"regrown in step {step}"
    compression.finalize(model)
    assert num_zeros(prunable_weights(model).values()) == round(0.5 * NUM_WEIGHTS)


def test_a_matrix_that_is_too_sparse_for_its_scope_fails_before_training() -> None:
    model = tiny_model("bert")
    with torch.no_grad():
        next(iter(prunable_weights(model).values())).zero_()
    Compression(config_of(sparsity=0.5)).prepare(model, tiny_context())
    with pytest.raises(
        TrialError, match=r"each matrix .*, 1\.000000 at most, but is 0\.5; .*scope"
    ):
        Compression(config_of(sparsity=0.5, scope="layer")).prepare(model, tiny_context())


def test_diverged_training_is_named() -> None:
    model, compression = prepared(sparsity=0.5)
    with torch.no_grad():
        next(iter(prunable_weights(model).values()))[0, 0] = float("nan")
    with pytest.raises(TrialError, match="training diverged"):
        compression.after_step(model, 1.0)


def test_masks_are_read_from_weights_loaded_after_prepare() -> None:
    model, compression = prepared(sparsity=0.5)
    train_steps(model, compression, adamw(model), last=4, total=8)
    pruned, state = zero_places(model), copy.deepcopy(model.state_dict())
    fresh, again = prepared(sparsity=0.5, seed=1)
    fresh.load_state_dict(state)
    with torch.no_grad():
        for weight in prunable_weights(fresh).values():
            weight.add_(0.01)  # what momentum does in the first step after a resume
    again.after_step(fresh, 5 / 8)
    assert torch.equal(zero_places(fresh), pruned)


def test_report_has_both_readings_of_sparsity() -> None:
    model, compression = prepared(sparsity=0.5)
    train_steps(model, compression, adamw(model), last=2, total=2)
    report = compression.report(compression.finalize(model))
    assert report["asked"] == {"sparsity": 0.5}
    assert report["measured"]["sparsity"] == 0.5
    assert 0 < report["measured"]["total_sparsity"] < 0.5 + 0.1
    assert report["measured"]["layers"] == 4


BAD = [
    ({"sparsity": 1.0}, "sparsity"),
    ({"sparsity": -0.1}, "sparsity"),
    ({"sparsity": "0.5"}, "sparsity"),
    ({"sparsity": float("nan")}, "sparsity"),
    ({"sparsity": True}, "sparsity"),
    ({"scope": "row"}, "scope"),
    ({"schedule": "cosine"}, "schedule"),
    ({"ramp": 0.0}, "ramp"),
    ({"ramp": 1.1}, "ramp"),
    ({"num_prunings": 0}, "num_prunings"),
    ({"num_prunings": 2.5}, "num_prunings"),
]


@pytest.mark.parametrize(("values", "where"), BAD)
def test_bad_settings_are_named(values: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(**values)
    assert [problem.where for problem in caught.value.problems] == [where]


def test_defaults_run_and_have_no_problems() -> None:
    config = config_of()
    assert (config.sparsity, config.ramp, config.num_prunings) == (0.5, 0.5, 20)
    facts = ModelFacts("bert", num_layers=1, num_heads=1, max_positions=8, num_parameters=1)
    assert problems(config, facts) == []
