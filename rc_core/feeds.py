"""Batches where the model is: padded on the host, or cut on a GPU from tokens that stay there.

On a GPU, a step of a small encoder takes a few milliseconds: less than padding its batch in numpy
and copying four arrays. So all tokens of a split are copied once, and a batch is made on the GPU
from its row numbers alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rc_core.compression._base import Batch
from rc_core.data._encoding import Encoded

# Matrix products and attention kernels of GPUs are fastest at multiples of this size.
_MULTIPLE = 8


class Feed(Protocol):
    """Makes batches of one tokenised split."""

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Return the batch of some samples (at least one), in the order given."""
        ...


def feed_of(encoded: Encoded, device: torch.device) -> Feed:
    """Return the feed that suits a device."""
    return DeviceFeed(encoded, device) if device.type == "cuda" else HostFeed(encoded)


class HostFeed:
    """Pads batches in numpy, for models on the CPU."""

    def __init__(self, encoded: Encoded) -> None:
        self._encoded = encoded

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Return the batch of some samples, padded to the longest of them."""
        labels = torch.from_numpy(self._encoded.labels[rows])
        return Batch(self._encoded.collate(rows), labels, torch.from_numpy(rows), host_rows=rows)


class DeviceFeed:
    """Keeps a split's tokens on a device and cuts batches there, without waiting for the device."""

    def __init__(self, encoded: Encoded, device: torch.device) -> None:
        """Copy the split to the device: 5 bytes per token, and 16 bytes per sample."""
        self._device = device
        self._pad = encoded.pad_token_id
        self._lengths = encoded.lengths
        self._longest = int(self._lengths.max(initial=1))
        self._ids = torch.from_numpy(encoded.token_ids).to(device)
        self._offsets = torch.from_numpy(encoded.offsets).to(device)
        self._labels = torch.from_numpy(encoded.labels).to(device)
        types = encoded.token_types
        self._types = None if types is None else torch.from_numpy(types).to(device)

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Return the batch of some samples, padded to `width`."""
        batch = self.cut(to_device(rows, self._device), self.width(rows))
        return replace(batch, host_rows=rows)

    def width(self, rows: NDArray[np.int64]) -> int:
        """Return the padded length: the longest sample's, rounded up to a multiple of 8.

        It never exceeds the split's longest sample, and so never what the encoder accepts.
        """
        longest = int(self._lengths[rows].max())
        return min(-(-longest // _MULTIPLE) * _MULTIPLE, self._longest)

    def cut(self, rows: Tensor, width: int) -> Batch:
        """Return a batch made on the device, using only operations with fixed shapes.

        Args:
            rows: (B,) int64, on the device.
            width: padded length, at least the longest of these samples.
        """
        starts = self._offsets[rows]
        lengths = self._offsets[rows + 1] - starts
        columns = torch.arange(width, device=self._device)
        mask = columns[None, :] < lengths[:, None]
        # Padding positions read the sample's first token: a valid index, masked out below.
        places = starts[:, None] + torch.where(mask, columns[None, :], 0)
        inputs = {
            "input_ids": torch.where(mask, self._ids[places].long(), self._pad),
            "attention_mask": mask.long(),
        }
        if self._types is not None:
            inputs["token_type_ids"] = torch.where(mask, self._types[places].long(), 0)
        return Batch(inputs, self._labels[rows], rows)


def to_device(rows: NDArray[np.int64], device: torch.device) -> Tensor:
    """Return row numbers on a device; a copy to a GPU does not wait for it."""
    host = torch.from_numpy(rows)
    if device.type != "cuda":
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)
