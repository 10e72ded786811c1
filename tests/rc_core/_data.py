"""A small pair-classification set that a tiny encoder can learn, independent of any task plugin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rc_core.data._encoding import Encoded, encode
from rc_core.data._task import Role, Split
from rc_core.models import load_tokenizer

LABELS = ("early", "late")
_WORDS = ("ant", "bee", "cow", "dog", "elk", "fox", "gnu", "hen")


def split(size: int, seed: int, role: Role = "train", labels: Sequence[str] = LABELS) -> Split:
    """Pairs of words; the label says which half of the list the second word is from."""
    rng = np.random.default_rng(seed)
    first = rng.integers(len(_WORDS), size=size)
    second = rng.integers(len(_WORDS), size=size)
    wanted = second // (len(_WORDS) // 2)
    return Split(
        role=role,
        suite="words",
        first=[f"the {_WORDS[i]}" + " ran" * int(i % 3) for i in first],
        second=[f"a {_WORDS[i]}" for i in second],
        labels=wanted.astype(np.int64),
        label_names=tuple(labels),
    )


def encoded(size: int, seed: int, model: str = "tiny:bert") -> Encoded:
    return encode(split(size, seed), load_tokenizer(model), 64)
