"""Which weights are pruned: exact counts, smallest magnitudes first, and sparsity schedules.

Sparsity is the share of zeros among the 2-D weights of the transformer blocks, in [0, 1). A weight
that is zero *is* a pruned weight: masks can always be read back from the weights, so a checkpoint
needs nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from rc_core.compression._layers import blocks
from rc_core.errors import TrialError

Scope = Literal["global", "layer"]
Schedule = Literal["cubic", "linear"]

# The bits of a nonnegative float32 order like its value; the upper half indexes a histogram.
_HALF = 16
_BUCKETS = 1 << (31 - _HALF)
_INFINITY = 0x7F80
_NOT_FINITE = (
    "weights must be finite to be pruned, but some are NaN or infinite: training diverged; lower "
    "training.learning_rate"
)


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the 2-D weights of the transformer blocks, by full name, in model order.

    Raises:
        ModelError: unsupported encoder.
    """
    inside = {id(weight) for weight in blocks(model).parameters() if weight.ndim == 2}
    return {name: weight for name, weight in model.named_parameters() if id(weight) in inside}


def prunable_places(model: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """Return where the 2-D weights of the transformer blocks are: module, name in it, weight.

    In model order. A weight shared by several modules appears once for each of them.

    Raises:
        ModelError: unsupported encoder.
    """
    return [
        (module, name, weight)
        for module in blocks(model).modules()
        for name, weight in module.named_parameters(recurse=False)
        if weight.ndim == 2
    ]


def num_zeros(tensors: Iterable[Tensor]) -> int:
    """Return how many entries are exactly zero."""
    counted = list(tensors)
    if not counted:
        return 0
    # One pass without a boolean copy, and one wait for the device instead of one per tensor.
    counts = torch.stack([torch.count_nonzero(tensor) for tensor in counted])
    return num_entries(counted) - int(counts.sum())


def num_entries(tensors: Iterable[Tensor]) -> int:
    """Return how many entries the tensors have."""
    return sum(tensor.numel() for tensor in tensors)


def sparsity(model: nn.Module) -> float:
    """Return zeros / 2-D weights of the transformer blocks, in [0, 1]. Raises ModelError."""
    weights = list(prunable_weights(model).values())
    return num_zeros(weights) / num_entries(weights)


def measure(model: nn.Module) -> dict[str, float]:
    """Return the size and sparsity of a compressed model.

    Keys: `sparsity` (blocks' 2-D weights), `total_sparsity` (zeros / all parameters, embeddings and
    biases included), `parameters`, `nonzero_parameters`, `layers`.

    Raises:
        ModelError: unsupported encoder.
    """
    parameters = list(model.parameters())
    total, zeros = num_entries(parameters), num_zeros(parameters)
    return {
        "sparsity": sparsity(model),
        "total_sparsity": zeros / total,
        "parameters": float(total),
        "nonzero_parameters": float(total - zeros),
        "layers": float(len(blocks(model))),
    }


def target_zeros(weights: Sequence[Tensor], share: float, *, scope: Scope) -> list[int]:
    """Return how many entries of each group should be zero: round(share * entries).

    A group is all the weights together ("global") or one weight matrix ("layer").

    Args:
        weights: float tensors.
        share: in [0, 1].
        scope: "global" or "layer".
    """
    sizes = [weight.numel() for weight in weights]
    return [round(share * size) for size in ([sum(sizes)] if scope == "global" else sizes)]


def magnitude_masks(weights: Sequence[Tensor], share: float, *, scope: Scope) -> list[Tensor]:
    """Return masks (1 keeps, 0 prunes) over the smallest magnitudes, one per weight, same shape.

    Exactly `target_zeros` entries are pruned per group. Among equal magnitudes, earlier entries go
    first. Entries that are zero already stay pruned, even if there are more than were asked for.

    Args:
        weights: float32 tensors.
        share: in [0, 1].
        scope: "global" or "layer".

    Raises:
        TrialError: a weight is NaN or infinite.
    """
    counts = target_zeros(weights, share, scope=scope)
    if scope == "global":
        return smallest_masks(weights, counts[0])
    return [
        smallest_masks([weight], count)[0] for weight, count in zip(weights, counts, strict=True)
    ]


def smallest_masks(weights: Sequence[Tensor], count: int) -> list[Tensor]:
    """Return masks over the `count` smallest magnitudes of all weights together.

    Ties, zeros and errors are treated as in `magnitude_masks`.

    Args:
        weights: float32 tensors of any shape.
        count: in [0, entries].
    """
    threshold = magnitude_threshold(weights, count)
    masks = [(weight.detach().abs() > threshold).to(weight.dtype) for weight in weights]
    # Zeros stay pruned, so with a threshold of zero there are no ties to break.
    excess = num_zeros(masks) - count if threshold > 0 else 0
    for weight, mask in zip(reversed(weights), reversed(masks), strict=True):
        if excess <= 0:
            break
        ties = (weight.detach().abs().flatten() == threshold).nonzero().flatten()
        restored = ties[max(len(ties) - excess, 0) :]
        mask.view(-1)[restored] = 1.0
        excess -= len(restored)
    return masks


def lowest_masks(scores: Sequence[Tensor], count: int) -> list[Tensor]:
    """Return masks (1 keeps, 0 prunes) over the `count` lowest scores, of the scores' shapes.

    Among equal scores, earlier entries go first.

    Args:
        scores: float tensors, ranked together; -inf is the lowest.
        count: in [0, entries].

    Raises:
        TrialError: a score is NaN.
    """
    flat = torch.cat([each.flatten() for each in scores])
    if bool(flat.isnan().any()):
        raise TrialError(
            "scores of weights must be numbers to be ranked, but some are NaN: training diverged; "
            "lower training.learning_rate"
        )
    mask = torch.ones_like(flat)
    if count > 0:
        threshold = flat.kthvalue(count).values
        below = flat < threshold
        mask[below] = 0.0
        ties = (flat == threshold).nonzero().flatten()
        mask[ties[: count - int(below.sum())]] = 0.0
    parts = mask.split([each.numel() for each in scores])
    return [part.view_as(each) for part, each in zip(parts, scores, strict=True)]


def ranked_masks(
    scores: Sequence[Tensor], weights: Sequence[Tensor], share: float, *, scope: Scope
) -> list[Tensor]:
    """Return masks (1 keeps, 0 prunes) over the lowest scores, one per weight, same shape.

    `target_zeros` entries are pruned per group. Weights that are zero go first, whatever their
    score; otherwise there would be more zeros than were asked for. Among equals, earlier entries go
    first.

    Args:
        scores: one tensor per weight, with as many entries, of any shape.
        weights: float tensors.
        share: in [0, 1].
        scope: what is ranked together, "global" or "layer".

    Raises:
        TrialError: a score is NaN.
    """
    zeros_first = [
        score.view_as(weight).masked_fill(weight == 0, -math.inf)
        for score, weight in zip(scores, weights, strict=True)
    ]
    counts = target_zeros(weights, share, scope=scope)
    groups = [zeros_first] if scope == "global" else [[each] for each in zeros_first]
    return [
        mask
        for group, count in zip(groups, counts, strict=True)
        for mask in lowest_masks(group, count)
    ]


def check_finite(weights: Sequence[Tensor]) -> None:
    """Raise TrialError if a weight is NaN or infinite."""
    # One wait for the device instead of one per weight.
    if not bool(torch.stack([weight.detach().isfinite().all() for weight in weights]).all()):
        raise TrialError(_NOT_FINITE)


def magnitude_threshold(weights: Sequence[Tensor], count: int) -> float:
    """Return the `count`-th smallest magnitude over all weights together; 0.0 for count 0.

    Exact, without sorting: a histogram over the leading bits finds the narrow bucket (about 1 % of
    the weights) that contains it, and only that bucket is searched.

    Args:
        weights: float32 tensors.
        count: in [0, entries].

    Raises:
        TrialError: a weight is NaN or infinite.
    """
    if not 0 <= count <= num_entries(weights):
        raise ValueError(f"count must be in [0, {num_entries(weights)}], but got {count}")
    if count == 0:
        return 0.0
    histogram = torch.zeros(_BUCKETS, dtype=torch.int64, device=weights[0].device)
    for weight in weights:
        histogram += torch.bincount(_buckets(weight), minlength=_BUCKETS)
    if int(histogram[_INFINITY:].sum()) > 0:
        raise TrialError(_NOT_FINITE)
    below = histogram.cumsum(0)
    bucket = int(torch.searchsorted(below, count))
    before = int(below[bucket - 1]) if bucket else 0
    inside = [weight.detach().flatten()[_buckets(weight) == bucket].abs() for weight in weights]
    return float(torch.cat(inside).kthvalue(count - before).values)


def schedule_share(done: float, *, schedule: Schedule) -> float:
    """Return the share of the way to the target sparsity that is covered at `done` of the ramp.

    cubic: 1 - (1 - done)^3, fast while much is redundant (Zhu and Gupta 2017, equation 1); linear:
    done.

    Args:
        done: share of the ramp, clipped to [0, 1].
        schedule: "cubic" or "linear".
    """
    done = min(max(done, 0.0), 1.0)
    return 1.0 - (1.0 - done) ** 3 if schedule == "cubic" else done


def _buckets(weight: Tensor) -> Tensor:
    """Return the upper bits of each entry's magnitude: (entries,) in [0, _BUCKETS)."""
    assert weight.dtype == torch.float32, "models are float32; lower precision is autocast"
    bits = weight.detach().contiguous().flatten().view(torch.int32)
    return (bits >> _HALF) & (_BUCKETS - 1)
