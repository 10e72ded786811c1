"""One training step, and what another process needs to go on after it.

A GPU may record a step and replay it (rc_core.cuda_steps), so what a step reads and writes stays
where it is from the first one on: parameters, the optimizer's state, the loss's rows, `loss_sum`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rc_core.compression._base import Batch, ParameterGroup
from rc_core.config import TrainingConfig
from rc_core.cuda_steps import RecordedSteps, rates_on_device
from rc_core.errors import TrialError
from rc_core.feeds import DeviceFeed, Feed
from rc_core.forward import BatchForward, FrozenTeacher, autocast, sees_hidden_states
from rc_core.losses._base import AnyLoss, ModelLoss


class TrainStep:
    """The optimizer step of one training: forward, loss, backward, clipping, AdamW.

    Attributes:
        loss_sum: of the losses of all steps since it was last set to zero, on the device: reading
            every loss would stall a GPU on every step.
        set_rate: takes the share of the peak learning rates that the next step has.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: AnyLoss,
        training: TrainingConfig,
        *,
        precision: str,
        rows: Mapping[str, Tensor],
        after_backward: Callable[[], object] | None = None,
        groups: Sequence[ParameterGroup] = (),
        teacher: FrozenTeacher | None = None,
        resume: Mapping[str, Any] | None = None,
    ) -> None:
        """Make the optimizer and seed torch; see `rc_core.training.fit`, whose arguments these are.

        Args:
            resume: what `state` returned, to go on from there.
        """
        self._model, self._loss, self._precision = model, loss, precision
        self._device = next(model.parameters()).device
        self._tables = {name: table.to(self._device) for name, table in rows.items()}
        self._teacher = teacher
        self._trainable = [p for p in model.parameters() if p.requires_grad]
        self._max_norm = training.max_grad_norm
        self._after_backward = after_backward
        own: list[nn.Parameter] = []
        if isinstance(loss, nn.Module):
            own = [p for p in loss.to(self._device).parameters() if p.requires_grad]
        self._optimizer, peaks = _optimizer(self._trainable, training, groups, own)
        self._trainable += own
        self.loss_sum = torch.zeros((), device=self._device)
        torch.manual_seed(training.seed)
        if resume is not None:
            self._optimizer.load_state_dict(resume["optimizer"])
            if "loss" in resume:
                loss.load_state_dict(resume["loss"])  # type: ignore[union-attr]
            _set_random_state(resume["random"], self._device)
        # Loading replaces what the groups hold, so only now.
        self.set_rate = _rate_setter(self._optimizer, peaks, self._device)

    def __call__(self, batch: Batch) -> None:
        """Train on one batch. Raises TrialError where the loss is no scalar with a gradient."""
        value = self._value(batch)
        _check_loss(value, self._loss)
        value.backward()
        if self._after_backward is not None:
            self._after_backward()
        if self._max_norm > 0:
            torch.nn.utils.clip_grad_norm_(self._trainable, self._max_norm, foreach=True)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.loss_sum.add_(value.detach())

    def _value(self, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        loss = self._loss
        if isinstance(loss, ModelLoss):
            forward = BatchForward(
                self._model,
                batch,
                self._precision,
                hidden=sees_hidden_states(loss),
                teacher=self._teacher,
            )
            value = loss.on_model(forward, batch.labels, self._picked(batch))
            forward.check_called()
            return value
        with autocast(self._device, self._precision):
            logits = self._model(**batch.inputs).logits
        return loss(logits.float(), batch.labels, self._picked(batch))

    def _picked(self, batch: Batch) -> dict[str, Tensor]:
        return {name: table[batch.rows] for name, table in self._tables.items()}

    def on_rows(
        self, feed: Feed, batch_size: int, *, record: bool
    ) -> Callable[[NDArray[np.int64]], None]:
        """Return what trains on some rows: a GPU may replay what it has done before."""
        # What `after_backward` does in Python a recording would not repeat.
        if record and self._after_backward is None and isinstance(feed, DeviceFeed):
            return RecordedSteps(self, feed, self._model, batch_size)
        return lambda rows: self(feed.batch(rows))

    def state(self, **counts: float) -> dict[str, Any]:
        """Return `counts` and what the next step depends on besides the weights, as it is now."""
        state_dict = getattr(self._loss, "state_dict", None)
        return {
            **counts,
            "optimizer": self._optimizer.state_dict(),
            "random": _random_state(self._device),
            **({} if state_dict is None else {"loss": state_dict()}),
        }

    def check_trained(self) -> None:
        """Check that the optimizer has every parameter that is trainable by now.

        Raises:
            TrialError: a compression put others in their place, or unfroze some, or a loss made its
                own too late: they would stay as they are.
        """
        known = set(map(id, self._trainable))
        named = [*self._model.named_parameters()]
        if isinstance(self._loss, nn.Module):
            named += self._loss.named_parameters(prefix="loss")
        others = [name for name, p in named if p.requires_grad and id(p) not in known]
        if others:
            raise TrialError(
                "what is trained must be there before the first step, but since then "
                f"{len(others)} parameters have come that no optimizer knows: "
                f"{', '.join(others[:3])}; change parameters in place (copy_, mul_), and replace "
                "or unfreeze them in a compression's prepare() or a loss's rows() only"
            )

    def release(self) -> None:
        """Free the optimizer's moments, twice the size of what is trained, and the teacher.

        No step may follow.
        """
        self._optimizer.state.clear()
        if self._teacher is not None:
            self._teacher.release()


def _check_loss(value: object, loss: object) -> None:
    """Refuse what backward could not be called on, before torch does in words of its own."""
    if isinstance(value, Tensor) and value.ndim == 0 and value.requires_grad:
        return
    given = repr(value)
    if isinstance(value, Tensor):
        given = f"a tensor of shape {tuple(value.shape)}"
        given += "" if value.requires_grad else " that depends on no parameter"
    file = f"{type(loss).__module__.replace('.', '/')}.py"
    raise TrialError(
        f"{file}: a loss must return a scalar tensor that depends on the logits, "
        f"but returned {given}"
    )


def _optimizer(
    trainable: Sequence[nn.Parameter],
    training: TrainingConfig,
    groups: Sequence[ParameterGroup],
    of_loss: Sequence[nn.Parameter],
) -> tuple[torch.optim.AdamW, list[float]]:
    """Return the optimizer and the peak learning rate of each of its groups.

    Args:
        trainable: parameters of the model.
        training: learning rate and decay.
        groups: of them.
        of_loss: parameters of the loss, a group of their own where there are any.
    """
    own = Counter(id(p) for group in groups for p in group.parameters)
    if own - Counter(map(id, trainable)):
        raise TrialError(
            "parameter_groups() must name trainable parameters of the model, each in one group, "
            "but names others, or one of them twice"
        )
    found, peaks = [], []
    rest = ParameterGroup([p for p in trainable if id(p) not in own])
    for group in (rest, *groups, *([ParameterGroup(of_loss)] if of_loss else [])):
        # Decay pulls weights towards zero; biases and layer norms have no reason to be near it.
        matrices, others = training.weight_decay, 0.0
        if group.weight_decay is not None:
            matrices = others = group.weight_decay
        given = group.learning_rate
        peaks += 2 * [training.learning_rate if given is None else given]
        found += [
            {"params": [p for p in group.parameters if p.ndim >= 2], "weight_decay": matrices},
            {"params": [p for p in group.parameters if p.ndim < 2], "weight_decay": others},
        ]
    return torch.optim.AdamW(found, lr=training.learning_rate, fused=True), peaks


def _rate_setter(
    optimizer: torch.optim.Optimizer, peaks: Sequence[float], device: torch.device
) -> Callable[[float], None]:
    """Return what sets the learning rates of the next step, now that the optimizer has its state.

    It takes the share of the peaks.
    """
    if device.type == "cuda":
        return rates_on_device(optimizer, peaks, device)

    def set_rates(share: float) -> None:
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            # A checkpoint written on a GPU says otherwise of the second.
            group["lr"], group["capturable"] = peak * share, False

    return set_rates


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
