"""Patient distillation: `distil`, plus hidden states of the first token close to the teacher's.

L = (1 - lambda) CE(y, q) + lambda KL(p || q) + beta PT, where PT is the mean over pairs of layers
(j, k) and over samples of || s_j / ||s_j|| - t_k / ||t_k|| ||^2, with s_j and t_k the outputs of
block j of the student and block k of the teacher at the first token (Sun et al., EMNLP 2019,
equations 7 and 8). That distance is 2 - 2 cos(s_j, t_k), in [0, 4]. The paper sums over pairs and
samples; its code takes the mean, over the H entries of a state as well. So its beta is H times the
one here: the 10 to 1,000 that it searches for H = 768 are 0.013 to 1.3 here. The student's last
block has no pair, as the soft targets already reach it.

If student and teacher differ in width, s_j is first multiplied by a learned (H, H') matrix, the
same one for all pairs (Jiao et al., TinyBERT, 2020, equation 8). The teacher is the dense
reference; it runs on every batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from rc_core.losses._base import Forward, LossContext, ModelShape, Need
from rc_core.losses._soft import SoftConfig, soft_target_loss, teacher_log_probs


class Config(SoftConfig):
    """Settings of patient distillation; `lambda` and `temperature` are those of `distil`.

    Attributes:
        beta: weight of the hidden states' distance, at least 0; 0 is `distil`.
        layers: which block of a teacher of N blocks is paired with the student's block j of M:
            `skip` spreads them evenly, `last` takes the teacher's last ones (the paper's PKD-Skip
            and PKD-Last).
    """

    beta: Annotated[float, Field(ge=0.0)] = 0.1
    layers: Literal["skip", "last"] = "skip"


def layer_pairs(
    student: int, teacher: int, layers: Literal["skip", "last"]
) -> list[tuple[int, int]]:
    """Return which blocks are compared, (student's, teacher's), counted from 1.

    The student's block j = 1 ... M - 1 is compared with the teacher's block j N / M, rounded, half
    to even (`skip`), or N - M + j (`last`); in a student deeper than its teacher, with the first
    one if that is below 1. A student with a single block has it compared with the teacher's last.

    Args:
        student: M, its blocks, at least 1.
        teacher: N, its blocks, at least 1.
        layers: see `Config`.
    """
    if student == 1:
        return [(1, teacher)]
    places = range(1, student)
    if layers == "skip":
        return [(j, max(1, round(j * teacher / student))) for j in places]
    return [(j, max(1, teacher - student + j)) for j in places]


def patience(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return the mean squared distance of states normalised to length 1, over pairs and samples.

    Args:
        student: for each pair, the student's states (B, H), float32.
        teacher: for each pair, the teacher's states (B, H).

    Returns:
        Scalar float32 in [0, 4], up to rounding.
    """
    ours, theirs = (
        functional.normalize(torch.stack([*states]), dim=-1) for states in (student, teacher)
    )
    return (ours - theirs).square().sum(dim=-1).mean()


class Loss(nn.Module):
    """Distillation from the dense reference's outputs and hidden states."""

    needs: ClassVar[frozenset[Need]] = frozenset(
        {"teacher_log_probs", "teacher_model", "hidden_states"}
    )

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.projection: nn.Module = nn.Identity()
        self._pairs: list[tuple[int, int]] = []

    def rows(self, context: LossContext) -> dict[str, Tensor]:
        """Return `soft_targets`, (N, C) float32 log-probabilities; make the projection.

        Reports the pairs. Raises TrialError for NaN.
        """
        student, teacher = _shape(context.student), _shape(context.teacher)
        self._pairs = layer_pairs(student.num_layers, teacher.num_layers, self.config.layers)
        if student.hidden_size != teacher.hidden_size:
            self.projection = nn.Linear(student.hidden_size, teacher.hidden_size, bias=False)
        context.report["layer_pairs"] = [list(pair) for pair in self._pairs]
        return {"soft_targets": teacher_log_probs(context)}

    def on_model(self, forward: Forward, labels: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of a batch; labels (B,) int64."""
        config, output, teacher = self.config, forward(), forward.teacher()
        soft = soft_target_loss(
            output.logits,
            labels,
            rows["soft_targets"],
            weight=config.lambda_,
            temperature=config.temperature,
        )
        # Blocks count from 1 because hidden state 0 is the output of the embeddings.
        distance = patience(
            [self.projection(output.hidden_states[j][:, 0]) for j, _ in self._pairs],
            [teacher.hidden_states[k][:, 0] for _, k in self._pairs],
        )
        return soft + config.beta * distance


def _shape(shape: ModelShape | None) -> ModelShape:
    """Return a shape that must have been filled in."""
    if shape is None:
        raise ValueError("the context must state the shapes of student and teacher, but lacks one")
    return shape
