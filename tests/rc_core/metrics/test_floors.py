"""Trivial baselines, on tasks whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rc_core.data import shortcut_nli
from rc_core.data._overlap import (
    overlap,
    overlap_duplicates,
    overlap_entails,
    overlap_entails_or_neutral,
)
from rc_core.data._task import Role, Split, Task
from rc_core.metrics._floors import floors
from tests.rc_core._data import LABELS, split


def task(*others: Split) -> Task:
    return Task(name="words", label_names=LABELS, splits=(split(200, 0), *others))


def test_a_bag_of_words_solves_what_words_decide() -> None:
    found = floors(task(split(60, 1, "id_dev"), split(60, 2, "ood_dev")), ("id_dev", "ood_dev"))
    assert set(found) == {"id_dev", "ood_dev"}
    assert found["id_dev"]["bag_of_words"] == 1.0
    assert found["id_dev"]["chance"] == pytest.approx(0.5)
    assert "heuristic" not in found["id_dev"]


def test_a_bag_of_words_is_there_where_no_two_samples_share_a_word() -> None:
    """As with `task.limit: 2`: the dense reference failed for it, once it was trained."""
    train = replace(
        split(2, 0),
        first=["ant bee", "elk fox gnu"],
        second=["cow dog", "hen"],
        labels=np.array([0, 1]),
    )
    dev = replace(train, role="id_dev")
    assert floors(Task("words", LABELS, (train, dev)), ("id_dev",))["id_dev"]["bag_of_words"] == 1.0
    # Nor any two of six the same number of own words.
    words = [[f"w{i}x{j}" for j in range(5)] for i in range(6)]
    pairs = [(f"first{i}", " ".join(words[i][:i])) for i in range(6)]
    labels = [i % 2 for i in range(6)]
    assert bag(worded(pairs, labels), worded(pairs, labels, "id_dev")) >= 0.5


def worded(pairs: list[tuple[str, str]], labels: list[int], role: Role = "train") -> Split:
    return Split(
        role=role,
        suite="words",
        first=[first for first, _ in pairs],
        second=[second for _, second in pairs],
        labels=np.array(labels, dtype=np.int64),
        label_names=LABELS,
    )


def bag(train: Split, dev: Split) -> float:
    return floors(Task("words", LABELS, (train, dev)), ("id_dev",))["id_dev"]["bag_of_words"]


def test_a_bag_of_words_counts_what_the_second_text_has_of_its_own() -> None:
    """No word is met twice, and both texts have three: only how many are new tells the labels."""
    pairs, labels = [], []
    for i in range(80):
        words = [f"w{i}x{j}" for j in range(6)]
        pairs.append((" ".join(words[:3]), " ".join(words[:3] if i % 2 else words[3:])))
        labels.append(i % 2)
    train, dev = worded(pairs[:60], labels[:60]), worded(pairs[60:], labels[60:], "id_dev")
    assert bag(train, dev) == 1.0


def test_a_bag_of_words_knows_which_words_both_texts_have() -> None:
    """By each text's words alone, whether both have "not" or neither has is a coin's throw."""
    cases = [("a not", "b not", 1), ("a", "b", 1), ("a not", "b", 0), ("a", "b not", 0)] * 20
    # A word that both have in half of the pairs, so that the count of new ones says less.
    pairs = [(f"{x} {'c' * (i // 4 % 2)}", f"{y} c") for i, (x, y, _) in enumerate(cases)]
    labels = [label for _, _, label in cases]
    assert bag(worded(pairs, labels), worded(pairs, labels, "id_dev")) == 1.0


def test_a_bag_of_words_ignores_what_one_sample_alone_has() -> None:
    """Ten rare words each: those of four samples would outweigh the one that many have."""
    rare = [" ".join(f"r{i}x{j}" for j in range(10)) for i in range(40)]
    common, labels = ["early" if i % 2 else "late" for i in range(40)], [i % 2 for i in range(40)]
    train = worded([(f"{a} {b}", "") for a, b in zip(rare, common, strict=True)], labels)
    others = [" ".join(rare[(i + 1 + 2 * j) % 40] for j in range(4)) for i in range(40)]
    pairs = [(f"{a} {b}", "") for a, b in zip(others, common, strict=True)]
    assert bag(train, worded(pairs, labels, "id_dev")) == 1.0
    # Two samples are enough for a word to count.
    pairs, labels = [(f"w{i // 2}", "") for i in range(40)], [i // 2 % 2 for i in range(40)]
    assert bag(worded(pairs, labels), worded(pairs, labels, "id_dev")) == 1.0


def test_single_texts_have_a_heuristic_that_sees_an_empty_second_text() -> None:
    dev = replace(split(60, 1, "id_dev"), second=None)
    given = Task(
        "words",
        LABELS,
        (replace(split(200, 0), second=None), dev),
        heuristic=lambda first, second: LABELS[int("dog" in first or second != "")],
    )
    expected = np.mean(
        [("dog" in text) == label for text, label in zip(dev.first, dev.labels, strict=True)]
    )
    assert floors(given, ("id_dev", "ood_dev"))["id_dev"]["heuristic"] == pytest.approx(expected)


def test_majority_is_train_s_and_judged_on_the_role() -> None:
    train, dev = split(200, 0), split(60, 1, "id_dev")
    rare = replace(train, labels=np.where(np.arange(200) < 150, 1, train.labels))
    found = floors(Task("words", LABELS, (rare, dev)), ("id_dev",))
    assert found["id_dev"]["majority"] == pytest.approx((dev.labels == 1).mean())


def test_only_the_headline_counts_and_suites_weigh_by_size() -> None:
    whole, part = split(40, 1, "ood_dev"), split(20, 2, "ood_dev")
    seen = ["seen"] * 30 + ["unseen"] * 10
    whole = replace(whole, slices={"seen": seen}, headline=("seen", "unseen"))
    part = replace(part, suite="other")
    found = floors(task(whole, part), ("ood_dev",))["ood_dev"]["majority"]
    majority = int(np.bincount(split(200, 0).labels).argmax())
    labels = np.concatenate([whole.labels[30:], part.labels])
    assert found == pytest.approx((labels == majority).mean())


def test_labels_that_a_suite_merges_or_lacks() -> None:
    names = ("entailment", "neutral", "contradiction")
    train = replace(split(90, 0), labels=np.arange(90) % 3, label_names=names)
    suite = replace(
        split(30, 1, "ood_dev"),
        labels=np.arange(30) % 2,
        label_names=("entailment", "not"),
        merge={"neutral": "not", "contradiction": "not"},
    )
    lacking = replace(split(30, 1, "ood_dev"), labels=np.arange(30) % 2, label_names=names[:2])
    for given, chance in ((suite, 0.5 * (1 / 3 + 2 / 3)), (lacking, 1 / 3)):
        found = floors(Task("nli", names, (train, given)), ("ood_dev",))
        assert found["ood_dev"]["chance"] == pytest.approx(chance)


def test_shortcut_nli_has_no_way_out_by_words() -> None:
    config = shortcut_nli.Config(name="shortcut_nli", train_size=1_500, dev_size=300)
    roles: tuple[Role, ...] = ("id_dev", "ood_dev")
    found = floors(shortcut_nli.load(config), roles)
    # The rule is right in distribution but for the conflicting pairs, and says nothing outside.
    assert found["ood_dev"]["heuristic"] == 0.5 and found["id_dev"]["heuristic"] > 0.85
    assert found["ood_dev"]["bag_of_words"] < 0.8


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("The cat saw the dog.", "the dog saw", True),
        ("The cat saw the dog.", "the dogs", False),
        ("a b", "", True),
        ("", "a", False),
    ],
)
def test_overlap(first: str, second: str, expected: bool) -> None:
    assert overlap(first, second) is expected
    assert (overlap_entails(first, second) == "entailment") is expected
    assert (overlap_entails_or_neutral(first, second) == "entailment") is expected


def test_duplicates_share_all_words() -> None:
    assert overlap_duplicates("a b c", "C b A?") == "duplicate"
    assert overlap_duplicates("a b c", "a b") == "not_duplicate"
    assert overlap_duplicates("a b", "a b c") == "not_duplicate"
