"""The generated task: labels, shares, splits, determinism, and what the shortcut is worth."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rc_core.data import _nli_words as words
from rc_core.data._nli_templates import HEURISTICS, SUBCASES, Subcase
from rc_core.data._splits import split_keys
from rc_core.data._task import Split, Task
from rc_core.data.shortcut_nli import Config, load, novel_pair, overlapping_pair
from rc_core.errors import ConfigError
from rc_core.schema import validate_section

# Loaded by its path, as test modules have no package.
_spec = util.spec_from_file_location("_nli_reader", Path(__file__).with_name("_nli_reader.py"))
assert _spec is not None and _spec.loader is not None
reader = util.module_from_spec(_spec)
_spec.loader.exec_module(reader)


def make(**values: Any) -> Task:
    return load(validate_section(Config, {"name": "shortcut_nli", **values}, "task"))


@pytest.fixture(scope="module")
def task() -> Task:
    return make(seed=3)


def split_of(task: Task, name: str) -> Split:
    return next(split for split in task.splits if split.name == name)


def tokens(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def overlaps(premise: str, hypothesis: str) -> bool:
    return set(tokens(hypothesis)) <= set(tokens(premise))


def is_contiguous(premise: str, hypothesis: str) -> bool:
    return f" {' '.join(tokens(hypothesis))} " in f" {' '.join(tokens(premise))} "


def samples(split: Split) -> list[tuple[str, str, bool]]:
    assert split.second is not None
    entailed = [split.label_names[label] == "entailment" for label in split.labels]
    return list(zip(split.first, split.second, entailed, strict=True))


# --- labels


@pytest.mark.parametrize("subcase", SUBCASES, ids=lambda subcase: subcase.name)
def test_an_independent_reading_agrees_with_every_subcase(subcase: Subcase) -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        premise, hypothesis = overlapping_pair(subcase, generator)
        assert reader.entails(premise, hypothesis) == subcase.entailed, (premise, hypothesis)


@pytest.mark.parametrize(
    ("subcase", "entailed"),
    [(s, entailed) for s in SUBCASES for entailed in (True, False) if s.entailed or not entailed],
    ids=lambda value: getattr(value, "name", value),
)
def test_an_independent_reading_agrees_with_pairs_of_other_words(
    subcase: Subcase, entailed: bool
) -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        premise, hypothesis = novel_pair(subcase, entailed, generator)
        assert not overlaps(premise, hypothesis), (premise, hypothesis)
        assert reader.entails(premise, hypothesis) == entailed, (premise, hypothesis)


@pytest.mark.parametrize(
    ("premise", "hypothesis", "expected"),
    [
        ("The kings and the judge slept.", "The judge slept.", True),
        ("The kings slept or the judge cried.", "The judge cried.", False),
        ("The judge near the king slept.", "The king slept.", False),
        ("The judge who the king hired slept.", "The judge hired the king.", False),
        ("The judge was hired by the king.", "The king hired the judge.", True),
        ("The judge heard the king slept.", "The judge heard the king.", False),
        ("No kings slept.", "Kings slept.", False),
        ("The judge hired the king.", "A person employed the king.", True),
        ("The judge hired the king.", "Some people employed the king.", False),
        ("The judge slept, and if the king cried, the priest sang.", "The judge slept.", True),
        ("The judge slept, and if the king cried, the priest sang.", "The king cried.", False),
        ("The judge slept or the king cried, but the priest sang.", "The priest sang.", True),
        ("The judge slept or the king cried, but the priest sang.", "The king cried.", False),
        ("The judge never hired the king but quickly slept.", "The judge slept.", True),
        ("The judge never hired the king but quickly slept.", "The judge hired the king.", False),
        ("No kings slept but happy judges cried.", "Judges cried.", True),
        ("Happy kings slept but no judges cried.", "Judges cried.", False),
    ],
)
def test_the_reading_itself(premise: str, hypothesis: str, expected: bool) -> None:
    assert reader.entails(premise, hypothesis) == expected


@pytest.mark.parametrize("subcase", SUBCASES, ids=lambda subcase: subcase.name)
def test_each_subcase_is_of_its_heuristic(subcase: Subcase) -> None:
    generator = np.random.default_rng(1)
    for _ in range(100):
        premise, hypothesis = overlapping_pair(subcase, generator)
        assert overlaps(premise, hypothesis)
        assert is_contiguous(premise, hypothesis) == (subcase.heuristic != "lexical_overlap")


def test_no_word_implies_another_of_its_list() -> None:
    lists = [
        [entry[0] for entry in words.PEOPLE],
        [entry[1] for entry in words.PEOPLE],
        [word for word, _ in words.TRANSITIVE],
        [word for word, _ in words.INTRANSITIVE],
    ]
    flat = [word for part in lists for word in part]
    synonyms = [s for _, s in (*words.TRANSITIVE, *words.INTRANSITIVE) if s]
    synonyms += [s for entry in words.PEOPLE for s in entry[2:] if s]
    flat += synonyms + [word for part in words.WORDS.values() for word in part]
    assert [word for word, count in Counter(flat).items() if count > 1] == []


# --- shares


def test_sizes_and_roles(task: Task) -> None:
    assert {split.name: len(split) for split in task.splits} == {
        "train.shortcut_nli": 3_000,
        "id_dev.shortcut_nli": 600,
        "ood_dev.overlap": 600,
        "id_test.shortcut_nli": 1_008,
        "ood_test.overlap": 1_008,
    }
    assert task.label_names == ("entailment", "non_entailment")


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.5])
def test_the_stated_fraction_conflicts_with_the_shortcut(fraction: float) -> None:
    task = make(train_size=1_000, dev_size=200, bias_conflicting=fraction)
    assert task.bias_conflicting is not None
    overlapping = np.array([overlaps(first, second) for first, second, _ in samples(task.train)])
    entailed = task.train.labels == 0
    assert overlapping.sum() == 500
    assert (task.bias_conflicting == (overlapping & ~entailed)).all()
    assert task.bias_conflicting.sum() == round(fraction * 500)
    assert (entailed & ~overlapping).sum() == 50
    bias = Counter(task.id_dev.slices["bias"])
    assert (bias["conflicting"], bias["novel"]) == (round(fraction * 100), 100)


def test_training_holds_seen_subcases_only_and_in_equal_parts(task: Task) -> None:
    """Every seen premise structure but no other; checked on the texts of a tell-tale kind."""
    texts = [" ".join(tokens(first)) for first in task.train.first]
    assert any(" never " in text for text in texts)
    for tell in (" who ", " that ", "perhaps ", "certainly "):
        assert not any(tell in f"{text} " for text in texts), tell


def test_ood_labels_are_balanced_within_each_heuristic(task: Task) -> None:
    for name in ("ood_dev.overlap", "ood_test.overlap"):
        split = split_of(task, name)
        seen = split.slices.get("seen", ["seen"] * len(split))
        cells = Counter(zip(split.slices["heuristic"], seen, split.labels.tolist(), strict=True))
        assert len(cells) == 3 * 2 * len(set(seen))
        assert len(set(cells.values())) == 1
        assert set(split.slices["heuristic"]) == set(HEURISTICS)
        by_name = {subcase.name: subcase for subcase in SUBCASES}
        for heuristic, subcase, label in zip(
            split.slices["heuristic"], split.slices["subcase"], split.labels.tolist(), strict=True
        ):
            assert by_name[subcase].heuristic == heuristic
            assert by_name[subcase].entailed == (label == 0)


def test_some_subcases_are_in_ood_test_only_and_make_its_headline(task: Task) -> None:
    dev, test = split_of(task, "ood_dev.overlap"), split_of(task, "ood_test.overlap")
    unseen = {subcase.name for subcase in SUBCASES if not subcase.seen}
    assert not unseen & {*dev.slices["subcase"]}
    assert {*test.slices["subcase"]} == {subcase.name for subcase in SUBCASES}
    rows = test.headline_rows()
    assert rows.sum() == 504
    assert {name for name, row in zip(test.slices["subcase"], rows, strict=True) if row} == unseen


@pytest.mark.parametrize(("dev_size", "test_size"), [(60, 60), (61, 71), (100, 100)])
def test_odd_sizes_are_rounded_up_where_labels_must_balance(dev_size: int, test_size: int) -> None:
    task = make(train_size=100, dev_size=dev_size, test_size=test_size)
    sizes = {split.role: len(split) for split in task.splits}
    assert (sizes["id_dev"], sizes["id_test"]) == (dev_size, test_size)
    assert sizes["ood_dev"] == -(-dev_size // 6) * 6
    assert sizes["ood_test"] == -(-test_size // 12) * 12
    assert (
        np.bincount(split_of(task, "ood_dev.overlap").labels).tolist()
        == [sizes["ood_dev"] // 2] * 2
    )


# --- splits


def test_no_pair_is_in_two_splits_or_twice_in_one(task: Task) -> None:
    keys = [key for split in task.splits for key in split_keys(split)]
    assert len(keys) == len(set(keys)) == 6_216


def test_sentences_are_short_and_well_formed(task: Task) -> None:
    for split in task.splits:
        for first, second, _ in samples(split):
            assert 2 <= len(tokens(first)) <= 14
            assert 2 <= len(tokens(second)) <= 7
            for text in (first, second):
                assert re.fullmatch(r"[A-Z][a-z]*( [a-z]+,?)+\.", text), text


def test_vocabulary_occurs_in_singular_and_plural(task: Task) -> None:
    used = {word for first in task.train.first for word in tokens(first)}
    nouns = {word for entry in words.PEOPLE for word in entry[:2]}
    verbs = {word for word, _ in (*words.TRANSITIVE, *words.INTRANSITIVE)}
    assert nouns | verbs <= used


def test_another_train_size_leaves_the_other_splits_alone() -> None:
    small, large = make(train_size=200), make(train_size=4_000, bias_conflicting=0.3)
    for name in ("ood_dev.overlap", "ood_test.overlap"):
        assert split_of(small, name).digest() == split_of(large, name).digest()


def test_seeds_differ_and_repeat() -> None:
    digests = [make(train_size=200, seed=seed).digest() for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_another_process_generates_the_same() -> None:
    code = (
        "from rc_core.data.shortcut_nli import Config, load\n"
        "task = load(Config(name='shortcut_nli', train_size=300, seed=5))\n"
        "print(*(split.digest() for split in task.splits))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            cwd=Path(__file__).parents[3],
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    ours = " ".join(split.digest() for split in make(train_size=300, seed=5).splits)
    assert outputs == {ours}


# --- what the shortcut is worth


def test_a_control_has_the_premises_of_a_subcase_that_is_not_entailed() -> None:
    """So that words of the premise alone never tell."""
    premises = {subcase.name: {first for first, _ in subcase.templates} for subcase in SUBCASES}
    opposite = [s for s in SUBCASES if s.seen and not s.entailed]
    controls = [s for s in SUBCASES if s.control]
    assert len(controls) == len(opposite) == 4
    for control in controls:
        assert control.entailed and control.seen
        assert any(premises[control.name] & premises[other.name] for other in opposite)


def test_words_that_come_with_a_broken_shortcut_come_as_often_with_one_that_holds(
    task: Task,
) -> None:
    overlapping = [row for row in samples(task.train) if overlaps(row[0], row[1])]
    for cue in ("never", "no", "or"):
        having = [entailed for first, _, entailed in overlapping if cue in tokens(first)]
        assert 0.4 < np.mean(having) < 0.6, cue
    having = [e for first, _, e in overlapping if {"if", "unless"} & set(tokens(first))]
    assert 0.4 < np.mean(having) < 0.6


def test_overlap_alone_scores_high_in_distribution_and_half_out_of_it(task: Task) -> None:
    def accuracy(split: Split) -> float:
        right = [overlaps(first, second) == entailed for first, second, entailed in samples(split)]
        return float(np.mean(right))

    assert accuracy(task.train) == pytest.approx(0.9, abs=0.001)
    assert accuracy(split_of(task, "id_dev.shortcut_nli")) == pytest.approx(0.9, abs=0.002)
    assert accuracy(split_of(task, "id_test.shortcut_nli")) == pytest.approx(0.9, abs=0.002)
    assert accuracy(split_of(task, "ood_dev.overlap")) == 0.5
    test = split_of(task, "ood_test.overlap")
    assert accuracy(test) == 0.5
    assert accuracy(test.take(np.flatnonzero(test.headline_rows()))) == 0.5


def test_the_hypothesis_alone_says_nothing_out_of_distribution(task: Task) -> None:
    """Labels of a hypothesis-only nearest neighbour: near chance on ood_dev."""
    split = split_of(task, "ood_dev.overlap")
    shapes = [len(tokens(second)) for second in split.second or ()]
    by_shape = [split.labels[np.array(shapes) == shape].mean() for shape in set(shapes)]
    assert all(0.3 < share < 0.7 for share in by_shape)


# --- configuration


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"train_size": 10}, "task.train_size"),
        ({"train_size": 10**6}, "task.train_size"),
        ({"bias_conflicting": 0.6}, "task.bias_conflicting"),
        ({"bias_conflicting": -0.1}, "task.bias_conflicting"),
        ({"dev_size": 1}, "task.dev_size"),
        ({"seed": -1}, "task.seed"),
        ({"seed": "0"}, "task.seed"),
        ({"size": 1}, "task.size"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError, match=f"^{place}: "):
        make(**values)
