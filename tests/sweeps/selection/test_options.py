"""A trial that is asked for by its id, with constraints beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rc_core.errors import StorageError
from sweeps.selection.options import pick
from tests.sweeps.reporting._made import confirm_made, made_sweep


def test_a_trial_asked_for_by_its_id_must_meet_what_is_asked_with_it(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=6, failed=1, constraints=["id_dev/accuracy >= 0.999"])
    found = next(record for record in sweep.records if record.id == "t0002").metrics
    reached = f"id_dev/accuracy >= {found['id_dev/accuracy'] - 0.001:.4f}"
    assert pick(sweep, "t0002") == "t0002", "the sweep's own constraints do not hold a user back"
    assert pick(sweep, "t0002", wheres=[reached]) == "t0002"
    for missed in ("footprint/parameters <= 1e6", "id_dev/accuracy >= reference + 0.5"):
        with pytest.raises(StorageError, match=r"t0002 must meet .* misses (foot|id_dev)"):
            pick(sweep, "t0002", wheres=[reached, missed])
    with pytest.raises(StorageError, match="must be finished to be exported, but is failed"):
        sweep.pick("t0005", wheres=[reached])


def test_one_without_new_seeds_is_held_against_its_own_values(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=6)
    seeded = {"t0000", sweep.candidates[0].id}
    confirm_made(sweep, rows=1)
    left = next(record for record in sweep.records if record.id not in seeded)
    value = left.metric("ood_dev/accuracy")
    assert pick(sweep, left.id, wheres=[f"ood_dev/accuracy >= {value - 0.001:.4f}"]) == left.id
    with pytest.raises(StorageError, match=f"{left.id} must meet"):
        pick(sweep, left.id, wheres=[f"ood_dev/accuracy >= {value + 0.001:.4f}"])
