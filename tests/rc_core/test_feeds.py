"""Batches cut on a device are those padded on the host, but for a width that kernels like."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rc_core.feeds import DeviceFeed, HostFeed, feed_of
from tests.rc_core._data import encoded

CPU = torch.device("cpu")


@pytest.mark.parametrize("model", ["tiny:bert", "tiny:distilbert"])
def test_both_feeds_make_the_same_batches(model: str) -> None:
    data = encoded(60, 0, model)
    host, device = HostFeed(data), DeviceFeed(data, CPU)
    for rows in (np.array([3, 41, 7]), np.array([59]), np.arange(60)):
        expected, found = host.batch(rows), device.batch(rows)
        width = expected.inputs["input_ids"].shape[1]
        assert set(found.inputs) == set(expected.inputs)
        for name, tensor in found.inputs.items():
            assert tensor.dtype == torch.int64
            assert torch.equal(tensor[:, :width], expected.inputs[name])
            padding = data.pad_token_id if name == "input_ids" else 0
            assert (tensor[:, width:] == padding).all()
        assert torch.equal(found.labels, expected.labels)
        assert torch.equal(found.rows, expected.rows)


def test_widths_are_multiples_of_8_up_to_the_longest_sample() -> None:
    data = encoded(60, 0)
    lengths, feed = data.lengths, DeviceFeed(data, CPU)
    longest = int(lengths.max())
    for row, length in enumerate(lengths):
        width = feed.width(np.array([row]))
        assert width >= length and (width % 8 == 0 or width == longest)
        assert width - length < 8


def test_the_cpu_pads_in_numpy() -> None:
    assert isinstance(feed_of(encoded(4, 0), CPU), HostFeed)
