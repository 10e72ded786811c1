"""How large a model is, measured on the model itself; exact, so it may be an objective."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rc_core.metrics._base import Metric, catalogue

if TYPE_CHECKING:
    from torch import nn

NONZERO, PACKED = "footprint/nonzero_parameters", "footprint/packed_bytes"

METRICS: dict[str, Metric] = catalogue(
    Metric("footprint/parameters", "min", "number of parameters, shared ones once"),
    Metric(NONZERO, "min", "number of parameters that are not zero"),
    Metric("footprint/encoder_sparsity", "max", "zeros / 2-D weights of the transformer blocks"),
    Metric("footprint/total_sparsity", "max", "zeros / all parameters"),
    Metric("footprint/bytes", "min", "bytes of the tensors as saved, dense; zeros count in full"),
    Metric(PACKED, "min", "bytes if zeros took none and rounded weights their bits"),
)


def footprint(
    model: nn.Module, *, packed_bits: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return every metric of `METRICS` for a model with transformer blocks.

    `footprint/bytes` is the payload of model.safetensors: parameters and persistent buffers in
    their own dtype (float32), shared ones once, without the file's header. `footprint/packed_bytes`
    is a lower bound for the parameters: 4 bytes per nonzero one, nothing for where they are; and
    for rounded ones, zeros included, their bits.

    Args:
        model: finished.
        packed_bits: name -> bits per entry, for each rounded parameter.

    Raises:
        ModelError: unsupported encoder.
    """
    # Imported late: the list of metrics has to start without torch.
    from rc_core.compression._masks import measure, num_entries, num_zeros

    measured = measure(model)
    bits = packed_bits or {}
    rounded = {name: p for name, p in model.named_parameters() if name in bits}
    whole = num_entries(rounded.values()) - num_zeros(rounded.values())
    packed = 4.0 * (measured["nonzero_parameters"] - whole)
    packed += sum(weight.numel() * bits[name] / 8 for name, weight in rounded.items())
    stored = {tensor.data_ptr(): tensor.nbytes for tensor in model.state_dict().values()}
    return {
        "footprint/parameters": measured["parameters"],
        NONZERO: measured["nonzero_parameters"],
        "footprint/encoder_sparsity": measured["sparsity"],
        "footprint/total_sparsity": measured["total_sparsity"],
        "footprint/bytes": float(sum(stored.values())),
        PACKED: packed,
    }


def packed_bytes(metrics: Mapping[str, float]) -> float:
    """Return `footprint/packed_bytes`; for older measurements, 4 bytes per nonzero parameter.

    NaN if neither was measured.
    """
    return metrics.get(PACKED, 4 * metrics.get(NONZERO, math.nan))


def has_rounded(metrics: Mapping[str, float]) -> bool:
    """Tell whether a model has rounded weights, which count by their bits."""
    return packed_bytes(metrics) < 0.999 * 4 * metrics.get(NONZERO, math.nan)
