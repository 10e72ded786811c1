"""One forward pass of a model on a batch, as a loss with `on_model` asks for it.

Hidden states are collected by hooks on the blocks, which exist only while the model runs. This
works for any encoder whose blocks are known (rc_core.compression._layers), whatever a compression
has put inside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from rc_core.compression._base import Batch
from rc_core.compression._layers import blocks
from rc_core.data._encoding import Encoded
from rc_core.errors import TrialError
from rc_core.feeds import feed_of
from rc_core.first_token import first_token_only
from rc_core.losses._base import AnyLoss, ModelLoss, ModelShape, Output


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return a context for one step; kept open over several, it would cache stale weights."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def shape_of(model: nn.Module) -> ModelShape:
    """Return the shape of an encoder. Raises ModelError if its blocks are not known."""
    config: Any = model.config
    return ModelShape(len(blocks(model)), int(config.hidden_size))


def sees_hidden_states(loss: AnyLoss) -> bool:
    """Tell whether a loss is shown hidden states, so that all of them have to be computed."""
    return isinstance(loss, ModelLoss) and "hidden_states" in loss.needs


class FrozenTeacher:
    """The dense reference as a loss runs it: in evaluation mode, never trained.

    Attributes:
        shape: number of layers and width of the model.
    """

    def __init__(self, model: nn.Module, encoded: Encoded | None = None) -> None:
        """Freeze the model.

        Args:
            model: already on its device.
            encoded: the training set in the teacher's own tokens; None if it reads the same tokens
                as the model that is trained.
        """
        self._model: nn.Module | None = model.eval().requires_grad_(False)
        device = next(model.parameters()).device
        self._feed = None if encoded is None else feed_of(encoded, device)
        self.shape = shape_of(model)

    @torch.no_grad()
    def output(self, batch: Batch, precision: str, *, hidden: bool) -> Output:
        """Return the teacher's output on the samples of a batch; see `run`."""
        assert self._model is not None, "a released teacher cannot run"
        inputs = batch.inputs
        if self._feed is not None:
            # Reading `rows` back from a GPU would wait for all its work, in every step.
            rows = batch.rows.numpy(force=True) if batch.host_rows is None else batch.host_rows
            inputs = self._feed.batch(rows).inputs
        with nullcontext() if hidden else first_token_only(self._model):
            return run(self._model, inputs, precision, hidden=hidden)

    def release(self) -> None:
        """Free the model and its tokens; `output` may not be called any more."""
        self._model = self._feed = None


class BatchForward:
    """Runs the trained model and the teacher on one batch; implements `losses._base.Forward`."""

    def __init__(
        self,
        model: nn.Module,
        batch: Batch,
        precision: str,
        *,
        hidden: bool,
        teacher: FrozenTeacher | None,
    ) -> None:
        """Store what is to be run; see `run` and `FrozenTeacher` for the arguments."""
        self._model, self._batch, self._precision = model, batch, precision
        self._hidden, self._teacher = hidden, teacher
        self._called = False

    def __call__(self) -> Output:
        """Run the trained model."""
        self._called = True
        return run(self._model, self._batch.inputs, self._precision, hidden=self._hidden)

    def teacher(self) -> Output:
        """Run the dense reference.

        Raises:
            TrialError: `Loss.needs` does not name "teacher_model".
        """
        if self._teacher is None:
            raise TrialError(
                "the dense reference must be asked for before training, but Loss.needs does not "
                "name 'teacher_model'; add it there"
            )
        return self._teacher.output(self._batch, self._precision, hidden=self._hidden)

    def check_called(self) -> None:
        """Raise TrialError if the model never ran: it would receive no gradients."""
        if not self._called:
            raise TrialError(
                "on_model() must call forward(), which runs the model that is trained, but it "
                "returned a loss without calling it"
            )


def run(model: nn.Module, inputs: Mapping[str, Tensor], precision: str, *, hidden: bool) -> Output:
    """Run a model once.

    Args:
        model: a sequence classifier, in the mode (training or evaluation) that is wanted.
        inputs: the batch's inputs, on the model's device.
        precision: "fp32" or "bf16"; outputs are float32 either way.
        hidden: whether to collect the hidden states.
    """
    device = next(model.parameters()).device
    mask = inputs["attention_mask"].bool()
    with autocast(device, precision), _states(model, hidden) as states:
        logits: Tensor = model(**inputs).logits
    found = tuple(each.float() for each in states) if hidden else None
    return Output(logits.float(), mask, found)


@contextmanager
def _states(model: nn.Module, wanted: bool) -> Iterator[list[Tensor]]:
    """Yield a list that the next forward pass fills with its hidden states."""
    found: list[Tensor] = []
    if not wanted:
        yield found
        return

    def enter(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        # A block that occurs in several places calls this each time; only the first input counts.
        if not found:
            found.append(given[0] if given else named["hidden_states"])

    def leave(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    layers = blocks(model)
    hooks = [layers[0].register_forward_pre_hook(enter, with_kwargs=True)]
    hooks += [each.register_forward_hook(leave) for each in dict.fromkeys(layers)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
