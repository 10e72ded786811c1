"""What rungs see: an estimate of the figure that the whole splits give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from rc_core import evaluation
from rc_core.data._encoding import Encoded
from rc_core.data._task import Split, Task
from rc_core.evaluation import predict_splits, rung_metrics, split_metrics
from rc_core.models import load_tokenizer
from rc_core.workspace import RUNG_SAMPLES, TaskData
from tests.rc_core._data import LABELS, split


def suite(name: str, size: int, label: int) -> Split:
    base = split(size, 0, role="ood_dev")
    return replace(base, suite=name, labels=np.full(size, label, np.int64))


def test_at_a_rung_suites_weigh_by_their_full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that always answers the first label is right on one suite and wrong on the other."""

    def predict(model: nn.Module, encoded: Encoded, *, precision: str = "fp32") -> np.ndarray:
        return np.log(np.tile(np.array([0.9, 0.1], np.float32), (len(encoded.labels), 1)))

    monkeypatch.setattr(evaluation, "predict", predict)
    large = suite("large", 3 * RUNG_SAMPLES, 0)
    # Of its rows only a third is the headline: as many as are in a sample.
    kinds = {"seen": ["seen", "seen", "unseen"] * RUNG_SAMPLES}
    part = replace(suite("part", 3 * RUNG_SAMPLES, 1), slices=kinds, headline=("seen", "unseen"))
    data = TaskData(Task("words", LABELS, (large, part)), load_tokenizer("tiny:bert"), 64)
    model = nn.Module()
    rung = rung_metrics(model, data, ["ood_dev"], "fp32")["rung/ood_dev/accuracy"]
    whole = split_metrics(data, ["ood_dev"], predict_splits(model, data, data.task.splits))
    assert rung == whole["ood_dev/accuracy"] == 0.75
