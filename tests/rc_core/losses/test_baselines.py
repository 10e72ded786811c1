"""smooth, focal, jtt, poe and conf_reg against their formulas, and where they meet each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from torch import Tensor

from rc_core import plugins
from rc_core.errors import ConfigError, TrialError
from rc_core.losses._base import LossContext
from rc_core.losses._soft import soft_target_loss
from rc_core.losses.conf_reg import trust
from rc_core.losses.focal import focal_loss, focal_weights
from rc_core.losses.jtt import jtt_weights, weighted_loss
from rc_core.losses.poe import product_loss
from rc_core.losses.vanilla import vanilla_loss
from rc_core.schema import validate_section

N, B, C = 24, 7, 3
CHOSEN = torch.tensor([3, 1, 4, 15, 9, 2, 6])


def random(*shape: int, seed: int) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loss_of(name: str, **values: Any) -> Any:
    module = plugins.load("rc_core.losses", name)
    return module.Loss(validate_section(module.Config, {"name": name, **values}))


def context(**replaced: Any) -> LossContext:
    given: dict[str, Any] = {
        "labels": torch.arange(N) % C,
        "teacher_log_probs": random(N, C, seed=1).log_softmax(-1),
        "difficulty": random(N, seed=2).abs().double(),
        "expert_log_probs": random(N, C, seed=3).log_softmax(-1),
        "first_stage_log_probs": random(N, C, seed=4).log_softmax(-1),
        "generator": torch.Generator().manual_seed(0),
    }
    return LossContext(**(given | replaced))


def value_of(name: str, given: LossContext | None = None, **values: Any) -> float:
    given = given or context()
    loss = loss_of(name, **values)
    rows = {key: table[CHOSEN] for key, table in loss.rows(given).items()}
    return float(loss(LOGITS, given.labels[CHOSEN], rows))


LOGITS = random(B, C, seed=9)
LABELS = context().labels[CHOSEN]
Q = softmax(LOGITS.double().numpy(), axis=1)


def cross_entropies(probabilities: Any = Q) -> Any:
    return -np.log(probabilities[np.arange(B), LABELS.numpy()])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_is_the_formula_with_mean_weight_one(gamma: float) -> None:
    right = Q[np.arange(B), LABELS.numpy()]
    weights = (1 - right) ** gamma
    weights /= weights.mean()
    expected = (weights * cross_entropies()).mean()
    assert float(focal_loss(LOGITS, LABELS, gamma=gamma)) == pytest.approx(expected, rel=1e-5)
    found = focal_weights(LOGITS.log_softmax(-1), LABELS, gamma=gamma)
    assert float(found.mean()) == pytest.approx(1.0, rel=1e-5)


def test_focal_weights_carry_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    (found,) = torch.autograd.grad(focal_loss(logits, LABELS, gamma=2.0), logits)
    weights = focal_weights(LOGITS.log_softmax(-1), LABELS, gamma=2.0)
    onehot = torch.nn.functional.one_hot(LABELS, C)
    torch.testing.assert_close(found, weights[:, None] * (LOGITS.softmax(-1) - onehot) / B)


def test_focal_of_certain_samples_is_no_nan() -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 300.0, 0.0]], requires_grad=True)
    value = focal_loss(logits, torch.tensor([0, 1]), gamma=2.0)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0.0 and bool(torch.isfinite(gradient).all())


def test_focal_without_gamma_is_vanilla() -> None:
    assert value_of("focal", gamma=0.0) == pytest.approx(value_of("vanilla"), rel=1e-6)


@pytest.mark.parametrize(
    ("errors", "up_weight", "expected"),
    [
        ([True, False, False, False], 2.0, [1.6, 0.8, 0.8, 0.8]),
        ([True, True], 2.0, [1.0, 1.0]),
        ([False, False], 2.0, [1.0, 1.0]),
        ([True, False], 0.5, [2 / 3, 4 / 3]),
        ([True, False], 1.0, [1.0, 1.0]),
        ([True], 9.0, [1.0]),
    ],
)
def test_jtt_weights_by_hand(errors: list[bool], up_weight: float, expected: list[float]) -> None:
    found = jtt_weights(torch.tensor(errors), up_weight=up_weight)
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_jtt_weighs_the_first_stage_s_errors() -> None:
    given = context()
    first = given.first_stage_log_probs
    assert first is not None
    wrong = (first.argmax(1) != given.labels).numpy()
    weights = np.where(wrong, 3.0, 1.0)
    weights /= weights.mean()
    expected = (weights[CHOSEN.numpy()] * cross_entropies()).mean()
    assert value_of("jtt", given, up_weight=3.0) == pytest.approx(expected, rel=1e-5)
    assert given.report["errors"] == pytest.approx(wrong.mean())
    assert "warning" not in given.report


def test_jtt_without_errors_warns_and_is_vanilla() -> None:
    perfect = torch.nn.functional.one_hot(torch.arange(N) % C, C).float().mul(5).log_softmax(-1)
    given = context(first_stage_log_probs=perfect)
    assert value_of("jtt", given) == pytest.approx(value_of("vanilla"), rel=1e-6)
    assert "comes close to vanilla" in given.report["warning"]


@pytest.mark.parametrize(
    ("errors", "size", "warns"), [(1, 50, False), (1, 51, True), (2, 99, False)]
)
def test_jtt_warns_below_two_errors_in_a_hundred(errors: int, size: int, warns: bool) -> None:
    labels = torch.arange(size) % C
    first = torch.nn.functional.one_hot(labels, C).float().mul(5).log_softmax(-1)
    first[:errors] = first[:errors].roll(1, dims=1)
    given = context(labels=labels, first_stage_log_probs=first)
    loss_of("jtt").rows(given)
    assert given.report["errors"] == pytest.approx(errors / size)
    assert ("warning" in given.report) is warns


def test_jtt_with_weight_one_is_vanilla() -> None:
    assert value_of("jtt", up_weight=1.0) == pytest.approx(value_of("vanilla"), rel=1e-6)
    weights = torch.ones(B)
    torch.testing.assert_close(weighted_loss(LOGITS, LABELS, weights), vanilla_loss(LOGITS, LABELS))


@pytest.mark.parametrize("degree", [0.2, 0.9, 1.0])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_smooth_is_distillation_from_powers_of_the_teacher(degree: float, weight: float) -> None:
    given = context()
    assert given.teacher_log_probs is not None
    p = given.teacher_log_probs[CHOSEN].double().exp().numpy() ** degree
    s = p / p.sum(1, keepdims=True)
    soft = (s * (np.log(s) - np.log(Q))).sum(1).mean()
    expected = (1 - weight) * cross_entropies().mean() + weight * soft
    found = value_of("smooth", given, degree=degree, **{"lambda": weight})
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_smooth_of_degree_one_is_distil_and_rmc_with_equal_scores_is_too() -> None:
    expected = value_of("distil")
    assert value_of("smooth", degree=1.0) == pytest.approx(expected, rel=1e-6)
    equal = context(difficulty=torch.ones(N, dtype=torch.float64))
    assert value_of("rmc", equal, alpha=0.2) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_temperature_softens_both_sides(temperature: float) -> None:
    targets = random(B, C, seed=5)
    p = softmax(targets.double().numpy() / temperature, axis=1)
    log_q = log_softmax(LOGITS.double().numpy() / temperature, axis=1)
    soft = temperature**2 * (p * (np.log(p) - log_q)).sum(1).mean()
    expected = 0.3 * cross_entropies().mean() + 0.7 * soft
    found = soft_target_loss(
        LOGITS, LABELS, targets.log_softmax(-1), weight=0.7, temperature=temperature
    )
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("name", ["distil", "smooth", "rmc", "poe", "conf_reg"])
def test_every_loss_with_a_teacher_compares_at_its_temperature(
    name: str, temperature: float
) -> None:
    """Reference: Hinton et al. 2015, T^2 KL at p^(1/T), with SciPy's KL sample by sample."""
    given = context()
    teacher = given.teacher_log_probs.double().exp().numpy()[CHOSEN]
    expert = softmax(given.expert_log_probs.double().numpy(), axis=1)[CHOSEN]
    scores = given.difficulty.numpy()
    place = (scores - scores.min()) / (scores.max() - scores.min())
    degree = {
        "smooth": np.full(B, 0.6),
        "rmc": 0.3 + 0.7 * place[CHOSEN],
        "conf_reg": 1 - expert[np.arange(B), LABELS.numpy()],
    }.get(name, np.ones(B))
    settings = {"smooth": {"degree": 0.6}, "rmc": {"alpha": 0.3}}.get(name, {})
    # SciPy normalises what it compares.
    each = entropy(teacher ** (degree[:, None] / temperature), Q ** (1 / temperature), axis=1)
    product = Q * expert / (Q * expert).sum(1, keepdims=True)
    hard = cross_entropies(product if name == "poe" else Q).mean()
    expected = 0.3 * hard + 0.7 * temperature**2 * each.mean()
    found = value_of(name, given, temperature=temperature, **settings, **{"lambda": 0.7})
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_poe_is_the_product_written_out(beta: float, weight: float) -> None:
    given = context()
    assert given.expert_log_probs is not None and given.teacher_log_probs is not None
    b = given.expert_log_probs[CHOSEN].double().exp().numpy()
    product = Q * b**beta
    product /= product.sum(1, keepdims=True)
    p = given.teacher_log_probs[CHOSEN].double().exp().numpy()
    soft = (p * (np.log(p) - np.log(Q))).sum(1).mean()
    expected = (1 - weight) * cross_entropies(product).mean() + weight * soft
    found = value_of("poe", given, beta=beta, **{"lambda": weight})
    assert found == pytest.approx(expected, rel=1e-5)


def test_poe_reports_what_the_expert_is_worth_as_numpy_counts_it() -> None:
    given = context()
    loss_of("poe").rows(given)
    b = softmax(given.expert_log_probs.double().numpy(), axis=1)
    assert given.report["expert"] == pytest.approx(
        {
            "accuracy": np.mean(np.argmax(b, axis=1) == given.labels.numpy()),
            "confidence": np.mean(np.max(b, axis=1)),
            "entropy": np.mean(entropy(b, axis=1)),
        },
        rel=1e-5,
    )


def test_poe_gradient_is_that_of_the_product() -> None:
    expert = random(B, C, seed=3).log_softmax(-1)
    logits = LOGITS.clone().requires_grad_()
    (found,) = torch.autograd.grad(product_loss(logits, LABELS, expert, beta=0.7), logits)
    product = (LOGITS.log_softmax(-1) + 0.7 * expert).softmax(-1)
    onehot = torch.nn.functional.one_hot(LABELS, C)
    torch.testing.assert_close(found, (product - onehot) / B)


def test_poe_with_an_expert_that_knows_nothing_is_plain() -> None:
    uniform = context(expert_log_probs=torch.full((N, C), -np.log(C)))
    assert value_of("poe", uniform, **{"lambda": 0.0}) == pytest.approx(value_of("vanilla"))
    assert value_of("poe", None, beta=0.0, **{"lambda": 0.9}) == pytest.approx(value_of("distil"))


def test_poe_learns_less_from_what_the_expert_knows() -> None:
    certain = torch.full((B, C), -9.0)
    certain[torch.arange(B), LABELS] = 0.0
    zero = torch.zeros(B, C, requires_grad=True)
    sizes = []
    for expert in (certain.log_softmax(-1), (-certain).log_softmax(-1)):
        (gradient,) = torch.autograd.grad(product_loss(zero, LABELS, expert, beta=1.0), zero)
        sizes.append(float(gradient.abs().sum()))
    assert sizes[0] < 1e-3 < sizes[1]


def test_poe_survives_an_expert_that_is_certain() -> None:
    expert = torch.full((N, C), -torch.inf)
    expert[:, 0] = 0.0
    given = context(expert_log_probs=expert)
    value = value_of("poe", given, beta=5.0)
    assert np.isfinite(value)
    assert given.report["expert"]["entropy"] == 0.0
    assert given.report["expert"]["accuracy"] == pytest.approx(1 / C)


def test_poe_holds_the_expert_of_what_it_rules_out_at_minus_15() -> None:
    """By hand: certain of class 0, so that labels 1 and 2 are wrong by 15 nats and no more."""
    expert = torch.full((N, C), -40.0)
    expert[:, 0] = 0.0
    b = np.array([1.0, np.exp(-15.0), np.exp(-15.0)])
    product = Q * b / (Q * b).sum(1, keepdims=True)
    found = value_of("poe", context(expert_log_probs=expert), **{"lambda": 0.0})
    assert found == pytest.approx(cross_entropies(product).mean(), rel=1e-5)


def test_poe_shuffled_has_the_same_experts_on_other_samples() -> None:
    plain, shuffled = (
        loss_of("poe", shuffled=flag).rows(context())["expert"] for flag in (False, True)
    )
    assert not torch.allclose(plain, shuffled)
    torch.testing.assert_close(plain.sum(1).sort().values, shuffled.sum(1).sort().values)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("poe", "expert_log_probs"),
        ("jtt", "first_stage_log_probs"),
        ("smooth", "teacher_log_probs"),
    ],
)
def test_missing_or_diverged_inputs_are_named(name: str, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        loss_of(name).rows(context(**{field: None}))
    with pytest.raises(ValueError, match=field):
        loss_of(name).rows(context(**{field: random(N - 1, C, seed=0)}))
    bad = random(N, C, seed=0)
    bad[4, 1] = torch.nan
    with pytest.raises(TrialError, match="NaN or infinite"):
        loss_of(name).rows(context(**{field: bad}))


@pytest.mark.parametrize(
    ("name", "values", "where"),
    [
        ("focal", {"gamma": -1.0}, "gamma"),
        ("smooth", {"degree": 0.0}, "degree"),
        ("smooth", {"degree": 1.5}, "degree"),
        ("jtt", {"up_weight": 0.0}, "up_weight"),
        ("jtt", {"first_epochs": 0.0}, "first_epochs"),
        ("poe", {"beta": -0.1}, "beta"),
        ("poe", {"expert": {"level": 1.0}}, "level"),
        ("poe", {"expert": "hypothesis"}, "expert"),
        ("poe", {"expert": {"levle": 0.5}}, "levle"),
        ("distil", {"temperature": 0.0}, "temperature"),
    ],
)
def test_bad_settings_are_refused(name: str, values: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError, match=where):
        loss_of(name, **values)


@pytest.mark.parametrize(
    ("name", "values", "label"),
    [
        ("focal", {}, "focal"),
        ("focal", {"gamma": 5.0}, "focal gamma=5"),
        ("smooth", {"degree": 0.6, "lambda": 0.5}, "smooth lambda=0.5 degree=0.6"),
        ("jtt", {"up_weight": 4.0}, "jtt up_weight=4"),
        ("poe", {}, "poe expert=0.75"),
        ("poe", {"expert": {"level": 0.5}, "beta": 0.25}, "poe expert=0.5 beta=0.25"),
        ("poe", {"expert": "hypothesis_only"}, "poe expert=hypothesis_only"),
    ],
)
def test_labels_say_what_differs(name: str, values: dict[str, Any], label: str) -> None:
    assert loss_of(name, **values).config.label() == label


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # Du et al. 2023, but for jtt's first stage and the experts, which are ours.
        ("distil", {"lambda": 0.9, "temperature": 1.0}),
        ("smooth", {"lambda": 0.9, "degree": 0.9}),
        ("rmc", {"lambda": 0.9, "alpha": 0.5, "normalisation": "minmax"}),
        ("focal", {"gamma": 2.0}),
        ("jtt", {"up_weight": 2.0, "first_epochs": 1.0}),
        ("poe", {"lambda": 0.9, "beta": 1.0, "expert": {"level": 0.75}}),
        # Utama et al. 2020; Liang et al. 2021.
        ("conf_reg", {"lambda": 1.0}),
        ("rdrop", {"alpha": 1.0}),
    ],
)
def test_what_is_not_said_is_as_published(name: str, published: dict[str, Any]) -> None:
    settings = loss_of(name).config.as_dict()
    assert {key: settings[key] for key in published} == published


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_conf_reg_smooths_by_the_expert_s_certainty(weight: float) -> None:
    given = context()
    p = softmax(given.teacher_log_probs.double().numpy(), axis=1)[CHOSEN]
    b = softmax(given.expert_log_probs.double().numpy(), axis=1)[CHOSEN]
    trusted = 1 - b[np.arange(B), LABELS.numpy()]
    s = p ** trusted[:, None]
    s /= s.sum(axis=1, keepdims=True)
    soft = (s * (np.log(s) - np.log(Q))).sum(axis=1).mean()
    expected = (1 - weight) * cross_entropies().mean() + weight * soft
    assert value_of("conf_reg", None, **{"lambda": weight}) == pytest.approx(expected, rel=1e-4)


def test_conf_reg_with_an_expert_that_knows_nothing_right_is_distillation() -> None:
    labels = context().labels
    wrong = torch.full((N, C), -0.1)
    wrong[torch.arange(N), labels] = -80.0
    found = value_of("conf_reg", context(expert_log_probs=wrong.log_softmax(-1)))
    assert found == pytest.approx(value_of("distil", None, **{"lambda": 1.0}), rel=1e-5)


def test_conf_reg_reports_its_degrees_and_hands_them_to_others_where_shuffled() -> None:
    alike = {"teacher_log_probs": random(1, C, seed=1).log_softmax(-1).repeat(N, 1)}
    given = context(**alike)
    plain = loss_of("conf_reg").rows(given)["soft_targets"]
    b = softmax(given.expert_log_probs.double().numpy(), axis=1)
    degrees = 1 - b[np.arange(N), given.labels.numpy()]
    assert given.report["degree"]["mean"] == pytest.approx(degrees.mean(), rel=1e-6)
    assert given.report["degree"]["near_alpha"] == pytest.approx((degrees < 0.02).mean())
    others = loss_of("conf_reg", shuffled=True).rows(context(**alike))["soft_targets"]
    assert not torch.allclose(plain, others)
    torch.testing.assert_close(plain[:, 0].sort().values, others[:, 0].sort().values)


def test_trust_of_a_probability_that_rounding_puts_above_one_is_zero() -> None:
    found = trust(torch.tensor([[1e-7, -17.0]]), torch.tensor([0]))
    assert found.dtype == torch.float64 and found.tolist() == [0.0]


def test_trust_is_zero_for_a_certain_expert_and_exact_near_it() -> None:
    log_probs = torch.tensor([[0.0, -50.0], [-1e-9, -20.0], [-30.0, 0.0]], dtype=torch.float64)
    found = trust(log_probs, torch.tensor([0, 0, 0]))
    assert found.tolist() == pytest.approx([0.0, 1e-9, 1.0], rel=1e-6)
