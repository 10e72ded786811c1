"""One training step, and what another process needs to go on after it.

A GPU may record a step and replay it (rc_core.cuda_steps), so what a step reads and writes stays
where it is from the first one on: parameters, the optimizer's state, the loss's rows, `loss_sum`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from numpy import int64
from numpy.typing import NDArray
from torch import Tensor, nn

from rc_core.compression._base import Batch
from rc_core.config import TrainingConfig
from rc_core.cuda_steps import RecordedSteps, rates_on_device
from rc_core.errors import TrialError
from rc_core.feeds import DeviceFeed, Feed
from rc_core.losses._base import Loss


class TrainStep:
    """The optimizer step of one training: forward, loss, backward, clipping, AdamW.

    Attributes:
        loss_sum: of the losses of all steps since it was last set to zero, on the device: reading
            every loss would stall a GPU on every step.
        set_rate: takes the learning rate of the next step.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        training: TrainingConfig,
        *,
        precision: str,
        rows: Mapping[str, Tensor],
        resume: Mapping[str, Any] | None = None,
    ) -> None:
        """Make the optimizer and seed torch; see `rc_core.training.fit`, whose arguments these are.

        Args:
            resume: what `state` returned, to go on from there.
        """
        self._model, self._loss, self._precision = model, loss, precision
        self._device = next(model.parameters()).device
        self._tables = {name: table.to(self._device) for name, table in rows.items()}
        self._trainable = [p for p in model.parameters() if p.requires_grad]
        self._max_norm = training.max_grad_norm
        self._optimizer = _optimizer(self._trainable, training)
        self.loss_sum = torch.zeros((), device=self._device)
        torch.manual_seed(training.seed)
        if resume is not None:
            self._optimizer.load_state_dict(resume["optimizer"])
            _set_random_state(resume["random"], self._device)
        # Loading replaces what the groups hold, so only now.
        self.set_rate = _rate_setter(self._optimizer, self._device)

    def __call__(self, batch: Batch) -> None:
        """Train on one batch. Raises TrialError where the loss is no scalar with a gradient."""
        with autocast(self._device, self._precision):
            logits = self._model(**batch.inputs).logits
        picked = {name: table[batch.rows] for name, table in self._tables.items()}
        value = self._loss(logits.float(), batch.labels, picked)
        _check_loss(value)
        value.backward()
        if self._max_norm > 0:
            torch.nn.utils.clip_grad_norm_(self._trainable, self._max_norm, foreach=True)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.loss_sum.add_(value.detach())

    def on_rows(
        self, feed: Feed, batch_size: int, *, record: bool
    ) -> Callable[[NDArray[int64]], None]:
        """Return what trains on some rows: a GPU may replay what it has done before."""
        if record and isinstance(feed, DeviceFeed):
            return RecordedSteps(self, feed, self._model, batch_size)
        return lambda rows: self(feed.batch(rows))

    def state(self, **counts: float) -> dict[str, Any]:
        """Return `counts` and what the next step depends on besides the weights, as it is now."""
        return {
            **counts,
            "optimizer": self._optimizer.state_dict(),
            "random": _random_state(self._device),
        }

    def release(self) -> None:
        """Free the optimizer's moments, twice the size of what is trained; no step may follow."""
        self._optimizer.state.clear()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return a context for one step; held open over optimizer steps it caches stale weights."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def _check_loss(value: object) -> None:
    """Refuse what backward could not be called on, before torch does in words of its own."""
    if isinstance(value, Tensor) and value.ndim == 0 and value.requires_grad:
        return
    given = repr(value)
    if isinstance(value, Tensor):
        given = f"a tensor of shape {tuple(value.shape)}"
        given += "" if value.requires_grad else " that depends on no parameter"
    raise TrialError(
        f"a loss must return a scalar tensor that depends on the logits, but returned {given}"
    )


def _optimizer(trainable: list[nn.Parameter], training: TrainingConfig) -> torch.optim.AdamW:
    # Decay pulls weights towards zero; biases and layer norms have no reason to be near it.
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=training.learning_rate, fused=True)


def _rate_setter(
    optimizer: torch.optim.Optimizer, device: torch.device
) -> Callable[[float], object]:
    """Return what sets the learning rate of the next step, now that the optimizer has its state."""
    if device.type == "cuda":
        return rates_on_device(optimizer, device).fill_

    def set_rate(rate: float) -> None:
        for group in optimizer.param_groups:
            # A checkpoint written on a GPU says otherwise of the second.
            group["lr"], group["capturable"] = rate, False

    return set_rate


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
