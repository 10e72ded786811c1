"""Which texts are longer than what is kept of them: told, as what is cut off is never read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rc_core.config import TrialConfig
from rc_core.data._task import DEV_ROLES, Split, Task
from rc_core.errors import RobustCompressionError
from rc_core.model_facts import model_facts

# Below this share of samples what is cut is not told; records have it all the same.
_MUCH_CUT = 0.01
# Of each split, to foresee what is cut: half a second, and a share that is known to 3 points.
_FORESEEN = 1_000


def foreseen_cuts(task: Task, config: TrialConfig) -> list[str]:
    """Return lines on what will be cut of train and the dev splits, and what to do about it.

    By a random sample of each large split, which "about" says. Nothing where there is no tokenizer:
    whatever trains says why.

    Args:
        task: its test roles are not looked at.
        config: whose encoder and `training.max_length` count.
    """
    # Whoever only reads what records say of cuts (a report, a launch) has neither loaded.
    from rc_core.data._encoding import encode
    from rc_core.models import load_tokenizer

    try:
        tokenizer, positions = load_tokenizer(config.model), model_facts(config.model).max_positions
    except RobustCompressionError:
        return []
    asked = config.training.max_length
    kept = min(asked, positions)
    lines = []
    for split in (task.train, *(each for role in DEV_ROLES for each in task.of_role(role))):
        sample = _sample(split)
        facts = {"samples": len(sample), "truncated": encode(sample, tokenizer, kept).truncated}
        data = {"max_length": kept, "positions": positions, split.name: facts}
        about = "" if sample is split else "about "
        lines += [f"{about}{line}; {against_cuts(data, asked)}" for line in cut_texts(data, asked)]
    return lines


def _sample(split: Split) -> Split:
    if len(split) <= _FORESEEN:
        return split
    rows = np.random.default_rng(0).choice(len(split), size=_FORESEEN, replace=False)
    return replace(split.take(np.sort(rows)), headline=None)


def cut_texts(data: Mapping[str, Any], max_length: int) -> list[str]:
    """Return a line for each split of which more than a few texts are cut.

    Args:
        data: of a record.
        max_length: `training.max_length`; records of earlier versions do not say what was kept.
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
    """Return what to do about texts that are cut.

    Args:
        data: of a record.
        max_length: `training.max_length`.
    """
    if _encoder_limits(data, max_length):
        return "take an encoder with more positions if what is lost matters"
    return "raise training.max_length if what is lost matters"


def _encoder_limits(data: Mapping[str, Any], max_length: int) -> bool:
    return bool(max_length >= data.get("positions", max_length + 1))
