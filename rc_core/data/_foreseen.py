"""How many texts will be truncated, before anything is trained; used by dry runs and launches.

Separate from `_cuts`, which a report uses: this module needs the encoder's tokenizer, and so
transformers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rc_core.config import TrialConfig
from rc_core.data._cuts import against_cuts, cut_texts
from rc_core.data._encoding import encode
from rc_core.data._task import DEV_ROLES, Split, Task
from rc_core.errors import RobustCompressionError
from rc_core.model_facts import model_facts
from rc_core.models import load_tokenizer

# Samples per split: takes half a second, and estimates a share to within 3 points.
_FORESEEN = 1_000


def foreseen_cuts(task: Task, config: TrialConfig) -> list[str]:
    """Return lines on what will be truncated in train and the dev splits, and what to do about it.

    Large splits are estimated from a random sample, as "about" says. Empty if there is no
    tokenizer: training will report why.

    Args:
        task: its test roles are not looked at.
        config: whose encoder and `training.max_length` count.
    """
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
    """Return a random sample of a split, or the split itself if it is small."""
    if len(split) <= _FORESEEN:
        return split
    rows = np.random.default_rng(0).choice(len(split), size=_FORESEEN, replace=False)
    return replace(split.take(np.sort(rows)), headline=None)
