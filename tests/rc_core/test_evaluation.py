"""What rungs see, and what a record says of a model beside its reference."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from rc_core import evaluation
from rc_core.data._encoding import Encoded
from rc_core.data._task import Split, Task
from rc_core.evaluation import (
    LogProbs,
    agreement_metrics,
    predict_splits,
    relative_metrics,
    rung_metrics,
    split_metrics,
    write_predictions,
)
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
    rung = rung_metrics(model, data, ["ood_dev"], "fp32")
    whole = split_metrics(data, ["ood_dev"], predict_splits(model, data, data.task.splits))
    assert rung["rung/ood_dev/accuracy"] == whole["ood_dev/accuracy"] == 0.75
    assert rung["rung/ood_dev/balanced_accuracy"] == whole["ood_dev/balanced_accuracy"] == 0.5


def dev(id_accuracy: float, ood_accuracy: float) -> dict[str, float]:
    return {"id_dev/accuracy": id_accuracy, "ood_dev/accuracy": ood_accuracy}


@pytest.mark.parametrize(
    ("model", "reference", "sizes", "expected", "reason"),
    [
        # (0.88 - 0.66) / 0.88 over (0.9 - 0.72) / 0.9.
        (dev(0.88, 0.66), dev(0.9, 0.72), None, 1.25, None),
        (dev(0.88, 0.66), dev(0.9, 0.72), (1000, 1000), 1.25, None),
        # A gap of 5 points; its error is sqrt(0.16 / 120 + 0.1875 / 120), 5.4 points.
        (
            dev(0.8, 0.75),
            dev(0.8, 0.75),
            (120, 120),
            None,
            "the reference's ID-OOD gap of 5.0 points is not clear of zero "
            "(standard error 5.4 points)",
        ),
        # The same where nothing is known of the sizes, and where they are large.
        (dev(0.8, 0.75), dev(0.8, 0.75), None, 1.0, None),
        (dev(0.8, 0.75), dev(0.8, 0.75), (12_000, 12_000), 1.0, None),
        (
            dev(0.8, 0.7),
            dev(0.8, 0.79),
            None,
            None,
            "the reference's ID-OOD gap is 1.0 points, below 2.0 points",
        ),
        (
            dev(0.8, 0.7),
            dev(0.9, 0.7),
            None,
            None,
            "ID accuracy is 10.0 points below the reference's, more than 3.0 points",
        ),
    ],
)
def test_relative_metrics_by_hand(
    model: dict[str, float],
    reference: dict[str, float],
    sizes: tuple[int, int] | None,
    expected: float | None,
    reason: str | None,
) -> None:
    found, undefined = relative_metrics(model, reference, "dev", sizes=sizes)
    assert set(found) == {"id_dev/difference", "ood_dev/difference", "ood_dev/relative_bias"}
    for role in ("id_dev", "ood_dev"):
        by_hand = 100 * (model[f"{role}/accuracy"] - reference[f"{role}/accuracy"])
        assert found[f"{role}/difference"] == pytest.approx(by_hand)
    if expected is None:
        assert math.isnan(found["ood_dev/relative_bias"])
        assert undefined == {"ood_dev/relative_bias": reason}
    else:
        assert found["ood_dev/relative_bias"] == pytest.approx(expected)
        assert undefined == {}


def test_relative_metrics_of_a_role_that_only_one_side_has() -> None:
    found, undefined = relative_metrics(
        {"id_test/accuracy": 0.8}, {"id_test/accuracy": 0.9, "ood_test/accuracy": 0.7}, "test"
    )
    assert found == {"id_test/difference": pytest.approx(-10.0)} and undefined == {}


def answers(*classes: int) -> LogProbs:
    """Return log-probabilities (N, 2) of a model that is fairly sure of these classes."""
    return np.log(np.where(np.eye(2)[list(classes)] == 1, 0.7, 0.3)).astype(np.float32)


def test_agreement_counts_equal_answers_by_suite_and_by_role(tmp_path: Path) -> None:
    """What is right has no part in it; a role weighs its suites by their size."""
    parts: list[tuple[str, Any, tuple[int, ...], tuple[int, ...], int | None]] = [
        # Name, role, answers of the reference, answers of the model, samples where they agree.
        ("id", "id_dev", (0, 1, 1, 0), (0, 1, 0, 0), 3),
        ("a", "ood_dev", (0, 0, 0, 0, 0, 0), (0, 0, 0, 1, 1, 1), 3),
        ("b", "ood_dev", (1, 0), (1, 0), 2),
        ("away", "id_test", (0, 1), (0, 1), None),
    ]
    splits, predictions = [], {}
    for name, role, reference, model, same in parts:
        part = replace(split(len(model), 0, role=role), suite=name)
        splits.append(part)
        predictions[part.name] = answers(*model)
        if same is not None:
            write_predictions(tmp_path / f"{part.name}.parquet", part, answers(*reference), LABELS)
    assert agreement_metrics(predictions, splits, tmp_path) == {
        "id_dev/agreement": 0.75,
        "ood_dev/agreement": pytest.approx(5 / 8),
        "ood_dev/a/agreement": 0.5,
        "ood_dev/b/agreement": 1.0,
    }
    # Of two suites one was not predicted: the role is the other one's alone.
    (tmp_path / "ood_dev.a.parquet").unlink()
    assert agreement_metrics(predictions, splits, tmp_path) == {
        "id_dev/agreement": 0.75,
        "ood_dev/agreement": 1.0,
    }


def test_agreement_of_a_role_is_over_what_its_accuracy_is(tmp_path: Path) -> None:
    kinds = ["seen", "unseen", "unseen", "seen"]
    part = replace(split(4, 0, role="ood_dev"), slices={"seen": kinds}, headline=("seen", "unseen"))
    write_predictions(tmp_path / f"{part.name}.parquet", part, answers(0, 0, 0, 0), LABELS)
    found = agreement_metrics({part.name: answers(1, 0, 0, 1)}, [part], tmp_path)
    assert found == {"ood_dev/agreement": 1.0}
