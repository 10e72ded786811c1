"""How large a model is, measured on the model itself; exact, so it may be an objective."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rc_core.metrics._base import Metric, catalogue

if TYPE_CHECKING:
    from torch import nn

METRICS: dict[str, Metric] = catalogue(
    Metric("footprint/parameters", "min", "number of parameters, shared ones once"),
    Metric("footprint/nonzero_parameters", "min", "number of parameters that are not zero"),
    Metric("footprint/encoder_sparsity", "max", "zeros / 2-D weights of the transformer blocks"),
    Metric("footprint/total_sparsity", "max", "zeros / all parameters"),
    Metric("footprint/bytes", "min", "bytes of the tensors as saved, dense; zeros count in full"),
)


def footprint(model: nn.Module) -> dict[str, float]:
    """Return every metric of `METRICS` for a model with transformer blocks.

    `footprint/bytes` is the payload of model.safetensors: parameters and persistent buffers in
    their own type (float32), shared ones once, without the file's header.

    Raises:
        ModelError: unsupported encoder.
    """
    # Imported late: the list of metrics has to start without torch.
    from rc_core.compression._masks import measure

    measured = measure(model)
    stored = {tensor.data_ptr(): tensor.nbytes for tensor in model.state_dict().values()}
    return {
        "footprint/parameters": measured["parameters"],
        "footprint/nonzero_parameters": measured["nonzero_parameters"],
        "footprint/encoder_sparsity": measured["sparsity"],
        "footprint/total_sparsity": measured["total_sparsity"],
        "footprint/bytes": float(sum(stored.values())),
    }
