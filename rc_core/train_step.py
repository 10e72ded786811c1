"""One training step, and the state another process needs to resume after it.

A GPU may record a step and replay it (rc_core.cuda_steps), so from the first step on, everything
that a step reads and writes stays at the same address: parameters, optimizer state, the loss's
rows, `loss_sum`.
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
    """One optimizer step of a training run: forward, loss, backward, clipping, AdamW.

    Attributes:
        loss_sum: sum of the losses of all steps since it was last zeroed, kept on the device:
            reading each loss would stall a GPU in every step.
        set_rate: takes the share of the peak learning rates that applies to the next step.
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
        """Make the optimizer and seed torch; the arguments are those of `rc_core.training.fit`.

        Args:
            resume: what `state` returned, to continue from there.
        """
        self._model, self._loss, self._precision = model, loss, precision
        self._device = next(model.parameters()).device
        self._tables = {name: table.to(self._device) for name, table in rows.items()}
        self._teacher = teacher
        self._trainable = [p for p in model.parameters() if p.requires_grad]
        self._max_norm = training.max_grad_norm
        self._after_backward = after_backward
        loss_parameters: list[nn.Parameter] = []
        if isinstance(loss, nn.Module):
            loss_parameters = [p for p in loss.to(self._device).parameters() if p.requires_grad]
        self._optimizer, peaks = _optimizer(self._trainable, training, groups, loss_parameters)
        self._trainable += loss_parameters
        self.loss_sum = torch.zeros((), device=self._device)
        torch.manual_seed(training.seed)
        if resume is not None:
            self._optimizer.load_state_dict(resume["optimizer"])
            if "loss" in resume:
                loss.load_state_dict(resume["loss"])  # type: ignore[union-attr]
            _set_random_state(resume["random"], self._device)
        # Last, because loading a state replaces what the parameter groups hold.
        self.set_rate = _rate_setter(self._optimizer, peaks, self._device)

    def __call__(self, batch: Batch) -> None:
        """Train on one batch. Raises TrialError if the loss is not a scalar with a gradient."""
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
            value = loss.on_model(forward, batch.labels, self._rows_of(batch))
            forward.check_called()
            return value
        with autocast(self._device, self._precision):
            logits = self._model(**batch.inputs).logits
        return loss(logits.float(), batch.labels, self._rows_of(batch))

    def _rows_of(self, batch: Batch) -> dict[str, Tensor]:
        return {name: table[batch.rows] for name, table in self._tables.items()}

    def on_rows(
        self, feed: Feed, batch_size: int, *, record: bool
    ) -> Callable[[NDArray[np.int64]], None]:
        """Return a function that trains on given rows; on a GPU it may replay a recorded step."""
        # A replay would not repeat what `after_backward` does in Python.
        if record and self._after_backward is None and isinstance(feed, DeviceFeed):
            return RecordedSteps(self, feed, self._model, batch_size)
        return lambda rows: self(feed.batch(rows))

    def state(self, **counts: float) -> dict[str, Any]:
        """Return `counts` and everything but the weights that the next step depends on."""
        state_dict = getattr(self._loss, "state_dict", None)
        return {
            **counts,
            "optimizer": self._optimizer.state_dict(),
            "random": _random_state(self._device),
            **({} if state_dict is None else {"loss": state_dict()}),
        }

    def check_trained(self) -> None:
        """Check that the optimizer holds every parameter that is trainable by now.

        Raises:
            TrialError: a compression replaced or unfroze parameters, or a loss created its own too
                late: they would never be updated.
        """
        known = set(map(id, self._trainable))
        named = [*self._model.named_parameters()]
        if isinstance(self._loss, nn.Module):
            named += self._loss.named_parameters(prefix="loss")
        unknown = [name for name, p in named if p.requires_grad and id(p) not in known]
        if unknown:
            raise TrialError(
                "trainable parameters must exist before the first step, but "
                f"{len(unknown)} that the optimizer does not know appeared since: "
                f"{', '.join(unknown[:3])}; change parameters in place (copy_, mul_), and replace "
                "or unfreeze them only in a compression's prepare() or a loss's rows()"
            )

    def release(self) -> None:
        """Free the teacher and the optimizer's moments (twice the size of what is trained).

        No step may follow.
        """
        self._optimizer.state.clear()
        if self._teacher is not None:
            self._teacher.release()


def _check_loss(value: object, loss: object) -> None:
    """Reject what backward cannot be called on, with a clearer message than torch's own."""
    if isinstance(value, Tensor) and value.ndim == 0 and value.requires_grad:
        return
    given = repr(value)
    if isinstance(value, Tensor):
        dependence = "" if value.requires_grad else " that depends on no parameter"
        given = f"a tensor of shape {tuple(value.shape)}{dependence}"
    file = f"{type(loss).__module__.replace('.', '/')}.py"
    raise TrialError(
        f"{file}: a loss must return a scalar tensor that depends on the logits, "
        f"but returned {given}"
    )


def _optimizer(
    trainable: Sequence[nn.Parameter],
    training: TrainingConfig,
    groups: Sequence[ParameterGroup],
    loss_parameters: Sequence[nn.Parameter],
) -> tuple[torch.optim.AdamW, list[float]]:
    """Return the optimizer and the peak learning rate of each of its parameter groups.

    Args:
        trainable: the model's trainable parameters.
        training: learning rate and weight decay.
        groups: those of `trainable` that have their own.
        loss_parameters: the loss's own; they form a group of their own.

    Raises:
        TrialError: `groups` name a parameter that is not in `trainable`, or one of them twice.
    """
    grouped = Counter(id(p) for group in groups for p in group.parameters)
    if grouped - Counter(map(id, trainable)):
        raise TrialError(
            "parameter_groups() must name trainable parameters of the model, each in one group, "
            "but names others, or one of them twice"
        )
    rest = ParameterGroup([p for p in trainable if id(p) not in grouped])
    of_loss = [ParameterGroup(loss_parameters)] if loss_parameters else []
    param_groups, peaks = [], []
    for group in (rest, *groups, *of_loss):
        # Decay pulls weights towards zero; biases and layer norms have no reason to be near it.
        matrix_decay, vector_decay = training.weight_decay, 0.0
        if group.weight_decay is not None:
            matrix_decay = vector_decay = group.weight_decay
        peak = training.learning_rate if group.learning_rate is None else group.learning_rate
        peaks += [peak, peak]
        param_groups += [
            {"params": [p for p in group.parameters if p.ndim >= 2], "weight_decay": matrix_decay},
            {"params": [p for p in group.parameters if p.ndim < 2], "weight_decay": vector_decay},
        ]
    return torch.optim.AdamW(param_groups, lr=training.learning_rate, fused=True), peaks


def _rate_setter(
    optimizer: torch.optim.Optimizer, peaks: Sequence[float], device: torch.device
) -> Callable[[float], None]:
    """Return a function that takes a share of the peaks and sets the next step's learning rates.

    Args:
        optimizer: with its state loaded.
        peaks: peak learning rate of each of its parameter groups.
        device: where the parameters are.
    """
    if device.type == "cuda":
        return rates_on_device(optimizer, peaks, device)

    def set_rates(share: float) -> None:
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            # A checkpoint written on a GPU brings `capturable=True`.
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
