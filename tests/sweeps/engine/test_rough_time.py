"""About how long a trial takes: what is counted, and that a timed block is of the right size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rc_core.config import TrainingConfig
from rc_core.data._task import Role, Split, Task
from rc_core.model_facts import ModelFacts, model_facts
from sweeps.engine import rough_time
from sweeps.engine.rough_time import rough_seconds

TINY = model_facts("tiny:bert")
MINILM = ModelFacts("bert", 6, 12, 512, 22_700_000, 11_900_000, (384, 1536))


def split(role: Role, texts: list[str], second: list[str] | None = None) -> Split:
    return Split(
        role=role,
        suite="x",
        first=texts,
        second=second,
        labels=np.zeros(len(texts), dtype=np.int64),
        label_names=("a", "b"),
    )


def task(train: int, dev: int) -> Task:
    splits = (split("train", ["one two, three"] * train), split("id_dev", ["one"] * dev))
    return Task("made", ("a", "b"), splits)


def test_samples_epochs_and_blocks_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, str, int]] = []

    def seconds(
        _facts: ModelFacts, batch: int, tokens: int, precision: str, threads: int
    ) -> tuple[float, float]:
        asked.append((batch, tokens, precision, threads))
        return 0.8, 0.2

    monkeypatch.setattr(rough_time, "_block_seconds", seconds)
    training = TrainingConfig(batch_size=8, epochs=3)
    # Of each of 6 blocks, 3 x 100 samples at 0.1 s and 40 at 0.025 s.
    assert rough_seconds(training, MINILM, task(100, 40), 2) == pytest.approx(6 * (30 + 1))
    # Three words, a comma and two special tokens: 1.15 x 4 + 2.
    assert asked == [(8, 7, training.precision, 2)]


def test_tokens_are_cut_and_those_of_pairs_added() -> None:
    single = split("train", ["it's a test"] * 3)
    assert rough_time._mean_tokens(single, 128) == pytest.approx(1.15 * 5 + 2)
    pairs = split("train", ["a b", "a b c d"], ["c", ""])
    mean = (1.15 * 3 + 3 + 1.15 * 4 + 2) / 2
    assert rough_time._mean_tokens(pairs, 128) == pytest.approx(mean)
    assert rough_time._mean_tokens(split("train", ["word " * 500]), 128) == 128


def test_long_texts_are_timed_by_a_part_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def seconds(_facts: ModelFacts, batch: int, *_rest: object) -> tuple[float, float]:
        asked.append(batch)
        return 1.0, 1.0

    monkeypatch.setattr(rough_time, "_block_seconds", seconds)
    long = Task("made", ("a", "b"), (split("train", ["word " * 500] * 4),))
    rough_seconds(TrainingConfig(batch_size=64, max_length=512), MINILM, long, 1)
    assert asked == [2]


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
def test_a_block_is_timed_on_the_threads_of_a_trial(precision: str) -> None:
    threads = torch.get_num_threads()
    step, forward = rough_time._block_seconds(TINY, 4, 8, precision, 1)
    assert forward > 0 and step > 0
    assert torch.get_num_threads() == threads


def test_the_block_has_the_encoder_s_weights() -> None:
    weights = sum(each.numel() for each in rough_time._block(MINILM).parameters())
    own = (MINILM.num_parameters - MINILM.num_embedding_parameters) / MINILM.num_layers
    assert weights == pytest.approx(own, rel=0.05)
