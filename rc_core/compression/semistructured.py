"""N:M pruning, 2:4 by default: of every M consecutive weights of a row at most N stay.

Groups lie along the input dimension, as NVIDIA's sparse tensor cores require for 2 of 4 (Mishra et
al. 2021, Accelerating Sparse Deep Neural Networks) and as `torch.sparse.to_sparse_semi_structured`
expects. Other N and M: Zhou et al. 2021, Learning N:M Fine-Grained Structured Sparse Neural
Networks.

Here the pattern grows during training, as in magnitude pruning, and what is pruned stays pruned.
Zhou et al. let weights come back (SR-STE); Mishra et al. prune a trained network once and train it
again (`init: teacher`, `num_prunings: 1` and a short `ramp` come close to that). Not in Du et al.
2023.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from rc_core.compression._base import CompressionContext
from rc_core.compression._gradual import Gradual, scheduled
from rc_core.compression._masks import (
    check_finite,
    measure,
    num_entries,
    prunable_weights,
    smallest_masks,
    target_zeros,
)
from rc_core.config import CompressionConfig
from rc_core.errors import ModelError, Problem, TrialError
from rc_core.model_facts import ModelFacts

_MOST = 16


class Config(CompressionConfig):
    """Which pattern, and when it is reached.

    Attributes:
        nonzero: N, the most weights of a group that stay, 1 to `of` - 1; the sparsity is 1 -
            nonzero / of.
        of: M, number of consecutive weights of a row that form a group, 2 to 16. It must divide the
            rows of all matrices of the blocks.
        schedule: how sparsity grows: `cubic` (fast first) or `linear`.
        ramp: share of the steps at which every group holds the pattern, in (0, 1]; the rest is
            recovery.
        num_prunings: number of equal parts of the ramp; at the end of each, weights are removed.
    """

    nonzero: Annotated[int, Field(ge=1, lt=_MOST)] = 2
    of: Annotated[int, Field(ge=2, le=_MOST)] = 4
    schedule: Literal["cubic", "linear"] = "cubic"
    ramp: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    num_prunings: Annotated[int, Field(ge=1)] = 20

    @field_validator("of")
    @classmethod
    def _above_nonzero(cls, of: int, info: ValidationInfo) -> int:
        nonzero = info.data.get("nonzero")
        if nonzero is not None and of <= nonzero:
            raise ValueError(f"must be above compression.nonzero, which is {nonzero}")
        return of

    @property
    def sparsity(self) -> float:
        """Share of the blocks' 2-D weights that end as zero, in (0, 1)."""
        return (self.of - self.nonzero) / self.of

    def label(self) -> str:
        """Return `semistructured-2:4`, followed by whatever else differs from the defaults."""
        parts = self.label_parts(leave_out=["nonzero", "of"])
        return " ".join([f"{self.name}-{self.nonzero}:{self.of}", *parts])


def problems(config: Config, facts: ModelFacts) -> list[Problem]:
    """Return what is wrong with `config` for an encoder: rows that are not whole groups."""
    wrong = [str(width) for width in facts.widths if width % config.of]
    if not wrong:
        return []
    rows = f"this encoder's matrices have rows of {' and '.join(wrong)} weights"
    return [Problem("compression.of", _refusal(config, rows, facts.widths))]


def goes(weight: Tensor, *, nonzero: int, of: int) -> Tensor:
    """Return which entries the pattern removes: the `of - nonzero` smallest of every group.

    Among equal magnitudes, the earlier goes first, as in `magnitude_masks`.

    Args:
        weight: (rows, columns), float, no NaN; `of` divides the columns.
        nonzero: N, in [1, of).
        of: M.

    Returns:
        (rows, columns) bool, true for `of - nonzero` of every group.
    """
    # (M, groups). Ranking by comparison is three times as fast on a CPU as sorting such short rows.
    entries = weight.detach().abs().reshape(-1, of).t().contiguous()
    rank = torch.zeros(entries.shape, dtype=torch.int8, device=weight.device)
    for i in range(of - 1):
        first = entries[i] <= entries[i + 1 :]
        rank[i + 1 :] += first
        rank[i] += of - 1 - i - first.sum(dim=0, dtype=torch.int8)
    return (rank < of - nonzero).t().reshape(weight.shape)


def pattern_masks(
    weights: Sequence[Tensor], share: float, *, nonzero: int, of: int
) -> list[Tensor]:
    """Return masks (1 keeps, 0 prunes) on the way to the pattern, one per weight, same shape.

    round(share * entries) weights are pruned: the smallest magnitudes of all matrices together, but
    only among those that `goes` names now, so that no group loses more than the pattern removes
    from it. Among equal magnitudes, earlier entries go first. A weight that is zero is the smallest
    of its group, so it stays pruned (even if that is more than the pattern, or than was asked for).

    Args:
        weights: float32, (rows, columns) each; `of` divides the columns.
        share: in [0, 1 - nonzero / of]; at the upper end every group holds the pattern.
        nonzero: N, in [1, of).
        of: M.

    Raises:
        TrialError: a weight is NaN or infinite.
    """
    check_finite(weights)
    places = [goes(weight, nonzero=nonzero, of=of) for weight in weights]
    candidates = [w.detach()[place] for w, place in zip(weights, places, strict=True)]
    count = target_zeros(weights, share, scope="global")[0]
    masks = []
    for weight, place, kept in zip(weights, places, smallest_masks(candidates, count), strict=True):
        mask = (weight.detach() != 0).to(weight.dtype)
        mask[place] = kept
        masks.append(mask)
    return masks


def num_in_pattern(weight: Tensor, *, nonzero: int, of: int) -> int:
    """Return how many groups of a (rows, columns) weight have at most `nonzero` nonzero entries."""
    held = (weight.detach().reshape(-1, of) != 0).sum(dim=1) <= nonzero
    return int(held.sum())


class Compression(Gradual):
    """Removes the smallest weights of each group, until every group holds the pattern."""

    recordable: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(scheduled(config, config.sparsity))

    def prepare(self, model: nn.Module, context: CompressionContext) -> nn.Module:
        """Freeze the embeddings and return the model; weights that are zero stay zero.

        Rows that are not whole groups are rejected: no GPU takes a shorter group at the end of a
        row. MiniLM's rows have 384 and 1536 weights, BERT's 768 and 3072.

        Raises:
            ModelError: unsupported encoder, or rows that `of` does not divide.
            TrialError: more weights of a group are zero already than the pattern removes.
        """
        weights = prunable_weights(model)
        for name, weight in weights.items():
            if weight.shape[1] % self.config.of:
                rows = f"those of {name} have {weight.shape[1]} weights"
                widths = {each.shape[1] for each in weights.values()}
                raise ModelError(
                    Problem("compression.of", _refusal(self.config, rows, sorted(widths)))
                )
        return super().prepare(model, context)

    def finalize(self, model: nn.Module) -> nn.Module:
        """Return the model with its pruned weights at zero and nothing attached to it.

        Raises:
            TrialError: the measured sparsity differs from the pattern's by more than one weight, or
                a group does not hold the pattern.
        """
        model = super().finalize(model)
        share = self._share(model)
        if share < 1:
            raise TrialError(
                f"of every {self.config.of} consecutive weights of a row at most "
                f"{self.config.nonzero} may be nonzero ({self._asked_as()}), but {1 - share:.2%} "
                "of the groups have more; resume only from a checkpoint of this same compression"
            )
        return model

    def stock_note(self) -> str:
        """Return what a user of the stock form has to know."""
        nonzero, of = self.config.nonzero, self.config.of
        stored = (
            f"At most {nonzero} of {of} consecutive weights in a row of the blocks' matrices are "
            "not zero, but all are stored: this form is not smaller than the dense one, nor faster "
            "as it is."
        )
        if not _is_two_of_four(nonzero, of):
            return (
                f"{stored} The sparse tensor cores of NVIDIA's GPUs take 2 of 4, which this is not."
            )
        pattern = "This is" if (nonzero, of) == (2, 4) else "It holds 2 of 4 too,"
        return (
            f"{stored} {pattern} the pattern of the sparse tensor cores of NVIDIA's GPUs "
            "(compute capability 8.0 and above), for weights in fp16, bf16 or int8: "
            "`torch.sparse.to_sparse_semi_structured` packs a matrix for them, TensorRT has a flag "
            "for it. What that saves was not measured here."
        )

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Return sparsity and the share of groups that hold the pattern, asked for and measured."""
        return {
            "asked": {"sparsity": self.config.sparsity, "in_pattern": 1.0},
            "measured": {**measure(model), "in_pattern": self._share(model)},
        }

    def _masks_at(self, weights: Sequence[Tensor], share: float) -> list[Tensor]:
        return pattern_masks(weights, share, nonzero=self.config.nonzero, of=self.config.of)

    def _asked_as(self) -> str:
        return f"compression.nonzero {self.config.nonzero}, compression.of {self.config.of}"

    def _check_start(self, named: Mapping[str, Tensor]) -> None:
        """Raise TrialError if a group has more zeros at the start than the pattern removes."""
        gone = self.config.of - self.config.nonzero
        for name, weight in named.items():
            groups = weight.numel() // self.config.of
            # Counts zeros: they are the nonzero entries of this mask.
            held = num_in_pattern((weight == 0).to(weight.dtype), nonzero=gone, of=self.config.of)
            if held < groups:
                raise TrialError(
                    f"of every {self.config.of} consecutive weights of a row at most {gone} may be "
                    f"zero at the start ({self._asked_as()}), as zeros stay, but {groups - held} "
                    f"of the {groups} groups of {name} have more; lower compression.nonzero, or "
                    "start from a dense model"
                )

    def _share(self, model: nn.Module) -> float:
        """Return the share of groups that hold the pattern, in [0, 1]."""
        nonzero, of = self.config.nonzero, self.config.of
        weights = list(prunable_weights(model).values())
        held = sum(num_in_pattern(weight, nonzero=nonzero, of=of) for weight in weights)
        return held / (num_entries(weights) // of)


def _refusal(config: Config, rows: str, widths: Iterable[int]) -> str:
    """Return why `of` does not fit the rows, and which values would.

    Args:
        config: of the compression.
        rows: the rows that it does not fit, for the message.
        widths: lengths of all rows.
    """
    lengths = list(widths)
    fitting = [
        str(of)
        for of in range(config.nonzero + 1, _MOST + 1)
        if all(length % of == 0 for length in lengths)
    ]
    advice = f"take {' or '.join(fitting)}" if fitting else "take another encoder"
    return (
        "must divide the rows of all matrices of the blocks into whole groups, but "
        f"{rows}, and it is {config.of}; {advice}"
    )


def _is_two_of_four(nonzero: int, of: int) -> bool:
    """Tell whether 2 of 4 holds wherever `nonzero` of `of` does."""
    # With N = 1, four aligned weights touch at most two groups, which have one nonzero each.
    return nonzero == 1 or (nonzero == 2 and of % 4 == 0)
