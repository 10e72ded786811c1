"""What is said of the dense reference before the first trial."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from rc_core.config import decode
from sweeps.config import SweepConfig
from sweeps.engine.health_gate import Judged, report_health


def test_cut_texts_are_told_with_the_limit_at_which_they_were_cut() -> None:
    config = decode({"model": "tiny:bert", "training": {"max_length": 512}})
    sweep = cast(SweepConfig, SimpleNamespace(reference=lambda: config))
    data = {"max_length": 128, "positions": 128, "train.a": {"samples": 10, "truncated": 5}}
    said: list[str] = []
    report_health(sweep, Judged({}, {}, data, 0.5), said.append)
    assert said[1:] == [
        "note: 50 % of the samples of train.a are longer than 128 tokens, which the encoder takes "
        "at most, and are cut; take an encoder with more positions if what is lost matters"
    ]
