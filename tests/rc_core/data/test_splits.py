"""Stratified samples, carving id_dev, and overlap: who wins, who loses, what is counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from rc_core.data._splits import (
    carve_id_dev,
    id_dev_size,
    remove_overlap,
    shares,
    split_keys,
    stratified_sample,
)
from rc_core.data._task import Split, pair_key


def split(role: Any, texts: list[str], labels: Any = None, suite: str = "s") -> Split:
    ids = np.asarray(labels if labels is not None else np.arange(len(texts)) % 2, np.int64)
    return Split(role, suite, texts, None, ids, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("total", "weights", "expected"),
    [
        (10, [1, 1], [5, 5]),
        (10, [3, 7], [3, 7]),
        (10, [1, 1, 1], [4, 3, 3]),
        (1, [1, 1], [1, 0]),
        (0, [1, 2], [0, 0]),
        (5, [0, 1], [0, 5]),
        (7, [2, 2, 3], [2, 2, 3]),
        # Hamilton's: 4.7, 1.6, 1.58, 1.2, 0.61 and 0.31; three are left for the largest remainders.
        (10, [47, 16, 15.8, 12, 6.1, 3.1], [5, 2, 1, 1, 1, 0]),
        (3, [1.1, 1.4, 0.5], [1, 1, 1]),
        (10, [0.3, 0.7], [3, 7]),
    ],
)
def test_shares_add_up_and_are_proportional(
    total: int, weights: list[float], expected: list[int]
) -> None:
    assert shares(total, weights) == expected


@pytest.mark.parametrize(("size", "expected"), [(10, [8, 1, 1]), (3, [1, 1, 1]), (2, [2, 0, 0])])
def test_a_stratified_sample_has_every_label_that_it_has_room_for(
    size: int, expected: list[int]
) -> None:
    labels = np.repeat([0, 1, 2], [990, 5, 5])
    rows = stratified_sample(labels, size, np.random.default_rng(0))
    assert np.bincount(labels[rows], minlength=3).tolist() == expected


def test_a_stratified_sample_that_had_every_label_stays_what_it_was() -> None:
    """Digests of data, and so what was trained on it, hang on the rows."""
    labels = np.repeat([0, 1], [190, 10])
    found = stratified_sample(labels, 20, np.random.default_rng(7))
    drawn = np.random.default_rng(7)
    parts = [drawn.permutation(np.flatnonzero(labels == i))[:n] for i, n in ((0, 19), (1, 1))]
    assert found.tolist() == sorted(np.concatenate(parts).tolist())


def test_a_stratified_sample_keeps_the_labels_shares() -> None:
    labels = np.array([0] * 700 + [1] * 200 + [2] * 100)
    rows = stratified_sample(labels, 100, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [70, 20, 10]
    assert rows.tolist() == sorted(set(rows.tolist()))
    again = stratified_sample(labels, 100, np.random.default_rng(0))
    other = stratified_sample(labels, 100, np.random.default_rng(1))
    assert rows.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize(
    ("size", "expected"),
    [(100, 20), (1_000, 200), (5_000, 1_000), (10_000, 1_000), (20_000, 1_000), (40_000, 2_000)],
)
def test_id_dev_is_five_percent_or_a_thousand_but_at_most_a_fifth(size: int, expected: int) -> None:
    assert id_dev_size(size) == expected


def test_carving_is_stratified_complete_and_seeded() -> None:
    labels = [0] * 600 + [1] * 300 + [2] * 100
    train = split("train", [f"text {i}" for i in range(1_000)], labels)
    rest, id_dev = carve_id_dev(train, np.random.default_rng(0))
    assert (rest.role, id_dev.role) == ("train", "id_dev")
    assert len(id_dev) == 200
    assert np.bincount(id_dev.labels).tolist() == [120, 60, 20]
    assert Counter([*rest.first, *id_dev.first]) == Counter(train.first)
    again = carve_id_dev(train, np.random.default_rng(0))[1]
    other = carve_id_dev(train, np.random.default_rng(1))[1]
    assert again.first == id_dev.first != other.first


def test_carving_keeps_repeated_pairs_together() -> None:
    train = split("train", [f"text {i // 3}" for i in range(900)], np.zeros(900))
    rest, id_dev = carve_id_dev(train, np.random.default_rng(0))
    assert not {*split_keys(rest)} & {*split_keys(id_dev)}
    assert len(rest) + len(id_dev) == 900
    assert 180 <= len(id_dev) <= 182


@pytest.mark.parametrize("seed", range(4))
def test_a_text_that_is_repeated_very_often_does_not_become_id_dev(seed: int) -> None:
    """It took 400 of 1,000 rows out of train with it, with every other seed."""
    texts = [f"a {i}" for i in range(500)] + ["ok"] * 400 + [f"b {i}" for i in range(100)]
    train = split("train", texts, [0] * 500 + [1] * 500)
    rest, id_dev = carve_id_dev(train, np.random.default_rng(seed))
    assert np.bincount(id_dev.labels).tolist() == [100, 100]
    assert rest.first.count("ok") == 400


def test_where_all_texts_are_repeated_very_often_the_least_repeated_one_is_carved() -> None:
    texts = ["x"] * 60 + ["y"] * 40 + ["z"] * 50 + [f"a {i}" for i in range(150)] + ["only"] * 100
    train = split("train", texts, [0] * 150 + [1] * 150 + [2] * 100)
    rest, id_dev = carve_id_dev(train, np.random.default_rng(0))
    assert Counter(id_dev.labels.tolist()) == {0: 40, 1: 30}
    assert {*id_dev.first} & {*texts[:150]} == {"y"} and rest.first.count("only") == 100


def test_the_key_ignores_case_and_punctuation_but_not_where_a_text_ends() -> None:
    assert pair_key("The Cat, sat.", "Yes!") == pair_key("the cat sat", "yes")
    assert pair_key("ab", "c") != pair_key("a", "bc")
    assert pair_key("ab", None) != pair_key("a", "b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u0915\u0940", "\u0915\u093e"),
        ("C++", "C"),
        ("2 > 1", "2 < 1"),
        ("\U0001f600", "\U0001f622"),
        ("\U0001f600", ""),
    ],
)
def test_the_key_keeps_marks_and_symbols(one: str, other: str) -> None:
    assert pair_key(one, "same") != pair_key(other, "same")
    assert pair_key(f" {one}!", "same") == pair_key(one, "same")


def test_texts_of_nothing_but_punctuation_are_told_apart_by_it() -> None:
    """They were one text: a suite with `:-(` took every `...` and `:)` out of train."""
    assert pair_key(":)", None) != pair_key(":(", None)
    assert pair_key(" . . .\n", None) == pair_key("...", None)
    assert pair_key("?", "!!") != pair_key("?!", "!"), "nor where a text ends"
    splits = [split("train", [":)", "...", "a"]), split("ood_dev", [":-(", "b"])]
    assert remove_overlap(splits)[1] == {"train.s": 0, "ood_dev.s": 0}


def test_test_wins_over_dev_and_dev_over_train_and_ood_over_id() -> None:
    roles = {
        "train": ["t", "id dev", "ood dev", "id test", "ood test"],
        "id_dev": ["ID dev.", "ood dev", "id test", "ood test"],
        "ood_dev": ["OOD dev!", "id test", "ood test"],
        "id_test": ["id test", "ood test"],
        "ood_test": ["ood test"],
    }
    splits = [split(role, texts) for role, texts in roles.items()]
    kept, removed, problems = remove_overlap(splits, allow=True)
    assert problems == []
    assert {part.role: list(part.first) for part in kept} == {
        "train": ["t"],
        "id_dev": ["ID dev."],
        "ood_dev": ["OOD dev!"],
        "id_test": ["id test", "ood test"],
        "ood_test": ["ood test"],
    }
    assert removed == {"train.s": 4, "id_dev.s": 3, "ood_dev.s": 2}
    assert [part.role for part in kept] == list(roles)


def test_all_suites_of_a_role_win_over_earlier_roles() -> None:
    splits = [
        split("train", ["a", "b", "c"]),
        split("ood_dev", ["a"], suite="x"),
        split("ood_dev", ["b"], suite="y"),
    ]
    kept, removed, _ = remove_overlap(splits, allow=True)
    assert list(kept[0].first) == ["c"]
    assert removed == {"train.s": 2, "ood_dev.x": 0, "ood_dev.y": 0}


@pytest.mark.parametrize(("shared", "refused"), [(0, False), (5, False), (6, True)])
def test_more_than_five_percent_overlap_is_refused(shared: int, refused: bool) -> None:
    train = split("train", [f"text {i}" for i in range(100)])
    test = split("id_test", [f"text {i}" for i in range(shared)])
    kept, removed, problems = remove_overlap([train, test])
    assert removed == {"train.s": shared}
    assert len(kept[0]) == 100 - shared
    assert bool(problems) == refused
    if refused:
        assert "6 of 100 texts are (6.0 %): 6 in id_test.s;" in str(problems[0])
        assert "allow_overlap" in str(problems[0])
        assert remove_overlap([train, test], allow=True)[2] == []


def test_pairs_overlap_only_if_both_texts_do() -> None:
    labels = np.array([0, 1])
    train = Split("train", "s", ["a", "a"], ["x", "y"], labels, ("a", "b"))
    test = Split("ood_test", "s", ["a", "b"], ["x", "y"], labels, ("a", "b"))
    kept, removed, _ = remove_overlap([train, test], allow=True)
    assert list(kept[0].second or ()) == ["y"]
    assert removed == {"train.s": 1}
