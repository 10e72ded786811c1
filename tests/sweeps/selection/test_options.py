"""Who takes part in what is chosen: by which figures, and a trial asked for by its id."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rc_core.errors import ConfigError, StorageError
from rc_core.record import TrialRecord
from sweeps.folder import SweepFolder
from sweeps.reporting.compare import compare
from sweeps.reporting.facts import Facts
from sweeps.reporting.verdict import verdict
from sweeps.reporting.write import write_report
from sweeps.selection.confirmed import confirmed
from sweeps.selection.confirmed_text import notes
from sweeps.selection.options import misses, pick
from sweeps.selection.stamp import selection
from sweeps.verification.confirm import confirmation
from sweeps.verification.sealed import open_tests
from sweeps.views.notebook import sweep_html
from tests.sweeps.reporting._made import confirm_made, made_sweep, write_record


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


def test_weights_of_another_pick_are_refused(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=4)
    for which in ("knee", "t0001"):
        with pytest.raises(ConfigError, match=f"to --pick weighted, but the pick is {which}"):
            pick(sweep, which, weights=["ood_dev/accuracy=2"])
    assert pick(sweep, "weighted", weights=["ood_dev/accuracy=2"])


def test_one_without_new_seeds_is_held_against_its_own_values(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=6)
    seeded = {"t0000", sweep.candidates[0].id}
    confirm_made(sweep, rows=1)
    left = next(record for record in sweep.records if record.id not in seeded)
    value = left.metric("ood_dev/accuracy")
    assert pick(sweep, left.id, wheres=[f"ood_dev/accuracy >= {value - 0.001:.4f}"]) == left.id
    with pytest.raises(StorageError, match=f"{left.id} must meet"):
        pick(sweep, left.id, wheres=[f"ood_dev/accuracy >= {value + 0.001:.4f}"])


def test_who_takes_part_is_judged_by_new_seeds_everywhere(tmp_path: Path) -> None:
    """The search's seed met the constraint, the mean of new ones does not."""
    rule = "id_dev/accuracy >= 0.9705"
    sweep = made_sweep(tmp_path, trials=12, constraints=[rule])
    confirm_made(sweep, rows=4)
    (chosen,) = [record.id for record in sweep.candidates]
    found = confirmed(sweep)
    assert found is not None and found.noise.df
    rows = {row.id: row for row in found.rows}
    assert rows[chosen].searched["id_dev/accuracy"] > 0.9705
    reason = str(rows[chosen].excluded)
    assert reason.startswith(f"misses {rule}: has 96.9 %, by 0.1")
    assert rows[chosen].chance is None and not rows[chosen].confirmed
    # The same words from whoever asks.
    with pytest.raises(StorageError, match=f"{chosen}: {re.escape(reason)}"):
        pick(sweep, "knee")
    assert f"not on the front: {chosen}: {reason}" in notes(found)
    assert misses(sweep, found)[chosen] == reason
    assert selection(sweep, found) == [], "the sealed test is opened for nothing that misses it"
    with pytest.raises(StorageError, match="by means over new seeds none meets the constraints"):
        open_tests(sweep, say=lambda line: None)
    facts = Facts.read(sweep)
    assert {row.id: why for row, why in facts.left_out}[chosen] == reason
    assert facts.chosen is None and verdict(facts)[0].text.startswith("Nothing yet")


def test_one_that_meets_a_constraint_by_new_seeds_alone_is_chosen(tmp_path: Path) -> None:
    """No searched value meets it: what new seeds say of a row that was asked for does."""
    sweep = made_sweep(tmp_path, trials=6, constraints=["id_dev/accuracy >= 0.9999"])
    assert sweep.candidates == [] and not any(row.on_front for row in sweep.rows)
    config = confirmation(sweep, seeds=3, also=["t0002"])
    folder = SweepFolder.create(tmp_path, "made.confirm", "x")
    folder.write_config(config.as_dict())
    for number, (trial_id, point) in enumerate(config.first_trials().items()):
        row = sweep.records[number // 3].id
        if row in ("t0000", "t0002"):
            trial = config.trial(point)
            metrics = {"id_dev/accuracy": 0.99995, "ood_dev/accuracy": 0.8 + 0.01 * (number % 3)}
            record = TrialRecord(
                id=trial_id, status="finished", name="x", config=trial.as_dict(),
                fingerprint=trial.fingerprint(), started=0.0, metrics=metrics,
            )  # fmt: skip
            write_record(folder, record)
    found = confirmed(sweep)
    assert found is not None and [row.id for row in found.rows if row.confirmed] == ["t0002"]
    assert pick(sweep, "knee") == "t0002" and selection(sweep, found) == ["t0002"]
    facts = Facts.read(sweep)
    assert facts.candidates == [] and facts.chosen is not None
    said = {sentence.topic: sentence.text for sentence in verdict(facts)}
    assert "(t0002)" in said["Take"] and "If OOD is what counts" not in said["Costs"]
    assert "t0002" not in {row.id for row, _ in facts.left_out}
    assert list(compare([facts, facts]).sides[0].best()) == ["knee", "best ID", "best OOD"]
    assert write_report(sweep).is_file()
    assert "t0002" in sweep_html(sweep)


def test_what_new_seeds_made_the_best_out_of_distribution_is_named_as_that(tmp_path: Path) -> None:
    """The search's one seed had it beaten: its page names what `best-ood` exports."""
    sweep = made_sweep(tmp_path, trials=8)
    front = {record.id for record in sweep.candidates}
    beaten = next(r.id for r in sweep.records if r.id not in front and not r.reference)
    config = confirmation(sweep, seeds=3, also=[beaten])
    folder = SweepFolder.create(tmp_path, "made.confirm", "x")
    folder.write_config(config.as_dict())
    for number, (trial_id, point) in enumerate(config.first_trials().items()):
        row = sweep.records[number // 3].id
        if row not in (beaten, "t0000", *front):
            continue
        inside, outside = {beaten: (0.5, 0.85), "t0000": (0.98, 0.97)}.get(row, (0.9, 0.7))
        noise = 0.002 * (number % 3)
        trial = config.trial(point)
        metrics = {"id_dev/accuracy": inside + noise, "ood_dev/accuracy": outside + noise}
        record = TrialRecord(
            id=trial_id, status="finished", name="x", config=trial.as_dict(),
            fingerprint=trial.fingerprint(), started=0.0, metrics=metrics,
        )  # fmt: skip
        write_record(folder, record)
    assert pick(sweep, "best-ood") == beaten != pick(sweep, "best-id")
    facts = Facts.read(sweep)
    assert facts.best_outside is not None and facts.best_outside.id == beaten
    said = {sentence.topic: sentence.text for sentence in verdict(facts)}
    if facts.knee != beaten:
        assert f"If OOD is what counts, {beaten} " in said["Costs"]


def test_constraints_relative_to_the_reference_are_judged_seed_by_seed(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=8, constraints=["id_dev/accuracy >= reference - 0.02"])
    confirm_made(sweep, rows=4)
    assert sweep.confirmation is not None
    for record in sweep.confirmation.records:
        if record.config["compression"]["name"] == "dense":
            sweep.confirmation.folder.trial(record.id).record_file.unlink()
    found = confirmed(sweep)
    assert found is not None and all(row.excluded for row in found.rows)
    with pytest.raises(StorageError, match="it shares no seed with the dense reference"):
        pick(sweep, "knee")
    assert selection(sweep, found) == []
