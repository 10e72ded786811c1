"""Rows whose seeds all start from one and the same dense model (`init: teacher`).

What the seed of that model gave it is in every one of theirs, so that they vary too little, and a
difference from dense models of other seeds is for a part that one seed's luck.
"""

from __future__ import annotations

from sweeps.selection.confirmed import Confirmed, ConfirmedRow


def has_one_start(row: ConfirmedRow) -> bool:
    """Tell whether two seeds or more of a row start from one fine-tuned dense model."""
    records = list(row.trials.values())
    starts = {record.artifacts.get("teacher") for record in records}
    return (
        len(records) > 1
        and len(starts) == 1
        and None not in starts
        and all(record.config["compression"].get("init") == "teacher" for record in records)
    )


def start_note(found: Confirmed) -> list[str]:
    """Return what a table has to say of such rows: nothing where there is none."""
    rows = [row.id for row in found.rows if has_one_start(row)]
    if not rows:
        return []
    remedy = (
        "search teacher.seed beside training.seed"
        if found.own
        else f"rc-sweep remove {found.sweep}.confirm, then rc-sweep confirm {found.sweep} --whole"
    )
    return [
        f"{', '.join(rows)}: all seeds start from one dense model (init=teacher), whose own luck "
        "is in each of them: no difference from dense is shown by these. A start for each seed: "
        + remedy
    ]
