"""Seeds that all start from one and the same dense model (`init: teacher`).

What the seed of that model gave it is in every one of theirs, so that they vary too little, and a
difference from models without it, as dense ones of other seeds, is for a part that one seed's luck.
"""

from __future__ import annotations

from collections.abc import Iterable

from rc_core.record import TrialRecord

# What a fixed design's seeds need, for each to have a start of its own.
SEARCH_TEACHERS = "search teacher.seed beside training.seed"


def one_start_note(rows: str, remedy: str) -> str:
    """Return the note on rows whose seeds share one start, with the remedy."""
    return (
        f"{rows}: all seeds start from one dense model (init=teacher), whose own luck is in each "
        f"of them: no difference from dense is shown by these. A start for each seed: {remedy}"
    )


def has_one_start(records: Iterable[TrialRecord]) -> bool:
    """Tell whether two seeds or more of a configuration start from one fine-tuned dense model."""
    seeds = list(records)
    starts = {record.artifacts.get("teacher") for record in seeds}
    return (
        len(seeds) > 1
        and len(starts) == 1
        and None not in starts
        and all(record.config["compression"].get("init") == "teacher" for record in seeds)
    )
