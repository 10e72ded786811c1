"""Tokenised splits: nothing lost, padding where it belongs, every row in one batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rc_core.data._encoding import (
    Encoded,
    encode,
    length_bucketed_batches,
    length_sorted_batches,
)
from rc_core.data._task import Split
from rc_core.models import load_tokenizer

ARCHITECTURES = ("bert", "roberta", "distilbert", "electra", "modernbert")
FIRST = ["abc def", "x", "one two three four five", "y z"]
SECOND = ["ghi", "a much longer second text", "two", "w"]


def pairs(*, second: bool = True) -> Split:
    labels = np.array([0, 1, 1, 0])
    return Split("train", "s", FIRST, SECOND if second else None, labels, ("a", "b"))


def one_by_one(tokenizer: Any, split: Split, rows: list[int], max_length: int) -> dict[str, Any]:
    """The reference: the tokenizer's own padding of these rows."""
    second = None if split.second is None else [split.second[i] for i in rows]
    batch = tokenizer(
        [split.first[i] for i in rows],
        second,
        padding="longest",
        truncation="longest_first",
        max_length=max_length,
        return_tensors="pt",
    )
    return dict(batch)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("second", [True, False])
@pytest.mark.parametrize("max_length", [8, 64])
def test_collated_batches_equal_the_tokenizers_own(
    architecture: str, second: bool, max_length: int
) -> None:
    tokenizer = load_tokenizer(f"tiny:{architecture}")
    split = pairs(second=second)
    encoded = encode(split, tokenizer, max_length)
    for rows in ([0, 1, 2, 3], [2, 0], [1], [3, 3]):
        ours = encoded.collate(np.array(rows))
        theirs = one_by_one(tokenizer, split, rows, max_length)
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert tensor.dtype == torch.int64
            assert torch.equal(tensor, theirs[name]), name


def test_token_types_only_where_the_tokenizer_makes_them() -> None:
    made = {
        name: "token_type_ids" in encoded.collate(np.array([0]))
        for name in ARCHITECTURES
        for encoded in [encode(pairs(), load_tokenizer(f"tiny:{name}"), 64)]
    }
    assert {name for name, there in made.items() if there} == {"bert", "electra"}


def test_types_lengths_and_labels() -> None:
    encoded = encode(pairs(), load_tokenizer("tiny:bert"), 64)
    assert encoded.token_ids.dtype == np.int32
    assert encoded.offsets.dtype == np.int64
    assert len(encoded) == 4
    # One token a character, [CLS] and two [SEP].
    expected = [
        len(f"{first}{second}".replace(" ", "")) + 3
        for first, second in zip(FIRST, SECOND, strict=True)
    ]
    assert encoded.lengths.tolist() == expected
    assert encoded.labels.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("max_length", "truncated"), [(64, 0), (25, 0), (24, 2), (12, 2), (11, 3), (6, 3)]
)
def test_truncated_samples_are_counted(max_length: int, truncated: int) -> None:
    encoded = encode(pairs(), load_tokenizer("tiny:bert"), max_length)
    assert encoded.truncated == truncated
    assert encoded.lengths.tolist() == np.minimum([12, 25, 25, 6], max_length).tolist()


def test_an_empty_split_encodes_to_nothing() -> None:
    empty = Split("train", "s", [], [], np.empty(0, np.int64), ("a", "b"))
    encoded = encode(empty, load_tokenizer("tiny:bert"), 16)
    assert len(encoded.lengths) == 0
    assert encoded.truncated == 0


def lengths(number: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng(seed).integers(3, 60, size=number)


@pytest.mark.parametrize("number", [1, 31, 32, 33, 64, 1000, 3333])
@pytest.mark.parametrize("batch_size", [1, 32])
@pytest.mark.parametrize("window", [1, 50])
def test_bucketed_batches_hold_every_row_once(number: int, batch_size: int, window: int) -> None:
    batches = length_bucketed_batches(
        lengths(number), batch_size, np.random.default_rng(0), window=window
    )
    assert sorted(np.concatenate(batches).tolist()) == list(range(number))
    assert len(batches) == -(-number // batch_size)
    assert sorted(len(batch) for batch in batches)[1:] == [batch_size] * (len(batches) - 1)
    assert all(batch.dtype == np.int64 for batch in batches)


def test_bucketed_batches_depend_on_the_generator_alone() -> None:
    def order(seed: int) -> list[list[int]]:
        generator = np.random.default_rng(seed)
        return [b.tolist() for b in length_bucketed_batches(lengths(200), 8, generator)]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_bucketing_saves_padding_and_still_mixes() -> None:
    sizes = lengths(3200)

    def padded(batches: list[Any]) -> int:
        return sum(len(batch) * int(sizes[batch].max()) for batch in batches)

    bucketed = length_bucketed_batches(sizes, 32, np.random.default_rng(0))
    plain = length_bucketed_batches(sizes, 32, np.random.default_rng(0), window=1)
    assert padded(bucketed) < 1.05 * sizes.sum()
    assert padded(plain) > 1.5 * sizes.sum()
    # Neither the lengths nor the rows come in order.
    means = [sizes[batch].mean() for batch in bucketed]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


@pytest.mark.parametrize("number", [0, 1, 500])
def test_sorted_batches_hold_every_row_once_within_the_budget(number: int) -> None:
    sizes = lengths(number)
    batches = length_sorted_batches(sizes, 256)
    rows = np.concatenate([*batches, np.empty(0, np.int64)]).astype(int)
    assert sorted(rows.tolist()) == list(range(number))
    assert sizes[rows].tolist() == sorted(sizes.tolist(), reverse=True)
    assert all(len(batch) * sizes[batch].max() <= 256 for batch in batches)
    # No batch could have taken the next row as well.
    for batch in batches[:-1]:
        assert (len(batch) + 1) * sizes[batch].max() > 256


def test_a_sample_beyond_the_budget_is_a_batch_of_its_own() -> None:
    batches = length_sorted_batches(np.array([5, 300, 300, 5]), 100)
    assert [batch.tolist() for batch in batches] == [[1], [2], [0, 3]]


def test_padding_uses_the_pad_token_and_types_of_zero() -> None:
    encoded = Encoded(
        token_ids=np.array([7, 8, 9, 7], np.int32),
        offsets=np.array([0, 3, 4]),
        labels=np.array([0, 1]),
        pad_token_id=99,
        token_types=np.array([0, 1, 1, 1], np.int8),
        truncated=0,
    )
    batch = encoded.collate(np.array([1, 0]))
    assert batch["input_ids"].tolist() == [[7, 99, 99], [7, 8, 9]]
    assert batch["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[1, 0, 0], [0, 1, 1]]
