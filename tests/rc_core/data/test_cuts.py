"""Which texts are cut, and at which limit: said before training, and of what was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rc_core.config import decode
from rc_core.data._cuts import against_cuts, cut_texts
from rc_core.data._foreseen import foreseen_cuts
from rc_core.data._task import Role, Split, Task

LABELS = ("yes_", "no_")


def split(role: Role, lengths: list[int]) -> Split:
    """Return a split of texts of so many words, each word a token."""
    labels = np.arange(len(lengths), dtype=np.int64) % 2
    return Split(role, "x", ["the " * length for length in lengths], None, labels, LABELS)


@pytest.mark.parametrize(("asked", "cut"), [(32, True), (128, False), (500, False)])
def test_what_will_be_cut_is_said_before_anything_is_trained(asked: int, cut: bool) -> None:
    train = split("train", [40, 10, 10, 10])
    dev = [split(role, [10, 10]) for role in ("id_dev", "ood_dev")]
    config = decode({"model": "tiny:bert", "training": {"max_length": asked}})
    lines = foreseen_cuts(Task("x", LABELS, (train, *dev)), config)
    assert lines == cut * [
        "25 % of the samples of train.x are longer than 32 tokens and are cut; raise "
        "training.max_length if what is lost matters"
    ]


def test_of_a_large_split_a_sample_tells() -> None:
    sizes = np.where(np.arange(4000) % 4 == 0, 200, 3).tolist()
    dev = [split(role, [10, 10]) for role in ("id_dev", "ood_dev")]
    config = decode({"model": "tiny:bert", "training": {"max_length": 4096}})
    (line,) = foreseen_cuts(Task("x", LABELS, (split("train", sizes), *dev)), config)
    about, share, _ = line.split(" ", 2)
    assert about == "about" and 21 <= int(share) <= 29
    assert "longer than 128 tokens, which the encoder takes at most, and are cut" in line


def test_a_model_without_a_tokenizer_says_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    config = decode({"model": str(tmp_path)})
    parts = [split(role, [200, 200]) for role in ("train", "id_dev", "ood_dev")]
    assert foreseen_cuts(Task("x", LABELS, tuple(parts)), config) == []


@pytest.mark.parametrize(("cut", "told"), [(0, False), (10, False), (11, True)])
def test_texts_that_are_cut_are_told_where_they_are_many(cut: int, told: bool) -> None:
    data = {
        "digest": "x",
        "train.a": {"samples": 5000, "truncated": 1},
        "ood_dev.b": {"samples": 1000, "truncated": cut},
    }
    lines = cut_texts(data, 128)
    assert [line.partition("samples of ")[2].partition(" ")[0] for line in lines] == (
        ["ood_dev.b"] if told else []
    )
    assert not told or "longer than 128 tokens" in lines[0]


@pytest.mark.parametrize(
    ("asked", "kept", "encoder_limits"), [(64, 64, False), (128, 128, True), (4096, 128, True)]
)
def test_the_limit_at_which_texts_are_cut_is_named(
    asked: int, kept: int, encoder_limits: bool
) -> None:
    """Of an encoder of 128 positions no more can be kept, whatever training.max_length is."""
    data = {
        "max_length": kept,
        "positions": 128,
        "train.a": {"samples": 10, "truncated": 5},
    }
    (line,) = cut_texts(data, asked)
    assert f"longer than {kept} tokens" in line
    assert ("which the encoder takes at most" in line) == encoder_limits
    advice = "take an encoder with more" if encoder_limits else "raise training.max_length"
    assert against_cuts(data, asked).startswith(advice)
    # Records of earlier versions say neither what was kept nor what the encoder takes.
    (line,) = cut_texts({"train.a": data["train.a"]}, asked)
    assert f"longer than {asked} tokens and are cut" in line
    assert against_cuts({}, asked).startswith("raise training.max_length")
