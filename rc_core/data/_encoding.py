"""Tokenised splits: flat arrays, padded per batch; batches of similar lengths.

A sample is never padded beyond the longest of its batch, and nothing here loops over tokens in
Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rc_core.data._task import Split

# Number of texts given to the tokenizer at a time, which bounds the memory it takes.
_CHUNK = 4_096


@dataclass(frozen=True)
class Encoded:
    """The tokens of N samples, one after another.

    Attributes:
        token_ids: (T,) int32, with T the number of tokens of all samples.
        offsets: (N + 1,) int64; sample i is `token_ids[offsets[i]:offsets[i + 1]]`.
        labels: (N,) int64, into the split's own label names.
        pad_token_id: fills up a batch.
        token_types: (T,) int8 segment of each token; None if the tokenizer makes none, because its
            encoder has no second segment (DistilBERT, RoBERTa; see
            `rc_core.models.load_tokenizer`).
        truncated: number of samples that were longer than the maximum length.
    """

    token_ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]
    pad_token_id: int
    token_types: NDArray[np.int8] | None
    truncated: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each sample, (N,), including special tokens."""
        return np.diff(self.offsets)

    def collate(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return one batch, padded on the right to its longest sample.

        Args:
            rows: (B,) samples, in any order; at least one.

        Returns:
            input_ids, attention_mask and, if the tokenizer makes them, token_type_ids: each (B,
            longest) int64.
        """
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        columns = np.arange(int(lengths.max()))
        mask = columns[None, :] < lengths[:, None]
        # Padding positions read the sample's first token: a valid index, masked out below.
        places = starts[:, None] + np.where(mask, columns[None, :], 0)
        batch = {
            "input_ids": np.where(mask, self.token_ids[places], self.pad_token_id),
            "attention_mask": mask,
        }
        if self.token_types is not None:
            batch["token_type_ids"] = np.where(mask, self.token_types[places], 0)
        return {name: torch.from_numpy(array.astype(np.int64)) for name, array in batch.items()}


def encode(split: Split, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
    """Return a split's tokens, at most `max_length` per sample.

    A pair that is too long loses tokens of its longer text first.

    Args:
        split: N texts or pairs.
        tokenizer: a fast one.
        max_length: including special tokens; more than the tokenizer adds to a pair.
    """
    with_types = "token_type_ids" in tokenizer.model_input_names
    ids: list[NDArray[np.int32]] = []
    types: list[NDArray[np.int8]] = []
    lengths: list[NDArray[np.int64]] = []
    truncated = 0
    for start in range(0, len(split), _CHUNK):
        encoding: Any = tokenizer(
            list(split.first[start : start + _CHUNK]),
            None if split.second is None else list(split.second[start : start + _CHUNK]),
            truncation="longest_first",
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=with_types,
        )
        samples = encoding["input_ids"]
        lengths.append(np.fromiter(map(len, samples), np.int64, len(samples)))
        ids.append(np.concatenate([np.asarray(sample, np.int32) for sample in samples]))
        if with_types:
            kinds = encoding["token_type_ids"]
            types.append(np.concatenate([np.asarray(kind, np.int8) for kind in kinds]))
        truncated += sum(bool(sample.overflowing) for sample in encoding.encodings)
    pad_token_id = tokenizer.pad_token_id
    return Encoded(
        token_ids=np.concatenate(ids) if ids else np.empty(0, np.int32),
        offsets=np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum(),
        labels=split.labels,
        # Padding is masked, so without a padding token any valid id will do.
        pad_token_id=pad_token_id if isinstance(pad_token_id, int) else 0,
        token_types=(np.concatenate(types) if types else np.empty(0, np.int8))
        if with_types
        else None,
        truncated=truncated,
    )


def length_bucketed_batches(
    lengths: NDArray[np.int64],
    batch_size: int,
    generator: np.random.Generator,
    window: int = 50,
) -> list[NDArray[np.int64]]:
    """Return training batches of similar lengths; every sample is in exactly one.

    Samples are shuffled, cut into windows of `window` batches, sorted by length within each window,
    cut into batches, and the batches are shuffled. The order depends on nothing but the arguments.

    Args:
        lengths: (N,) tokens of each sample.
        batch_size: samples per batch; one batch may have fewer.
        generator: is advanced.
        window: number of batches that are sorted together: more saves padding, fewer mixes better.

    Returns:
        ceil(N / batch_size) arrays of sample indices.
    """
    order = generator.permutation(len(lengths)).astype(np.int64)
    batches = []
    for start in range(0, len(order), window * batch_size):
        part = order[start : start + window * batch_size]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def length_sorted_batches(
    lengths: NDArray[np.int64], tokens_per_batch: int
) -> list[NDArray[np.int64]]:
    """Return evaluation batches, longest samples first, each within a budget of padded tokens.

    Args:
        lengths: (N,) tokens of each sample.
        tokens_per_batch: the most that rows x longest may be; a single sample may exceed it.

    Returns:
        Arrays of sample indices; every sample is in exactly one.
    """
    order = np.argsort(-lengths, kind="stable").astype(np.int64)
    batches = []
    start = 0
    while start < len(order):
        size = max(1, tokens_per_batch // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches
