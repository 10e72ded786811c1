"""Seeds that all start from the same dense model (`init: teacher`).

All of them contain the luck of that model's seed, so they vary too little, and a difference from
models without it (such as dense ones of other seeds) is partly the luck of one seed.
"""

from __future__ import annotations

from collections.abc import Iterable

from rc_core.record import TrialRecord

# How each seed of a fixed design gets a start of its own.
SEARCH_TEACHERS = "search teacher.seed beside training.seed"


def one_start_note(rows: str, remedy: str) -> str:
    """Return the note on rows whose seeds share one start, with the remedy."""
    return (
        f"{rows}: all seeds start from one dense model (init=teacher) and share its luck, so they "
        f"show no difference from dense. For a start per seed: {remedy}"
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
