"""What every loss must hold, for every plugin found; rc_core/losses/_base.py says it in words."""

from __future__ import annotations

import io
import sys
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rc_core import plugins
from rc_core.config import PluginConfig
from rc_core.errors import ConfigError
from rc_core.losses._base import LossContext, Need
from rc_core.schema import validate_section

PACKAGE = "rc_core.losses"
NAMES = plugins.available(PACKAGE)
# Only where a `Config` cannot be had from its name alone.
EXAMPLES: dict[str, dict[str, Any]] = {}
SAMPLES, CLASSES = 20, 3

SHUFFLED = [n for n in NAMES if "shuffled" in plugins.load(PACKAGE, n).Config.model_fields]
# What hands a tensor's value to Python, or to an answer in Python.
READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)

over_losses = pytest.mark.parametrize("name", NAMES)


class NoReads(TorchDispatchMode):
    """Raises where a tensor's value is read in Python: a recorded step would keep what it read."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READS:
            raise AssertionError(f"{func} reads a tensor's value in Python")
        return func(*args, **(kwargs or {}))


def build(name: str, **values: Any) -> Any:
    module = plugins.load(PACKAGE, name)
    given = {"name": name, **EXAMPLES.get(name, {}), **values}
    return module.Loss(validate_section(module.Config, given))


def random(*shape: int, seed: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def context() -> LossContext:
    return LossContext(
        labels=torch.arange(SAMPLES) % CLASSES,
        teacher_log_probs=random(SAMPLES, CLASSES, seed=1).log_softmax(-1),
        difficulty=random(SAMPLES, seed=2).abs().double(),
        expert_log_probs=random(SAMPLES, CLASSES, seed=5).log_softmax(-1),
        first_stage_log_probs=random(SAMPLES, CLASSES, seed=6).log_softmax(-1),
        generator=torch.Generator().manual_seed(0),
    )


def on_batch(loss: Any, logits: Tensor, chosen: Tensor) -> Tensor:
    given = context()
    rows = {key: value[chosen] for key, value in loss.rows(given).items()}
    return loss(logits, given.labels[chosen], rows)


def test_plugins_are_found() -> None:
    assert {"vanilla", "distil", "smooth", "focal", "jtt", "rmc", "poe"} <= set(NAMES)


@over_losses
def test_rows_are_one_per_training_sample(name: str) -> None:
    for key, value in build(name).rows(context()).items():
        assert len(value) == SAMPLES, (
            f"rows()['{key}'] must have a row for each of the {SAMPLES} training samples, but has "
            f"{len(value)}"
        )
        finite = not value.is_floating_point() or bool(torch.isfinite(value).all())
        assert finite, f"rows()['{key}'] must be finite, but holds NaN or inf: clamp what divides"


@over_losses
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_is_a_finite_float32_scalar(name: str, dtype: torch.dtype) -> None:
    chosen = torch.tensor([3, 1, 4, 15, 9])
    logits = random(5, CLASSES, seed=3).to(dtype)
    value = on_batch(build(name), logits, chosen)
    given = f"a {value.dtype} of shape {tuple(value.shape)}: {value}"
    assert value.shape == () and value.dtype == torch.float32 and torch.isfinite(value), (
        f"a loss must be a finite float32 scalar, but for {dtype} logits it is {given}; take "
        "logits.float() first, and the mean last"
    )
    # Nothing but the logits themselves may have been rounded.
    assert torch.equal(value, on_batch(build(name), logits.float(), chosen)), (
        "of bfloat16 logits the loss must be that of logits.float(), to the bit: something was "
        "computed before they were made float32"
    )


@over_losses
def test_gradient_flows_and_going_down_it_lowers_the_loss(name: str) -> None:
    loss, chosen = build(name), torch.arange(8)
    logits = random(8, CLASSES, seed=3).requires_grad_()
    before = on_batch(loss, logits, chosen)
    (gradient,) = torch.autograd.grad(before, logits)
    assert torch.isfinite(gradient).all(), "the gradient must be finite, but holds NaN or inf"
    without = (gradient.abs().sum(-1) == 0).nonzero().flatten().tolist()
    assert not without, (
        f"every sample of a batch must get a gradient that is not all zeros, but rows {without} of "
        "8 get none: give what you would leave out a small weight instead of 0, and let the result "
        "depend on every sample's logits"
    )
    after = on_batch(loss, (logits - 0.1 * gradient).detach(), chosen)
    assert after < before, (
        f"a step of 0.1 against the gradient must lower the loss, but it went from {before:.6f} to "
        f"{after:.6f}: is its sign right, and is what was detached constant?"
    )


def test_a_loss_that_leaves_samples_out_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hardest:
        needs: ClassVar[frozenset[Need]] = frozenset()

        def rows(self, context: LossContext) -> dict[str, Tensor]:
            return {}

        def __call__(self, logits: Tensor, labels: Tensor, rows: Any) -> Tensor:
            each = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")
            return each.sort().values[1:].mean()

    monkeypatch.setattr(sys.modules[__name__], "build", lambda name: Hardest())
    with pytest.raises(AssertionError, match=r"rows \[\d\] of 8 get none: give what you would"):
        test_gradient_flows_and_going_down_it_lowers_the_loss("hardest")
    monkeypatch.setattr(Hardest, "__call__", lambda self, logits, labels, rows: logits.mean())
    with pytest.raises(AssertionError, match=r"take logits.float\(\) first"):
        test_loss_is_a_finite_float32_scalar("hardest", torch.bfloat16)


@over_losses
def test_gradient_is_finite_for_extreme_logits(name: str) -> None:
    logits = torch.tensor([[200.0, -200.0, 0.0], [-90.0, 0.0, 90.0]]).requires_grad_()
    value = on_batch(build(name), logits, torch.tensor([0, 1]))
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(value) and torch.isfinite(gradient).all(), (
        f"loss and gradient must be finite at logits of +-200, but are {value} and {gradient}: use "
        "log_softmax instead of softmax().log(), and clamp before a root or a division"
    )


def test_reads_are_noticed() -> None:
    values = torch.arange(3.0)
    for read in (lambda: float(values.sum()), lambda: bool(values.any()), values.max().item):
        with NoReads(), pytest.raises(AssertionError, match="reads a tensor's value"):  # type: ignore[no-untyped-call]
            read()


@over_losses
def test_what_may_be_recorded_reads_no_value_in_a_step(name: str) -> None:
    loss, given, chosen = build(name), context(), torch.arange(8)
    if not vars(type(loss)).get("recordable", False):
        pytest.skip("does not claim to be recordable")
    rows = {key: value[chosen] for key, value in loss.rows(given).items()}
    logits, labels = random(8, CLASSES, seed=3).requires_grad_(), given.labels[chosen]
    with NoReads():  # type: ignore[no-untyped-call]
        loss(logits, labels, rows).backward()
    assert logits.grad is not None and bool(logits.grad.any())


def test_controls_are_found() -> None:
    assert {"conf_reg", "poe", "rmc"} <= set(SHUFFLED)


@pytest.mark.parametrize("name", SHUFFLED)
def test_shuffled_gives_the_same_rows_to_other_samples(name: str) -> None:
    """With one opinion of the teacher for all, what tells rows apart is what is shuffled."""

    def rows(*, seed: int = 0, **values: Any) -> np.ndarray:
        given = context()
        given.teacher_log_probs = random(1, CLASSES, seed=1).log_softmax(-1).repeat(SAMPLES, 1)
        given.generator = torch.Generator().manual_seed(seed)
        found = build(name, **values).rows(given)
        return torch.cat([found[key].reshape(SAMPLES, -1) for key in sorted(found)], 1).numpy()

    plain, shuffled = rows(), rows(shuffled=True)
    assert not np.allclose(shuffled, plain)
    ordered = [each[np.lexsort(each.T)] for each in (plain, shuffled)]
    np.testing.assert_allclose(ordered[1], ordered[0], rtol=1e-6)
    np.testing.assert_array_equal(rows(shuffled=True), shuffled)
    assert not np.allclose(rows(shuffled=True, seed=1), shuffled)


@over_losses
def test_order_of_the_batch_does_not_matter(name: str) -> None:
    loss, chosen = build(name), torch.tensor([0, 2, 5, 7, 11, 13])
    logits, order = random(6, CLASSES, seed=4), torch.tensor([5, 3, 1, 0, 2, 4])
    straight = on_batch(loss, logits, chosen)
    found = on_batch(loss, logits[order], chosen[order]).item()
    assert found == pytest.approx(straight.item()), (
        "the same batch in another order must have the same loss: take rows from the argument "
        "`rows`, which are those of the batch, and compare no sample with its neighbour"
    )


@over_losses
def test_what_is_kept_from_step_to_step_outlives_a_stop(name: str) -> None:
    loss, again = build(name), build(name)
    given = context()
    rows = loss.rows(given)

    def step(used: Any, seed: int) -> Tensor:
        getattr(used, "before_step", lambda progress: None)(seed / 10)
        chosen = torch.arange(seed, seed + 6)
        picked = {key: value[chosen] for key, value in rows.items()}
        found: Tensor = used(random(6, CLASSES, seed=seed), given.labels[chosen], picked)
        return found

    for seed in range(5):
        step(loss, seed)
    again.rows(context())
    assert hasattr(loss, "state_dict") == hasattr(loss, "load_state_dict")
    if hasattr(loss, "state_dict"):
        written = io.BytesIO()
        torch.save(loss.state_dict(), written)
        written.seek(0)
        again.load_state_dict(torch.load(written, weights_only=True))
    assert torch.equal(step(loss, 9), step(again, 9)), (
        "after a stop a loss must be what it was before, but is not: what it keeps from step to "
        "step needs state_dict() and load_state_dict(), and what depends on how far training is "
        "before_step()"
    )


def test_a_loss_that_forgets_at_a_stop_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Running:
        needs: ClassVar[frozenset[Need]] = frozenset()

        def __init__(self) -> None:
            self.mean = torch.ones(())

        def rows(self, context: LossContext) -> dict[str, Tensor]:
            return {}

        def __call__(self, logits: Tensor, labels: Tensor, rows: Any) -> Tensor:
            found = torch.nn.functional.cross_entropy(logits.float(), labels)
            self.mean = 0.9 * self.mean + 0.1 * found.detach()
            return found / self.mean

    class Kept(Running):
        def state_dict(self) -> dict[str, Tensor]:
            return {"mean": self.mean}

        def load_state_dict(self, state: dict[str, Tensor]) -> None:
            self.mean = state["mean"]

    monkeypatch.setattr(sys.modules[__name__], "build", lambda name: Running())
    with pytest.raises(AssertionError, match="after a stop a loss must be what it was before"):
        test_what_is_kept_from_step_to_step_outlives_a_stop("running")
    monkeypatch.setattr(sys.modules[__name__], "build", lambda name: Kept())
    test_what_is_kept_from_step_to_step_outlives_a_stop("kept")


@over_losses
def test_needs_are_known_and_enough(name: str) -> None:
    loss, given = build(name), context()
    assert loss.needs <= set(get_args(Need))
    for need in get_args(Need):
        assert getattr(given, need) is not None
        if need not in loss.needs:
            setattr(given, need, None)
    try:
        found = loss.rows(given)
    except Exception as error:
        raise AssertionError(
            f"rows() must work with what Loss.needs names ({sorted(loss.needs)}) and the labels; "
            "name there what else it reads"
        ) from error
    assert found.keys() == loss.rows(context()).keys()


@over_losses
def test_config_is_a_strict_section(name: str) -> None:
    module = plugins.load(PACKAGE, name)
    config = validate_section(module.Config, {"name": name, **EXAMPLES.get(name, {})})
    assert isinstance(config, PluginConfig)
    assert validate_section(module.Config, config.as_dict()) == config
    with pytest.raises(ConfigError, match="unknown key 'lamda'"):
        validate_section(module.Config, {"name": name, "lamda": 0.5})
