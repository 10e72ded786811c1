"""Which texts are longer than what is kept of them: reported, as the rest is never read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Truncation of at most this share of samples is not reported; records state it all the same.
_MUCH_CUT = 0.01


def cut_texts(data: Mapping[str, Any], max_length: int) -> list[str]:
    """Return a line for each split with more than a few truncated texts.

    Args:
        data: of a record.
        max_length: `training.max_length`; records of earlier versions do not state what was kept.
    """
    kept = data.get("max_length", max_length)
    limit = ", which the encoder takes at most," if _encoder_limits(data, max_length) else ""
    return [
        f"{100 * facts['truncated'] / facts['samples']:.0f} % of the samples of {name} are longer "
        f"than {kept} tokens{limit} and are cut"
        for name, facts in data.items()
        if isinstance(facts, Mapping)
        and facts.get("truncated", 0) > _MUCH_CUT * facts.get("samples", 0)
    ]


def against_cuts(data: Mapping[str, Any], max_length: int) -> str:
    """Return what to do about truncated texts.

    Args:
        data: of a record.
        max_length: `training.max_length`.
    """
    if _encoder_limits(data, max_length):
        return "take an encoder with more positions if what is lost matters"
    return "raise training.max_length if what is lost matters"


def _encoder_limits(data: Mapping[str, Any], max_length: int) -> bool:
    """Tell whether the encoder's positions are the limit, not `training.max_length`."""
    return bool(max_length >= data.get("positions", max_length + 1))
