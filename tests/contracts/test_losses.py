"""What every loss must hold, for every plugin found; rc_core/losses/_base.py says it in words."""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Sequence
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rc_core import plugins
from rc_core.config import PluginConfig
from rc_core.errors import ConfigError
from rc_core.forward import BatchForward, FrozenTeacher, shape_of
from rc_core.losses._base import LossContext, Need
from rc_core.schema import validate_section
from tests.contracts._given import (
    CLASSES,
    FIELD_OF_NEED,
    SAMPLES,
    STUDENT,
    context,
    on_batch,
    own_parameters,
    random,
    states,
)
from tests.contracts._tiny import ARCHITECTURES, NUM_LABELS, tiny_batch, tiny_model

PACKAGE = "rc_core.losses"
NAMES = plugins.available(PACKAGE)
# Only where a `Config` cannot be had from its name alone.
EXAMPLES: dict[str, dict[str, Any]] = {}

SHUFFLED = [n for n in NAMES if "shuffled" in plugins.load(PACKAGE, n).Config.model_fields]
# What hands a tensor's value to Python, or to an answer in Python.
READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)

over_losses = pytest.mark.parametrize("name", NAMES)
ON_MODEL = [n for n in NAMES if hasattr(plugins.load(PACKAGE, n).Loss, "on_model")]


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


def prepared(name: str, **values: Any) -> tuple[Any, dict[str, Tensor]]:
    """Return a loss, and its rows, as a trial has it."""
    torch.manual_seed(0)
    loss = build(name, **values)
    return loss, loss.rows(context())


def test_plugins_are_found() -> None:
    assert {"vanilla", "distil", "smooth", "focal", "jtt", "rmc", "poe"} <= set(NAMES)
    assert {"rdrop", "hidden"} <= set(ON_MODEL)


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
    value = on_batch(*prepared(name), logits, chosen)
    given = f"a {value.dtype} of shape {tuple(value.shape)}: {value}"
    assert value.shape == () and value.dtype == torch.float32 and torch.isfinite(value), (
        f"a loss must be a finite float32 scalar, but for {dtype} logits it is {given}; take "
        "logits.float() first, and the mean last"
    )
    # Nothing but the logits themselves may have been rounded.
    assert torch.equal(value, on_batch(*prepared(name), logits.float(), chosen)), (
        "of bfloat16 logits the loss must be that of logits.float(), to the bit: something was "
        "computed before they were made float32"
    )


@over_losses
def test_gradient_flows_and_going_down_it_lowers_the_loss(name: str) -> None:
    (loss, rows), chosen = prepared(name), torch.arange(8)
    # What the model says of the batch: where a loss sees hidden states, these too.
    said = [random(8, CLASSES, seed=3), *states(STUDENT, chosen, seed=20)]
    logits, *hidden = (each.requires_grad_() for each in said)
    before = on_batch(loss, rows, logits, chosen, hidden)
    # What a loss does not look at has none.
    found: Sequence[Tensor | None] = torch.autograd.grad(
        before, [logits, *hidden], allow_unused=True
    )
    gradients = [
        torch.zeros_like(each) if gradient is None else gradient
        for each, gradient in zip([logits, *hidden], found, strict=True)
    ]
    assert all(torch.isfinite(each).all() for each in gradients), (
        "the gradient must be finite, but holds NaN or inf"
    )
    sizes = torch.stack([each.abs().flatten(1).sum(-1) for each in gradients]).sum(0)
    without = (sizes == 0).nonzero().flatten().tolist()
    assert not without, (
        f"every sample of a batch must get a gradient that is not all zeros, but rows {without} of "
        "8 get none: give what you would leave out a small weight instead of 0, and let the result "
        "depend on every sample's logits"
    )
    with torch.no_grad():
        moved = [
            each - 0.1 * gradient
            for each, gradient in zip([logits, *hidden], gradients, strict=True)
        ]
        after = on_batch(loss, rows, moved[0], chosen, moved[1:])
    assert after < before, (
        f"a step of 0.1 against the gradient must lower the loss, but it went from {before:.6f} to "
        f"{after:.6f}: is its sign right, and is what was detached constant?"
    )


@over_losses
def test_what_a_loss_trains_of_its_own_has_a_gradient_that_lowers_it(name: str) -> None:
    (loss, rows), chosen = prepared(name), torch.arange(8)
    own, logits = own_parameters(loss), random(8, CLASSES, seed=3)
    if not own:
        pytest.skip("trains nothing of its own")
    before = on_batch(loss, rows, logits, chosen)
    gradients: Sequence[Tensor | None] = torch.autograd.grad(before, own, allow_unused=True)
    unused = [
        key
        for (key, _), gradient in zip(loss.named_parameters(), gradients, strict=True)
        if gradient is None or not torch.isfinite(gradient).all() or not gradient.any()
    ]
    assert not unused, (
        f"every parameter of a loss must get a gradient, finite and not all zeros, but {unused} do "
        "not: use them in the result, or leave them out"
    )
    with torch.no_grad():
        for parameter, gradient in zip(own, gradients, strict=True):
            assert gradient is not None
            parameter.sub_(0.1 * gradient)
        after = on_batch(loss, rows, logits, chosen)
    assert after < before, (
        f"a step of 0.1 of its own parameters against their gradient must lower the loss, but it "
        f"went from {before:.6f} to {after:.6f}"
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
    value = on_batch(*prepared(name), logits, torch.tensor([0, 1]))
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
    (loss, rows), chosen = prepared(name), torch.arange(8)
    if not vars(type(loss)).get("recordable", False):
        pytest.skip("does not claim to be recordable")
    logits = random(8, CLASSES, seed=3).requires_grad_()
    with NoReads():  # type: ignore[no-untyped-call]
        on_batch(loss, rows, logits, chosen).backward()
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
    (loss, rows), chosen = prepared(name), torch.tensor([0, 2, 5, 7, 11, 13])
    logits, order = random(6, CLASSES, seed=4), torch.tensor([5, 3, 1, 0, 2, 4])
    straight = on_batch(loss, rows, logits, chosen)
    found = on_batch(loss, rows, logits[order], chosen[order]).item()
    assert found == pytest.approx(straight.item()), (
        "the same batch in another order must have the same loss: take rows from the argument "
        "`rows`, which are those of the batch, and compare no sample with its neighbour"
    )


@over_losses
def test_what_is_kept_from_step_to_step_outlives_a_stop(name: str) -> None:
    (loss, rows), (again, _) = prepared(name), prepared(name)

    def step(used: Any, seed: int) -> Tensor:
        getattr(used, "before_step", lambda progress: None)(seed / 10)
        found = on_batch(used, rows, random(6, CLASSES, seed=seed), torch.arange(seed, seed + 6))
        own = own_parameters(used)
        if own:
            for parameter, gradient in zip(own, torch.autograd.grad(found, own), strict=True):
                parameter.data -= 0.1 * gradient
        return found

    for seed in range(5):
        step(loss, seed)
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
    loss, given, chosen = build(name), context(), torch.arange(4)
    assert loss.needs <= set(get_args(Need))
    for need in get_args(Need):
        field = FIELD_OF_NEED.get(need, need)
        assert getattr(given, field) is not None
        if need not in loss.needs:
            setattr(given, field, None)
    try:
        found = loss.rows(given)
        on_batch(loss, found, random(4, CLASSES, seed=4), chosen)
    except Exception as error:
        raise AssertionError(
            "rows() and on_model() must work with what Loss.needs names "
            f"({sorted(loss.needs)}) and the labels; name there what else they read"
        ) from error
    assert found.keys() == loss.rows(context()).keys()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ON_MODEL)
def test_what_runs_the_model_runs_every_encoder(name: str, architecture: str) -> None:
    """A student of two layers and a teacher of four, wider where that is BERT."""
    student = tiny_model(architecture, num_layers=2)
    wide = {"hidden_size": 24} if architecture == "bert" else {}
    frozen = tiny_model(architecture, seed=9, **wide)
    teacher = FrozenTeacher(frozen)
    given, loss = context(), build(name)
    given.student, given.teacher = shape_of(student), teacher.shape
    rows = loss.rows(given)

    def value(order: Tensor) -> Tensor:
        batch = tiny_batch(size=6)
        inputs = {key: each[order] for key, each in batch.inputs.items()}
        ordered = dataclasses.replace(batch, inputs=inputs, rows=batch.rows[order])
        forward = BatchForward(
            student,
            ordered,
            "fp32",
            hidden="hidden_states" in loss.needs,
            teacher=teacher if "teacher_model" in loss.needs else None,
        )
        picked = {key: each[ordered.rows] for key, each in rows.items()}
        found: Tensor = loss.on_model(forward, batch.labels[order], picked)
        forward.check_called()
        return found

    assert CLASSES == NUM_LABELS
    straight = value(torch.arange(6))
    assert straight.shape == () and straight.dtype == torch.float32
    assert value(torch.tensor([5, 3, 1, 0, 2, 4])).item() == pytest.approx(straight.item())
    straight.backward()
    blind = [key for key, each in student.named_parameters() if each.grad is None]
    assert all("position" in key or "token_type" in key for key in blind), blind
    assert all(
        torch.isfinite(each.grad).all() for each in student.parameters() if each.grad is not None
    )
    assert all(each.grad is None for each in frozen.parameters())
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad
    assert value(torch.arange(6)) < straight


@over_losses
def test_config_is_a_strict_section(name: str) -> None:
    module = plugins.load(PACKAGE, name)
    config = validate_section(module.Config, {"name": name, **EXAMPLES.get(name, {})})
    assert isinstance(config, PluginConfig)
    assert validate_section(module.Config, config.as_dict()) == config
    with pytest.raises(ConfigError, match="unknown key 'lamda'"):
        validate_section(module.Config, {"name": name, "lamda": 0.5})
