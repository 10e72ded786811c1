"""Smoothing by difficulty, against the formula written out, and the loss built on it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor

from rc_core.difficulty._base import degrees
from rc_core.errors import ConfigError
from rc_core.losses import rmc
from rc_core.losses._base import LossContext
from rc_core.losses._degrees import degree_report, smooth_log_probs
from rc_core.schema import validate_section

SCORES = torch.from_numpy(np.random.default_rng(2).gamma(0.7, size=30))


def reference_smooth(probabilities: np.ndarray, degree: np.ndarray) -> np.ndarray:
    rows = []
    for p, d in zip(probabilities, degree, strict=True):
        powers = [0.0 if value == 0 else value**d for value in p]
        rows.append([power / sum(powers) for power in powers])
    return np.array(rows)


def smoothed(probabilities: Tensor, degree: Tensor) -> Tensor:
    return smooth_log_probs(probabilities.log(), degree).exp()


def test_smoothing_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    probabilities, degree = rng.dirichlet([0.3] * 4, size=50), rng.uniform(0.05, 1, size=50)
    found = smoothed(torch.tensor(probabilities), torch.tensor(degree))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), reference_smooth(probabilities, degree), rtol=1e-10)
    logs = smooth_log_probs(torch.tensor(probabilities).log().float(), torch.tensor(degree).float())
    assert logs.dtype == torch.float32
    np.testing.assert_allclose(logs.exp().numpy(), found.numpy(), rtol=1e-4, atol=1e-7)


SMOOTH_CASES = [
    ("degree 1 leaves it", [0.7, 0.2, 0.1], 1.0, [0.7, 0.2, 0.1]),
    ("degree 0 is uniform", [0.7, 0.2, 0.1], 0.0, [1 / 3, 1 / 3, 1 / 3]),
    ("square root", [0.64, 0.36], 0.5, [8 / 14, 6 / 14]),
    ("uniform stays", [0.25] * 4, 0.3, [0.25] * 4),
    ("certain stays", [0.0, 1.0, 0.0], 0.2, [0.0, 1.0, 0.0]),
    ("zero stays zero", [0.64, 0.36, 0.0], 0.5, [8 / 14, 6 / 14, 0.0]),
    ("zero and degree 0", [0.9, 0.1, 0.0], 0.0, [0.5, 0.5, 0.0]),
    ("one class", [1.0], 0.5, [1.0]),
    ("tiny", [1.0, 1e-30], 0.5, [1 / (1 + 1e-15), 1e-15 / (1 + 1e-15)]),
    ("above 1 sharpens", [0.8, 0.2], 2.0, [0.64 / 0.68, 0.04 / 0.68]),
]


@pytest.mark.parametrize(("name", "p", "degree", "expected"), SMOOTH_CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smoothing_edges(
    name: str, p: list[float], degree: float, expected: list[float], dtype: torch.dtype
) -> None:
    given = torch.tensor([p, p], dtype=dtype)
    found = smoothed(given, torch.tensor([degree, degree], dtype=dtype))
    np.testing.assert_allclose(found.numpy(), [expected, expected], rtol=1e-5, atol=1e-30)
    # one degree for all rows, one row alone, and a further leading dimension
    assert torch.equal(smoothed(given, torch.tensor(degree)), found)
    assert torch.equal(smoothed(given[0], torch.tensor(degree)), found[0])
    assert torch.equal(smoothed(given[None], torch.full((1, 2), degree)), found[None])


def test_smaller_degrees_are_never_more_certain() -> None:
    p = torch.tensor([0.9, 0.07, 0.03]).repeat(5, 1)
    found = smoothed(p, torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0]))
    assert (found[1:, 0] > found[:-1, 0]).all() and (found.argmax(-1) == 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(5))


SMOOTH_ERRORS: list[tuple[str, Any, Any, str]] = [
    ("negative degree", [[0.5, 0.5]], [-0.1], "degrees must be at least 0"),
    ("NaN degree", [[0.5, 0.5]], [float("nan")], "degrees must be at least 0"),
    ("column of degrees", [[0.5, 0.5], [0.5, 0.5]], [[0.5], [0.5]], "must have the shape"),
    ("too few degrees", [[0.5, 0.5], [0.5, 0.5]], [0.5], "must have the shape"),
    ("row of zeros", [[0.0, 0.0]], [0.5], "every row must have"),
]


@pytest.mark.parametrize(("name", "p", "degree", "message"), SMOOTH_ERRORS)
def test_smoothing_errors(name: str, p: Any, degree: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        smoothed(torch.tensor(p), torch.tensor(degree))


def config_of(**values: Any) -> rmc.Config:
    return validate_section(rmc.Config, {"name": "rmc", **values})


def log_probs(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(*shape, generator=generator)).log_softmax(-1)


def context(**replaced: Any) -> LossContext:
    given: dict[str, Any] = {
        "labels": torch.arange(30) % 3,
        "teacher_log_probs": log_probs(30, 3, seed=1),
        "difficulty": SCORES,
    }
    return LossContext(**(given | replaced))


def test_soft_targets_are_the_paper_s_two_stages_written_out() -> None:
    given, alpha = context(), 0.3
    found = rmc.Loss(config_of(alpha=alpha)).rows(given)["soft_targets"]
    variance = SCORES.numpy()
    degree = alpha + (1 - alpha) * (variance - variance.min()) / (variance.max() - variance.min())
    expected = reference_smooth(given.teacher_log_probs.double().exp().numpy(), degree)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.exp().numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.9, 1.0])
def test_loss_mixes_cross_entropy_with_kl_to_the_smoothed_teacher(weight: float) -> None:
    given, loss = context(), rmc.Loss(config_of(**{"lambda": weight}))
    chosen = torch.tensor([4, 8, 15, 16, 23])
    rows = {key: value[chosen] for key, value in loss.rows(given).items()}
    logits, labels = log_probs(5, 3, seed=3) + 1.5, given.labels[chosen]
    q = logits.softmax(-1).double().numpy()
    s = rows["soft_targets"].double().exp().numpy()
    hard = np.mean([-np.log(q[i, labels[i]]) for i in range(5)])
    soft = np.mean([entropy(s[i], q[i]) for i in range(5)])
    expected = (1 - weight) * hard + weight * soft
    assert loss(logits, labels, rows).item() == pytest.approx(expected, rel=1e-5)


def test_alpha_one_is_distillation() -> None:
    given = context()
    found = rmc.Loss(config_of(alpha=1.0)).rows(given)["soft_targets"]
    torch.testing.assert_close(found, given.teacher_log_probs)


def test_report_describes_the_degrees() -> None:
    given = context()
    rmc.Loss(config_of(alpha=0.4)).rows(given)
    report = given.report
    json.dumps(report, allow_nan=False)
    assert report["degree"]["quantiles"]["0"] == pytest.approx(0.4)
    assert report["degree"]["quantiles"]["1"] == 1.0
    assert sum(report["degree"]["histogram"]["counts"]) == 30


def test_degree_report_by_hand() -> None:
    report = degree_report(torch.tensor([0.51, 0.515, 0.62, 0.95, 1.0]), alpha=0.5)
    assert report["mean"] == pytest.approx(0.719)
    assert report["near_alpha"] == pytest.approx(0.4)
    assert report["histogram"]["counts"] == [0, 0, 0, 0, 0, 2, 1, 0, 0, 2]
    assert report["histogram"]["edges"] == pytest.approx(np.linspace(0, 1, 11))
    assert report["quantiles"]["0.5"] == pytest.approx(0.62)
    assert report["quantiles"]["0.25"] == pytest.approx(0.515)


def test_degrees_are_near_alpha_up_to_two_hundredths_above_it() -> None:
    found = degree_report(torch.tensor([0.3, 0.319, 0.321, 0.33, 0.34]), alpha=0.3)
    assert found["near_alpha"] == pytest.approx(0.4)
    edge = degree_report(torch.tensor([0.0, 0.02, 0.021, 1.0], dtype=torch.float64), alpha=0.0)
    assert edge["near_alpha"] == 0.5


def test_scores_that_agree_leave_the_teacher() -> None:
    given = context(difficulty=torch.full((30,), 0.7, dtype=torch.float64))
    found = rmc.Loss(config_of(alpha=0.2)).rows(given)["soft_targets"]
    torch.testing.assert_close(found, given.teacher_log_probs)
    assert given.report["degree"]["mean"] == 1.0


@pytest.mark.parametrize("scores", [None, torch.zeros(29)])
def test_scores_have_to_be_there(scores: Tensor | None) -> None:
    with pytest.raises(ValueError, match="difficulty must be"):
        rmc.Loss(config_of()).rows(context(difficulty=scores))


def test_auto_has_to_be_resolved_first() -> None:
    assert config_of(alpha="auto").label() == "rmc alpha=auto"
    with pytest.raises(ValueError, match="resolve `auto` first"):
        rmc.Loss(config_of(alpha="auto")).rows(context())


def test_shuffled_degrees_are_the_same_ones_on_other_samples() -> None:
    def entropy_of(**values: Any) -> Tensor:
        given = context(
            teacher_log_probs=log_probs(1, 3, seed=1).repeat(30, 1),
            generator=torch.Generator().manual_seed(0),
        )
        targets = rmc.Loss(config_of(**values)).rows(given)["soft_targets"]
        return torch.special.entr(targets.exp()).sum(1)

    plain, shuffled = entropy_of(alpha=0.2), entropy_of(alpha=0.2, shuffled=True)
    assert not torch.allclose(plain, shuffled)
    torch.testing.assert_close(plain.sort().values, shuffled.sort().values)


@pytest.mark.parametrize("how", ["minmax", "rank", "winsorized"])
def test_normalisation_is_applied(how: Any) -> None:
    given = context()
    rmc.Loss(config_of(alpha=0.2, normalisation=how)).rows(given)
    expected = degrees(SCORES, 0.2, how)
    assert given.report["degree"]["mean"] == pytest.approx(float(expected.mean()), rel=1e-6)


def test_what_alpha_is_judged_on_is_no_part_of_the_name() -> None:
    on = {"name": "student", "num_layers": 2}
    assert config_of(alpha="auto", alpha_on=on).label() == "rmc alpha=auto"


@pytest.mark.parametrize(
    "values", [{"alpha": 0.0}, {"alpha": 1.1}, {"lambda": -0.1}, {"alpha": "a"}]
)
def test_bad_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        config_of(**values)
