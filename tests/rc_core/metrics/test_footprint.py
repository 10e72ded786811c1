"""Sizes measured on the model, against what is really written to disk."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rc_core import plugins
from rc_core.compression._masks import prunable_weights
from rc_core.errors import ModelError
from rc_core.metrics.footprint import METRICS, footprint, has_rounded, packed_bytes
from tests.contracts._tiny import ARCHITECTURES, tiny_model

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bytes_are_the_payload_of_the_saved_file(architecture: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    model.save_pretrained(tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    (header,) = struct.unpack("<Q", content[:8])
    found = footprint(model)
    assert found["footprint/bytes"] == len(content) - 8 - header
    tensors = json.loads(content[8 : 8 + header])
    assert {t["dtype"] for name, t in tensors.items() if name != "__metadata__"} == {"F32"}
    assert found["footprint/bytes"] == 4 * found["footprint/parameters"]


def test_zeros_are_counted_and_change_no_bytes() -> None:
    model = tiny_model("bert")
    before = footprint(model)
    with torch.no_grad():
        first = next(iter(prunable_weights(model).values()))
        first.zero_()
    after = footprint(model)
    assert before["footprint/encoder_sparsity"] == 0.0
    assert after["footprint/encoder_sparsity"] == pytest.approx(256 / 7168)
    lost = before["footprint/nonzero_parameters"] - after["footprint/nonzero_parameters"]
    assert lost == first.numel()
    assert after["footprint/total_sparsity"] == pytest.approx(
        1 - after["footprint/nonzero_parameters"] / after["footprint/parameters"]
    )
    assert after["footprint/bytes"] == before["footprint/bytes"]


def test_packed_zeros_take_nothing_and_rounded_weights_their_bits() -> None:
    model = tiny_model("bert")
    (zeroed, first), (name, second), *_ = prunable_weights(model).items()
    with torch.no_grad():
        first.zero_()
        second[0] = 0.0
    found = footprint(model)
    assert found["footprint/packed_bytes"] == 4 * found["footprint/nonzero_parameters"]
    packed = footprint(model, packed_bits={name: 5.0})["footprint/packed_bytes"]
    whole = int(torch.count_nonzero(second))
    expected = found["footprint/packed_bytes"] - 4 * whole + second.numel() * 5 / 8
    assert packed == pytest.approx(expected) and zeroed != name


def test_what_was_measured_before_packing_counts_four_bytes_for_what_is_not_zero() -> None:
    nonzero, packed = "footprint/nonzero_parameters", "footprint/packed_bytes"
    assert packed_bytes({nonzero: 1000.0}) == 4000.0
    assert packed_bytes({nonzero: 1000.0, packed: 700.0}) == 700.0
    assert math.isnan(packed_bytes({}))
    assert has_rounded({nonzero: 1000.0, packed: 3900.0})
    assert not has_rounded({nonzero: 1000.0, packed: 4000.0})
    assert not has_rounded({nonzero: 1000.0}) and not has_rounded({})


def test_shared_parameters_count_once() -> None:
    model = tiny_model("bert")
    layers = model.bert.encoder.layer
    single = footprint(model)
    layers[1].attention.self.query.weight = layers[0].attention.self.query.weight
    shared = footprint(model)
    assert single["footprint/parameters"] - shared["footprint/parameters"] == 256
    assert single["footprint/bytes"] - shared["footprint/bytes"] == 4 * 256


def test_keys_are_the_declared_metrics_and_values_are_numbers() -> None:
    found = footprint(tiny_model("distilbert"))
    assert found.keys() == METRICS.keys()
    assert all(type(value) is float for value in found.values())


def test_unsupported_encoder() -> None:
    with pytest.raises(ModelError, match="must be an encoder"):
        footprint(torch.nn.Linear(2, 2))


def test_every_metric_is_declared_under_its_name_without_torch() -> None:
    assert {"classification", "footprint", "robustness"} <= set(
        plugins.available("rc_core.metrics")
    )
    code = (
        "import sys\n"
        "from rc_core import plugins\n"
        "for family in plugins.available('rc_core.metrics'):\n"
        "    metrics = plugins.load('rc_core.metrics', family).METRICS\n"
        "    assert metrics, family\n"
        "    for name, metric in metrics.items():\n"
        "        assert metric.name == name and metric.description\n"
        "        assert metric.direction in ('max', 'min')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=ROOT)
