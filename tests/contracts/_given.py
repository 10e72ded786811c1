"""What a loss is given outside of training: a context, and a forward that returns what it is told.

Every pass says the same, as without dropout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rc_core.losses._base import LossContext, ModelShape, Need, Output

SAMPLES, CLASSES, TOKENS = 20, 3, 5
STUDENT, TEACHER = ModelShape(3, 6), ModelShape(4, 8)
# What each need puts into the context, where that has another name.
FIELD_OF_NEED: Mapping[Need, str] = {"teacher_model": "teacher", "hidden_states": "student"}


def random(*shape: int, seed: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def context() -> LossContext:
    """Return a context with everything that a loss may need."""
    return LossContext(
        labels=torch.arange(SAMPLES) % CLASSES,
        teacher_log_probs=random(SAMPLES, CLASSES, seed=1).log_softmax(-1),
        difficulty=random(SAMPLES, seed=2).abs().double(),
        expert_log_probs=random(SAMPLES, CLASSES, seed=5).log_softmax(-1),
        first_stage_log_probs=random(SAMPLES, CLASSES, seed=6).log_softmax(-1),
        student=STUDENT,
        teacher=TEACHER,
        generator=torch.Generator().manual_seed(0),
    )


def states(shape: ModelShape, chosen: Tensor, *, seed: int) -> tuple[Tensor, ...]:
    """Return hidden states of some samples, always the same for one sample."""
    sizes = (SAMPLES, TOKENS, shape.hidden_size)
    return tuple(random(*sizes, seed=seed + i)[chosen] for i in range(shape.num_layers + 1))


class GivenForward:
    """A `Forward` that returns tensors; what the loss's `needs` do not name it does not have."""

    def __init__(self, loss: Any, logits: Tensor, chosen: Tensor, hidden: Sequence[Tensor]) -> None:
        self._needs, self._logits, self._chosen = loss.needs, logits, chosen
        self._hidden = hidden

    def __call__(self) -> Output:
        return self._output(self._logits, self._hidden)

    def teacher(self) -> Output:
        assert "teacher_model" in self._needs, "Loss.needs must name teacher_model"
        said = random(SAMPLES, CLASSES, seed=1)[self._chosen]
        return self._output(said, states(TEACHER, self._chosen, seed=40))

    def _output(self, logits: Tensor, hidden: Sequence[Tensor]) -> Output:
        mask = torch.ones(len(logits), TOKENS, dtype=torch.bool)
        return Output(logits, mask, tuple(hidden) if "hidden_states" in self._needs else None)


def on_batch(
    loss: Any,
    rows: Mapping[str, Tensor],
    logits: Tensor,
    chosen: Tensor,
    hidden: Sequence[Tensor] | None = None,
) -> Tensor:
    """Return a loss of either kind of some samples.

    Args:
        rows: what its `rows` returned.
        logits: (B, C) of the samples.
        chosen: (B,) which they are.
        hidden: their states in the student; by default random ones.
    """
    picked = {key: value[chosen] for key, value in rows.items()}
    labels = context().labels[chosen]
    if not hasattr(loss, "on_model"):
        found: Tensor = loss(logits, labels, picked)
        return found
    hidden = states(STUDENT, chosen, seed=20) if hidden is None else hidden
    found = loss.on_model(GivenForward(loss, logits.float(), chosen, hidden), labels, picked)
    return found


def own_parameters(loss: Any) -> list[torch.nn.Parameter]:
    """Return what of a loss itself is trained."""
    return [*loss.parameters()] if isinstance(loss, torch.nn.Module) else []
