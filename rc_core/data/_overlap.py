"""The shortcut in inference data as a rule: words of the second text that the first also has."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+")


def overlap(first: str, second: str) -> bool:
    """Tell whether every word of the second text occurs in the first (ignoring case)."""
    return set(_WORD.findall(second.lower())) <= set(_WORD.findall(first.lower()))


def overlap_entails(first: str, second: str) -> str:
    """Return `entailment` if words overlap, else `non_entailment` (two labels)."""
    return "entailment" if overlap(first, second) else "non_entailment"


def overlap_entails_or_neutral(first: str, second: str) -> str:
    """Return `entailment` if words overlap, else `neutral` (three labels)."""
    return "entailment" if overlap(first, second) else "neutral"


def overlap_duplicates(first: str, second: str) -> str:
    """Return `duplicate` if both texts have the same words, else `not_duplicate`."""
    same = overlap(first, second) and overlap(second, first)
    return "duplicate" if same else "not_duplicate"
