"""Accuracy and calibration, with and without merged labels, against scikit-learn and loops."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from rc_core.data._task import Split
from rc_core.metrics.classification import (
    METRICS,
    balanced_accuracy,
    calibration_error,
    collapsed_confidences,
    collapsed_predictions,
    evaluate,
    role_metrics,
)

# What is answered where that is right and where it is not: 30 samples of one suite, 10 of another.
_BY_SUITE = (np.array(["e"] * 30 + ["n"] * 10), np.array(["n"] * 30 + ["e"] * 10))
NLI = ("entailment", "neutral", "contradiction")
HANS_MERGE = {"neutral": "non-entailment", "contradiction": "non-entailment"}
P = np.array([[0.4, 0.3, 0.3], [0.1, 0.5, 0.4], [0.2, 0.2, 0.6], [0.6, 0.3, 0.1]])


def split_of(labels: list[int], **values: Any) -> Split:
    given: dict[str, Any] = {
        "role": "ood_dev",
        "suite": "hans",
        "first": ["a"] * len(labels),
        "second": None,
        "labels": np.array(labels, dtype=np.int64),
        "label_names": ("entailment", "non-entailment"),
        "merge": HANS_MERGE,
    }
    return Split(**(given | values))


def random_log_probs(size: int, *, seed: int = 0, classes: int = 3) -> Any:
    return np.log(np.random.default_rng(seed).dirichlet([0.5] * classes, size=size))


def reference_calibration(confidences: Any, correct: Any) -> float:
    """Guo et al. 2017, bin by bin."""
    total = 0.0
    for b in range(15):
        low, high = b / 15, (b + 1) / 15
        inside = [i for i, c in enumerate(confidences) if low < c <= high or (b == 0 and c == 0)]
        if inside:
            share_right = sum(bool(correct[i]) for i in inside) / len(inside)
            confidence = sum(float(confidences[i]) for i in inside) / len(inside)
            total += len(inside) / len(confidences) * abs(share_right - confidence)
    return total


def test_argmax_comes_before_the_merge() -> None:
    # Row 0: entailment is likeliest of three, though non-entailment has 0.6 in sum (McCoy et al.).
    collapse = np.array([0, 1, 1])
    assert collapsed_predictions(np.log(P), collapse).tolist() == [0, 1, 1, 0]
    np.testing.assert_allclose(collapsed_confidences(np.log(P), collapse), [0.4, 0.9, 0.8, 0.6])


def test_label_nothing_stands_for_is_always_wrong() -> None:
    # FEVER's symmetric sets know no NOT ENOUGH INFO (the second label here).
    split = split_of([0, 1, 1, 0], label_names=("entailment", "contradiction"), merge={})
    collapse = split.collapse(NLI)
    assert collapse.tolist() == [0, -1, 1]
    assert collapsed_predictions(np.log(P), collapse).tolist() == [0, -1, 1, 0]
    np.testing.assert_allclose(collapsed_confidences(np.log(P), collapse), [0.4, 0.5, 0.6, 0.6])
    assert evaluate(split, np.log(P), NLI)["hans/accuracy"] == 0.75


def test_labels_may_stand_in_another_order() -> None:
    split = split_of([1, 0], label_names=("contradiction", "entailment"), merge={})
    assert evaluate(split, np.log(P[[0, 2]]), NLI)["hans/accuracy"] == 1.0


def test_ties_go_to_the_first_label() -> None:
    assert collapsed_predictions(np.log(np.full((1, 3), 1 / 3)), np.array([0, 1, 2])).tolist() == [
        0
    ]


@pytest.mark.parametrize("classes", [1, 2, 3, 7])
def test_calibration_error_equals_the_loop(classes: int) -> None:
    log_probs = random_log_probs(400, seed=classes, classes=classes)
    collapse = np.arange(classes)
    confidences = collapsed_confidences(log_probs, collapse)
    correct = collapsed_predictions(log_probs, collapse) == np.arange(400) % classes
    expected = reference_calibration(confidences, correct)
    assert calibration_error(confidences, correct) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("confidences", "correct", "expected"),
    [
        ([1.0, 1.0], [True, True], 0.0),
        ([1.0, 1.0], [False, False], 1.0),
        ([0.5, 0.5], [True, False], 0.0),
        ([0.0], [True], 1.0),
        ([0.2, 0.25], [True, False], (0.8 + 0.25) / 2),  # 3/15 belongs to the lower bin
        ([0.9, 0.91, 0.1], [True, True, True], (0.1 + 0.09 + 0.9) / 3),
    ],
)
def test_calibration_edges(confidences: list[float], correct: list[bool], expected: float) -> None:
    found = calibration_error(np.array(confidences), np.array(correct))
    assert found == pytest.approx(expected, abs=1e-12)
    assert found == pytest.approx(reference_calibration(confidences, correct), abs=1e-12)


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_balanced_accuracy_is_scikit_learn_s(classes: int) -> None:
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, rng.integers(1, 5, 300) % classes + 1)
    answers = np.where(rng.random(300) < 0.6, labels, rng.integers(0, classes, 300))
    found = balanced_accuracy(answers == labels, labels)
    with warnings.catch_warnings():
        # Answers that no sample has as its label.
        warnings.simplefilter("ignore")
        assert found == pytest.approx(balanced_accuracy_score(labels, answers), abs=1e-12)


def test_one_label_for_all_is_balanced_chance() -> None:
    labels = np.array([0] * 90 + [1] * 9 + [2])
    assert balanced_accuracy(labels == 0, labels) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="the same length and not be empty"):
        balanced_accuracy(np.array([], dtype=bool), np.array([]))


def test_calibration_of_nothing() -> None:
    with pytest.raises(ValueError, match="not be empty"):
        calibration_error(np.array([]), np.array([], dtype=bool))


def test_float32_sums_above_one_stay_in_the_last_bin() -> None:
    log_probs = np.array([[1e-7, -20.0]], dtype=np.float32)
    assert collapsed_confidences(log_probs, np.array([0, 1])).tolist() == [1.0]


def test_evaluate_reports_slices() -> None:
    split = split_of(
        [0, 1, 0, 0],
        slices={"subcase": ["ce_a", "ce_a", "sn/b", "sn/b"], "seen": ["seen", "unseen"] * 2},
    )
    found = evaluate(split, np.log(P), NLI)
    confidences = collapsed_confidences(np.log(P), np.array([0, 1, 1]))
    expected_error = reference_calibration(confidences, [True, True, False, True])
    assert found.pop("hans/calibration_error") == pytest.approx(expected_error)
    # Recall of entailment 2 of 3, of the one other sample 1.
    assert found.pop("hans/balanced_accuracy") == pytest.approx((2 / 3 + 1) / 2)
    assert found == {
        "hans/accuracy": 0.75,
        "hans/subcase.ce_a/accuracy": 1.0,
        "hans/subcase.sn_b/accuracy": 0.5,
        "hans/seen.seen/accuracy": 0.5,
        "hans/seen.unseen/accuracy": 1.0,
    }


def test_role_accuracy_is_over_the_union_of_its_suites() -> None:
    # Paper: FEVER Sym1 and Sym2, PAWS-wiki and PAWS-qqp weigh by their size.
    large, small = split_of([0] * 30, suite="wiki"), split_of([1] * 10, suite="qqp")
    scores = [random_log_probs(30, seed=3), random_log_probs(10, seed=4)]
    found = role_metrics("ood_dev", [(large, scores[0]), (small, scores[1])], NLI)
    right = [(s.argmax(1) == 0).sum() for s in scores]
    right[1] = 10 - right[1]
    assert found["ood_dev/wiki/accuracy"] == right[0] / 30
    assert found["ood_dev/qqp/accuracy"] == right[1] / 10
    assert found["ood_dev/accuracy"] == pytest.approx(sum(right) / 40)
    collapse = np.array([0, 1, 1])
    confidences = np.concatenate([collapsed_confidences(s, collapse) for s in scores])
    correct = np.concatenate([scores[0].argmax(1) == 0, scores[1].argmax(1) != 0])
    expected = reference_calibration(confidences, correct)
    assert found["ood_dev/calibration_error"] == pytest.approx(expected)
    assert set(found) == {
        f"ood_dev/{suite}{metric}"
        for suite in ("", "wiki/", "qqp/")
        for metric in ("accuracy", "balanced_accuracy", "calibration_error")
    }
    assert {"accuracy", "balanced_accuracy", "calibration_error"} < set(METRICS)
    expected = balanced_accuracy_score(["e"] * 30 + ["n"] * 10, np.where(correct, *_BY_SUITE))
    assert found["ood_dev/balanced_accuracy"] == pytest.approx(expected)


def test_labels_that_a_suite_lacks_are_masked_and_counted() -> None:
    # FEVER's symmetric sets know no NOT ENOUGH INFO.
    names = ("SUPPORTS", "NOT ENOUGH INFO", "REFUTES")
    split = Split(
        role="ood_dev",
        suite="symmetric",
        first=["a"] * 4,
        second=["b"] * 4,
        labels=np.array([0, 1, 0, 1]),
        label_names=("SUPPORTS", "REFUTES"),
    )
    probabilities = np.array(
        [[0.6, 0.3, 0.1], [0.1, 0.8, 0.1001], [0.1, 0.7, 0.2], [0.5, 0.1, 0.4]], dtype=np.float32
    )
    found = role_metrics("ood_dev", [(split, np.log(probabilities))], names)
    assert found["ood_dev/accuracy"] == 0.25
    assert found["ood_dev/outside_share"] == 0.5 == found["ood_dev/symmetric/outside_share"]
    # Masked: SUPPORTS, REFUTES, REFUTES, SUPPORTS.
    assert found["ood_dev/masked_accuracy"] == 0.5 == found["ood_dev/symmetric/masked_accuracy"]
    # Another suite of the role knows every label, so that it is the same masked: 1 of 2 right.
    whole = replace(
        split,
        suite="dev",
        first=["a"] * 2,
        second=["b"] * 2,
        labels=np.array([0, 2]),
        label_names=names,
    )
    more = probabilities[:2]
    one = replace(split, labels=np.array([0, 1, 1, 0]))
    found = role_metrics("ood_dev", [(whole, np.log(more)), (one, np.log(probabilities))], names)
    # The second of the two is answered NOT ENOUGH INFO, which is wrong there, and not outside.
    assert found["ood_dev/symmetric/masked_accuracy"] == 1.0
    assert found["ood_dev/masked_accuracy"] == pytest.approx((1 + 4) / 6)
    assert found["ood_dev/outside_share"] == pytest.approx(2 / 6)
    assert "ood_dev/dev/masked_accuracy" not in found


def test_one_sample_is_enough() -> None:
    found = role_metrics("ood_dev", [(split_of([0]), np.log(P[:1]))], NLI)
    assert found["ood_dev/accuracy"] == found["ood_dev/hans/accuracy"] == 1.0
    assert found["ood_dev/calibration_error"] == pytest.approx(0.6)


def test_only_a_split_s_headline_counts_for_its_role() -> None:
    base = split_of([0] * 6, suite="hans")
    seen = ["seen"] * 4 + ["unseen"] * 2
    split = replace(base, slices={"seen": seen}, headline=("seen", "unseen"))
    scores = np.log(np.full((6, 3), 0.2, dtype=np.float32))
    scores[:5, 0] = np.log(0.6)
    scores[5, 1] = np.log(0.6)
    found = role_metrics("ood_dev", [(split, scores)], NLI)
    assert found["ood_dev/accuracy"] == 0.5
    assert found["ood_dev/hans/accuracy"] == pytest.approx(5 / 6)
    assert found["ood_dev/hans/seen.unseen/accuracy"] == 0.5


def test_role_has_to_fit() -> None:
    split = split_of([0, 1])
    with pytest.raises(ValueError, match="must be of role id_dev"):
        role_metrics("id_dev", [(split, random_log_probs(2))], NLI)
    with pytest.raises(ValueError, match="at least one"):
        role_metrics("id_dev", [], NLI)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_diverged_model_is_an_error(bad: float) -> None:
    log_probs = random_log_probs(4)
    log_probs[2, 1] = bad
    with pytest.raises(ValueError, match="1 of 4 rows hold NaN or \\+inf: the model diverged"):
        evaluate(split_of([0, 1, 0, 1]), log_probs, NLI)
    log_probs[2, 2] = bad
    with pytest.raises(ValueError, match="1 of 4 rows"):
        evaluate(split_of([0, 1, 0, 1]), log_probs, NLI)


def test_probability_of_zero_is_fine() -> None:
    log_probs = np.array([[0.0, -np.inf, -np.inf], [-np.inf, 0.0, -np.inf]])
    found = evaluate(split_of([0, 1]), log_probs, NLI)
    assert found == {
        "hans/accuracy": 1.0,
        "hans/balanced_accuracy": 1.0,
        "hans/calibration_error": 0.0,
    }


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (4,), (4, 3, 1)])
def test_scores_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(4, 3\)"):
        evaluate(split_of([0, 1, 0, 1]), np.zeros(shape), NLI)


def test_collapse_of_another_length() -> None:
    with pytest.raises(ValueError, match="collapse"):
        collapsed_predictions(np.log(P), np.array([0, 1]))


def test_a_weighed_sample_stands_for_so_many_in_the_balanced_accuracy() -> None:
    correct, labels = np.array([True, False, True, False]), np.array(["a", "a", "b", "b"])
    weights = np.array([3.0, 1.0, 1.0, 1.0])
    repeated = np.repeat(np.arange(4), weights.astype(int))
    assert balanced_accuracy(correct, labels, weights) == balanced_accuracy(
        correct[repeated], labels[repeated]
    )
    assert balanced_accuracy(correct, labels, weights) == pytest.approx((0.75 + 0.5) / 2)
