"""Cross-entropy, KL and their mixture, against scipy and loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from scipy.stats import entropy
from torch import Tensor

from rc_core.errors import ConfigError, TrialError
from rc_core.losses import distil, vanilla
from rc_core.losses._base import LossContext
from rc_core.losses._soft import kl_divergence, soft_loss, soft_target_loss, teacher_log_probs
from rc_core.schema import validate_section


def random(*shape: int, seed: int) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reference_cross_entropy(logits: Tensor, labels: Tensor) -> float:
    rows = log_softmax(logits.double().numpy(), axis=-1)
    return float(np.mean([-row[y] for row, y in zip(rows, labels.tolist(), strict=True)]))


def test_vanilla_is_the_mean_cross_entropy() -> None:
    logits, labels = random(7, 3, seed=0), torch.arange(7) % 3
    expected = reference_cross_entropy(logits, labels)
    assert vanilla.vanilla_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_kl_is_scipy_s_per_sample() -> None:
    target, q = random(9, 4, seed=1).softmax(-1), random(9, 4, seed=2).softmax(-1)
    expected = [entropy(p, r) for p, r in zip(target.numpy(), q.numpy(), strict=True)]
    np.testing.assert_allclose(kl_divergence(target.log(), q.log()).numpy(), expected, rtol=1e-5)


KL_CASES = [
    ("equal", [0.2, 0.3, 0.5], [0.2, 0.3, 0.5], 0.0),
    ("certain target", [0.0, 1.0, 0.0], [0.25, 0.5, 0.25], np.log(2)),
    ("zero in the target", [0.5, 0.5, 0.0], [0.25, 0.25, 0.5], np.log(2)),
    (
        "uniform against certain",
        [0.5, 0.5],
        [1 - 1e-6, 1e-6],
        entropy([0.5, 0.5], [1 - 1e-6, 1e-6]),
    ),
    ("one class", [1.0], [1.0], 0.0),
]


@pytest.mark.parametrize(("name", "target", "q", "expected"), KL_CASES)
def test_kl_edges(name: str, target: list[float], q: list[float], expected: float) -> None:
    log_q = torch.tensor([q]).log().requires_grad_()
    found = kl_divergence(torch.tensor([target]).log(), log_q)
    assert found.item() == pytest.approx(expected, abs=1e-6)
    found.sum().backward()
    # d KL / d log q_j = -s_j
    np.testing.assert_allclose(log_q.grad.numpy(), -np.array([target]), atol=1e-6)


def test_soft_loss_is_the_mean_kl_unless_a_temperature_is_named() -> None:
    target, q = random(9, 4, seed=1).softmax(-1), random(9, 4, seed=2).softmax(-1)
    expected = np.mean([entropy(p, r) for p, r in zip(target.numpy(), q.numpy(), strict=True)])
    assert soft_loss(q.log(), target.log()).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.9, 1.0])
def test_mixture_is_convex_in_cross_entropy_and_kl(weight: float) -> None:
    logits, labels, teacher = random(8, 3, seed=3), torch.arange(8) % 3, random(8, 3, seed=4)
    soft = np.mean(
        [
            entropy(p, q)
            for p, q in zip(teacher.softmax(-1).numpy(), logits.softmax(-1).numpy(), strict=True)
        ]
    )
    expected = (1 - weight) * reference_cross_entropy(logits, labels) + weight * soft
    found = soft_target_loss(logits, labels, teacher.log_softmax(-1), weight=weight)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_mixture_is_a_mean_so_a_repeated_batch_has_the_same_loss() -> None:
    logits, labels, teacher = random(4, 3, seed=5), torch.arange(4) % 3, random(4, 3, seed=6)
    once = soft_target_loss(logits, labels, teacher.log_softmax(-1), weight=0.9)
    twice = soft_target_loss(
        logits.repeat(2, 1), labels.repeat(2), teacher.log_softmax(-1).repeat(2, 1), weight=0.9
    )
    assert twice.item() == pytest.approx(once.item())


def test_distil_reads_the_teacher_and_yaml_s_lambda() -> None:
    config = validate_section(distil.Config, {"name": "distil", "lambda": 0.25})
    assert config.as_dict() == {"name": "distil", "lambda": 0.25, "temperature": 1.0}
    logits, labels = random(5, 3, seed=7), torch.arange(5) % 3
    teacher = random(5, 3, seed=8).log_softmax(-1)
    loss = distil.Loss(config)
    rows = loss.rows(LossContext(labels=labels, teacher_log_probs=teacher))
    expected = soft_target_loss(logits, labels, teacher, weight=0.25)
    assert torch.equal(loss(logits, labels, rows), expected)
    assert validate_section(distil.Config, {"name": "distil"}).lambda_ == 0.9


@pytest.mark.parametrize("value", [-0.1, 1.1, "0.9", float("nan"), True])
def test_lambda_outside_its_range(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^loss\.lambda: "):
        validate_section(distil.Config, {"name": "distil", "lambda": value}, "loss")


def test_lambda_is_not_spelled_as_in_python() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'lambda_'.*did you mean 'lambda'"):
        validate_section(distil.Config, {"name": "distil", "lambda_": 0.5})


def test_teacher_has_to_fit_the_training_set() -> None:
    labels = torch.zeros(3, dtype=torch.int64)
    for given in (None, torch.zeros(4, 2)):
        with pytest.raises(ValueError, match=r"must be \(3, classes\)"):
            teacher_log_probs(LossContext(labels=labels, teacher_log_probs=given))


def test_teacher_is_read_in_the_precision_of_training() -> None:
    given = random(2, 3, seed=9).double().log_softmax(-1)
    found = teacher_log_probs(LossContext(labels=torch.tensor([0, 1]), teacher_log_probs=given))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), given.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "fine"), [(torch.nan, False), (torch.inf, False), (-torch.inf, True)]
)
def test_diverged_teacher_is_named_but_a_zero_probability_is_fine(value: float, fine: bool) -> None:
    given = torch.tensor([[0.0, value], [-0.7, -0.7]])
    context = LossContext(labels=torch.tensor([0, 1]), teacher_log_probs=given)
    if fine:
        assert torch.equal(teacher_log_probs(context), given)
    else:
        with pytest.raises(TrialError, match="dense reference diverged"):
            teacher_log_probs(context)
