"""The driver's bookkeeping over a real Optuna study: order, endings, resume, duplicates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rc_core.atomic import write_json
from rc_core.errors import ConfigError, StorageError
from rc_core.record import RungRecord, TrialRecord, read_record
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig
from sweeps.engine.assignments import Assignment, Assignments
from sweeps.engine.budget import Usage
from sweeps.engine.retry import open_again, reopen_failed
from sweeps.folder import REFERENCE_ID, SweepFolder
from sweeps.search import grid, random, tpe
from sweeps.search._optuna import StudyProposals
from tests.sweeps.test_config import RAW


class Driver:
    """One attempt of a sweep without Ray: trials are finished by hand."""

    def __init__(self, path: Path, sampler: Any = random, **changes: Any) -> None:
        self.sweep = SweepConfig(merge(RAW, {"search": {"trials": 8}} | changes))
        self.folder = SweepFolder(path)
        path.mkdir(parents=True, exist_ok=True)
        self.proposals: StudyProposals = sampler.proposals(self.sweep, self.folder.study)
        self.ended: list[str] = []
        self.assignments = Assignments(
            self.sweep,
            self.folder,
            self.proposals,
            1,
            on_record=lambda record: self.ended.append(record.id),
        )

    def record(self, given: Assignment, **changes: Any) -> TrialRecord:
        record = TrialRecord(
            id=given.trial_id,
            status="running",
            config=given.config.as_dict(),
            fingerprint=given.config.fingerprint(),
            started=0.0,
        )
        record = record.model_copy(update=changes)
        self.folder.trial(given.trial_id).commit(record)
        return record

    def finish(self, given: Assignment, id_accuracy: float = 0.9, ood: float = 0.6) -> None:
        metrics = {"id_dev/accuracy": id_accuracy, "ood_dev/accuracy": ood}
        self.record(given, metrics=metrics, status="finished")
        self.assignments.close(given.trial_id)

    def states(self) -> list[str]:
        """Return the name of every study trial's state, in order."""
        return [trial.state.name for trial in self.proposals.trials()]

    def run(self) -> list[str]:
        ids = []
        while (given := self.assignments.next()) is not None:
            ids.append(given.trial_id)
            self.finish(given)
        return ids


def ended(driver: Driver) -> int:
    return sum(record.status != "running" for record in driver.assignments.records.values())


def test_first_points_then_proposals_up_to_the_number_of_trials(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s")
    first = [driver.assignments.next() for _ in range(2)]
    assert [f.trial_id for f in first if f] == ["t0001", "t0002"]
    assert [f.config.loss.name for f in first if f] == ["vanilla", "vanilla"]
    assert driver.run() == [f"t{i:04d}" for i in range(3, 8)]
    fingerprints = [r.fingerprint for r in driver.folder.records()]
    assert len(set(fingerprints)) == len(fingerprints)


def test_first_points_that_repeat_a_row_cost_no_trial(tmp_path: Path) -> None:
    """They have an id, but are no trial: the search still gets all of `search.trials`."""
    repeated = {"compression.name": "dense", "compression.init": "pretrained"}
    repeated |= {"loss.name": "vanilla"}
    driver = Driver(
        tmp_path / "s", search={"trials": 6, "points": [repeated, {"loss.name": "rmc"}]}
    )
    reference = driver.sweep.reference()
    driver.assignments.add(
        driver.record(Assignment(REFERENCE_ID, reference), status="finished", reference=True)
    )
    assert driver.sweep.num_first == 4
    assert driver.run() == ["t0001", "t0002", "t0004", "t0005", "t0006"], "t0003 is the reference"
    assert len({record.fingerprint for record in driver.folder.records()}) == 6
    assert driver.assignments.ending == "search.trials (6)"


def test_fewer_trials_than_first_points_are_raised_to_them(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s", search={"trials": 1})
    assert driver.sweep.settings.search.trials == 3
    assert driver.run() == ["t0001", "t0002"]
    assert driver.assignments.ending == "search.trials (3)"


def test_endings_reach_the_study(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s")
    given = [driver.assignments.next() for _ in range(6)]
    proposed = [g for g in given if g is not None][2:]
    driver.finish(proposed[0])
    driver.finish(proposed[1], ood=float("nan"))
    driver.record(proposed[2], status="running")
    driver.assignments.close(proposed[2].trial_id, error="killed")
    rung = RungRecord(step=1, progress=0.5, seconds=1.0, metrics={"rung/id_dev/accuracy": 0.5})
    driver.record(proposed[3], rungs=(rung,))
    driver.assignments.close(proposed[3].trial_id)
    # vanilla lies outside this space, so the two first points are no study trials.
    # A proposal that was tried before is discarded under the same id: the last one counts.
    states = {t.user_attrs["rc.trial_id"]: t.state.name for t in driver.proposals.trials()}
    assert states == {
        proposed[0].trial_id: "COMPLETE",
        proposed[1].trial_id: "FAIL",
        proposed[2].trial_id: "FAIL",
        proposed[3].trial_id: "PRUNED",
    }
    records = {r.id: r for r in driver.folder.records()}
    assert records[proposed[2].trial_id].status == "failed"
    assert records[proposed[2].trial_id].error == "killed"
    assert records[proposed[3].trial_id].status == "stopped"


def test_a_trial_whose_worker_could_not_write_a_record_is_not_forgotten(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s")
    given = [driver.assignments.next() for _ in range(3)]
    lost = given[2]
    assert lost is not None
    assert driver.assignments.close(lost.trial_id) is None, "nothing says that it ended"
    driver.assignments.close(lost.trial_id, error="killed")
    record = driver.folder.trial(lost.trial_id).read()
    assert record is not None and (record.status, record.error) == ("failed", "killed")
    assert record.fingerprint == lost.config.fingerprint() and record.attempt == 1
    assert driver.states() == ["FAIL"]
    assert driver.ended == [lost.trial_id]


def test_closing_twice_changes_nothing(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s")
    given = driver.assignments.next()
    assert given is not None
    driver.finish(given)
    driver.assignments.close(given.trial_id, error="late")
    assert driver.ended == [given.trial_id]
    assert driver.folder.records()[0].status == "finished"


@pytest.mark.parametrize("written", [False, True], ids=["no record here", "a stale one here"])
@pytest.mark.parametrize("error", [None, "killed"])
def test_a_trial_whose_record_does_not_come_stays_open_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool, error: str | None
) -> None:
    driver = Driver(tmp_path / "s")
    given = [driver.assignments.next() for _ in range(3)][2]
    assert given is not None
    if written:
        driver.record(given)
    before = driver.folder.trial(given.trial_id).read()

    def down(self: SweepFolder, trial_id: str, *, ended: bool = False) -> TrialRecord | None:
        raise StorageError("the bucket must answer, but does not")

    with monkeypatch.context() as broken:
        broken.setattr(SweepFolder, "newest", down)
        for _ in range(2):  # Ray tells the searcher and the callback
            assert driver.assignments.close(given.trial_id, error=error) is None
        assert driver.assignments.close_late() == []
    assert list(driver.assignments.late) == [given.trial_id] and driver.ended == []
    assert driver.folder.trial(given.trial_id).read() == before, "nothing was written over it"
    assert driver.states() == ["RUNNING"]
    metrics = {"id_dev/accuracy": 0.9, "ood_dev/accuracy": 0.6}
    driver.record(given, metrics=metrics, status="finished")
    assert [record.status for record in driver.assignments.close_late()] == ["finished"]
    assert driver.states() == ["COMPLETE"] and driver.ended == [given.trial_id]
    assert not driver.assignments.late


def test_what_has_ended_is_not_sealed_while_its_record_says_that_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.folder._PAUSES", (0.0,))
    driver = Driver(tmp_path / "s")
    given = [driver.assignments.next() for _ in range(3)][2]
    assert given is not None
    driver.record(given)
    assert driver.assignments.close(given.trial_id, ended=True) is None
    record = driver.folder.trial(given.trial_id).read()
    assert record is not None and record.status == "running"
    again = Driver(tmp_path / "s").assignments
    handed = [again.next() for _ in range(3)]
    assert given.trial_id in [each.trial_id for each in handed if each], "resume goes on with it"


@pytest.mark.parametrize("search", [tpe, random])
def test_a_resumed_driver_hands_out_unfinished_trials_first(tmp_path: Path, search: Any) -> None:
    driver = Driver(tmp_path / "s", search)
    given = [driver.assignments.next() for _ in range(5)]
    handed = {g.trial_id: g for g in given if g is not None}
    driver.finish(handed["t0001"])
    driver.finish(handed["t0003"])
    driver.record(handed["t0002"])  # was running
    driver.record(handed["t0004"])  # was running
    # t0005 was proposed, but its worker had not written anything yet.
    del driver
    again = Driver(tmp_path / "s", search)
    next_ids = [again.assignments.next() for _ in range(3)]
    assert [g.trial_id for g in next_ids if g] == ["t0002", "t0004", "t0005"]
    for g in next_ids:
        assert g is not None and g.config == handed[g.trial_id].config
        again.finish(g)
    assert again.run() == ["t0006", "t0007"]
    assert "RUNNING" not in again.states()
    assert again.assignments.next() is None


def test_a_result_written_but_not_told_is_told_at_resume(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s")
    given = [driver.assignments.next() for _ in range(3)][-1]
    assert given is not None
    metrics = {"id_dev/accuracy": 0.9, "ood_dev/accuracy": 0.6}
    driver.record(given, metrics=metrics, status="finished")
    assert driver.states() == ["RUNNING"]
    assert Driver(tmp_path / "s").states() == ["COMPLETE"]


def test_what_a_kill_has_left_of_ended_trials_is_cleared_at_resume(tmp_path: Path) -> None:
    """A checkpoint is three times a model; a proposal that was tried would be trained again."""
    driver = Driver(tmp_path / "s")
    given = [each for each in (driver.assignments.next() for _ in range(4)) if each is not None]
    for each in given[:3]:
        driver.finish(each)
    driver.record(given[3])
    for each in given[2:]:
        driver.folder.trial(each.trial_id).checkpoint.mkdir()
    # Proposed, but not taken back yet.
    tried = driver.proposals.trials()[0].params
    assert driver.proposals.propose("t0009", tried) == tried
    again = Driver(tmp_path / "s")
    kept = [again.folder.trial(each.trial_id).has_checkpoint() for each in given[2:]]
    assert kept == [False, True]
    assert "t0009" not in again.proposals.unfinished()
    assert "t0009" not in again.run()
    fingerprints = [record.fingerprint for record in again.folder.records()]
    assert len(set(fingerprints)) == len(fingerprints) == 7


def test_a_grid_is_run_once_each_and_ends(tmp_path: Path) -> None:
    space = {
        "compression.sparsity": {"choice": [0.3, 0.6], "when": {"compression.name": "magnitude"}}
    }
    raw = {**RAW, "space": {**RAW["space"], **space}}
    sweep = SweepConfig(merge(raw, {"search": {"name": "grid", "trials": 100}}))
    folder = SweepFolder(tmp_path / "s")
    folder.path.mkdir()
    assignments = Assignments(sweep, folder, grid.proposals(sweep, folder.study), 1)
    handed = []
    while (given := assignments.next()) is not None:
        handed.append(given.config.fingerprint())
    # 2 vanilla first points, then (2 sparsities + 3 sizes) x (distil + 2 alphas)
    assert len(handed) == 2 + 5 * 3
    assert len(set(handed)) == len(handed)


def test_an_exhausted_space_ends_the_sweep(tmp_path: Path) -> None:
    space = {"loss.name": {"choice": ["vanilla", "distil"]}}
    raw = {**{k: v for k, v in RAW.items() if k != "space"}, "space": space}
    sweep = SweepConfig(merge(raw, {"search": {"trials": 50}}))
    folder = SweepFolder(tmp_path / "s")
    folder.path.mkdir()
    assignments = Assignments(sweep, folder, random.proposals(sweep, folder.study), 1)
    handed = []
    while (given := assignments.next()) is not None:
        handed.append(given.config.loss.name)
    assert sorted(handed) == ["distil", "vanilla"]


def test_the_reference_is_never_handed_out(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s")
    assert REFERENCE_ID not in driver.run()


@pytest.mark.parametrize("search", [tpe, random])
def test_a_failed_trial_is_run_again_when_asked_for_and_its_failure_is_kept(
    tmp_path: Path, search: Any
) -> None:
    driver = Driver(tmp_path / "s", search)
    given = {g.trial_id: g for g in (driver.assignments.next() for _ in range(4)) if g}
    for trial_id in ("t0001", "t0003"):
        driver.finish(given[trial_id])
    for trial_id in ("t0002", "t0004"):  # a first point outside the space, and a proposal
        driver.record(given[trial_id], metrics={"id_dev/accuracy": 0.1})
        driver.assignments.close(trial_id, error="disk full")
    assert ended(Driver(tmp_path / "s", search)) == 4, "only when asked for"
    assert reopen_failed(driver.folder, 1) == ["t0002", "t0004"]
    again = Driver(tmp_path / "s", search)
    assert ended(again) == 2
    for trial_id in ("t0002", "t0004"):
        handed = again.assignments.next()
        assert handed is not None and handed.trial_id == trial_id
        assert handed.config == given[trial_id].config
        again.finish(handed)
    kept = read_record(driver.folder.trial("t0004").path / "failed-1.json")
    assert (kept.status, kept.error, kept.metrics) == (
        "failed",
        "disk full",
        {"id_dev/accuracy": 0.1},
    )
    record = driver.folder.trial("t0004").read()
    assert record is not None and record.status == "finished" and record.error is None
    trials = [t for t in again.proposals.trials() if t.user_attrs["rc.trial_id"] == "t0004"]
    assert [t.state.name for t in trials][-2:] == ["FAIL", "COMPLETE"]
    assert again.run() == ["t0005", "t0006", "t0007"]
    assert reopen_failed(driver.folder, 1) == []


def test_a_retried_trial_without_a_parameter_that_others_have_is_entered_again(
    tmp_path: Path,
) -> None:
    rate = {"log_uniform": [1e-5, 1e-3], "when": {"loss.name": "rmc"}}
    # Not searched with this loss, but every configuration has a value of it.
    changes = {"space": {"training.learning_rate": rate}}
    driver = Driver(tmp_path / "s", **changes)
    given = [g for g in (driver.assignments.next() for _ in range(7)) if g]
    asleep = next(g for g in given[2:] if g.config.loss.name == "distil")
    driver.record(asleep)
    driver.assignments.close(asleep.trial_id, error="disk full")
    assert reopen_failed(driver.folder, 1) == [asleep.trial_id]
    again = Driver(tmp_path / "s", **changes)
    left = {g.trial_id: g for g in iter(again.assignments.next, None)}
    again.finish(left[asleep.trial_id])
    mine = [t for t in again.proposals.trials() if t.user_attrs["rc.trial_id"] == asleep.trial_id]
    assert [t.state.name for t in mine][-2:] == ["FAIL", "COMPLETE"]


@pytest.mark.parametrize("search", [tpe, random])
def test_a_first_point_that_did_not_begin_is_entered_in_the_study_once(
    tmp_path: Path, search: Any
) -> None:
    losses = {"space": {"loss.name": {"choice": ["vanilla", "distil", "rmc"]}}}
    for _ in range(2):
        driver = Driver(tmp_path / "s", search, **losses)
        given = [driver.assignments.next() for _ in range(2)]
        assert [each.trial_id for each in given if each] == ["t0001", "t0002"]
        assert driver.states() == ["RUNNING", "RUNNING"]
    assert given[0] is not None
    driver.finish(given[0])
    assert driver.states() == ["COMPLETE", "RUNNING"]


SPENT = {"budget": {"hours": 1}}


def spend(folder: SweepFolder, hours: float = 5.0) -> None:
    """Let earlier drivers have taken so long."""
    write_json(folder.usage, {"hours": hours, "accelerator_hours": 0.0})


def test_a_search_over_fixed_rows_says_that_none_is_worth_running(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s")
    driver.proposals.choose = lambda left: None
    assert driver.assignments.next() is None
    assert driver.assignments.ending == "the search, which finds no trial left worth running"


def test_what_was_interrupted_is_closed_once_the_budget_is_used_up(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s")
    given = [each for each in (driver.assignments.next() for _ in range(6)) if each is not None]
    driver.finish(given[0])
    rung = RungRecord(step=1, progress=0.5, seconds=1.0, metrics={"rung/id_dev/accuracy": 0.5})
    driver.record(given[1])
    driver.record(given[2], rungs=(rung,))
    driver.folder.trial("t0003").checkpoint.mkdir()
    driver.record(given[3], config={"task": {}})  # cannot be read any more
    # The last two had not begun.
    again = Driver(tmp_path / "s")
    assert again.assignments.stop_left() == [], "its driver would go on"
    spend(driver.folder)
    again = Driver(tmp_path / "s", **SPENT)
    assert again.assignments.next() is None
    closed = again.assignments.stop_left()
    assert [(r.id, r.status) for r in closed] == [(f"t000{i}", "stopped") for i in (2, 3, 4)]
    assert again.ended == ["t0002", "t0003", "t0004"]
    assert again.assignments.ending == "budget.hours (1 h)"
    ended = {record.id: record.status for record in driver.folder.records()}
    assert ended == dict.fromkeys(("t0002", "t0003", "t0004"), "stopped") | {"t0001": "finished"}
    assert driver.folder.trial("t0003").read() == closed[1] and closed[1].rungs == (rung,)
    assert not driver.folder.trial("t0003").checkpoint.exists()
    # With a larger budget those that had not begun are still there.
    states = {t.user_attrs["rc.trial_id"]: t.state.name for t in again.proposals.trials()}
    assert states == dict.fromkeys(("t0003", "t0004"), "PRUNED") | dict.fromkeys(
        ("t0005", "t0006"), "RUNNING"
    )
    more = Driver(tmp_path / "s", budget={"hours": 10})
    left = [more.assignments.next() for _ in range(2)]
    assert [each.trial_id for each in left if each] == ["t0005", "t0006"]


def test_failed_trials_are_not_opened_again_once_the_budget_is_used_up(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s")
    given = [each for each in (driver.assignments.next() for _ in range(3)) if each is not None]
    for each in given[1:]:
        driver.record(each, environment={"python": "3"})
        driver.assignments.close(each.trial_id, error="disk full")
    before = driver.folder.records()
    spend(driver.folder)
    used = Usage(driver.folder.usage, gpu=0)
    spent = Driver(tmp_path / "s", **SPENT).sweep
    line = open_again(spent, driver.folder, 1, used)
    assert "not run again, as the limit budget.hours (1 h) is reached" in line
    assert driver.folder.records() == before
    line = open_again(driver.sweep, driver.folder, 1, used)
    assert line == "running failed trials again: t0002, t0003"
    # The budget ends while one of the two runs and the other waits.
    driver.record(given[1])
    late = Driver(tmp_path / "s", **SPENT)
    assert [r.status for r in late.assignments.stop_left()] == ["stopped", "failed"]
    record = driver.folder.trial("t0003").read()
    assert record is not None and (record.status, record.error) == ("failed", "disk full")


def test_a_front_that_no_longer_grows_forgets_the_failed_trials_that_are_opened_again(
    tmp_path: Path,
) -> None:
    budget = {"budget": {"stall": {"trials": 2, "gain": 0.01}}}
    driver = Driver(tmp_path / "s", **budget)
    given = [each for each in (driver.assignments.next() for _ in range(3)) if each is not None]
    driver.finish(given[0])
    for each in given[1:]:
        driver.record(each)
        driver.assignments.close(each.trial_id, error="disk full")
    assert driver.assignments.over()
    line = open_again(driver.sweep, driver.folder, 1, driver.assignments.usage)
    assert line == "running failed trials again: t0002, t0003"


def test_a_proposed_point_outside_the_space_is_told_and_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(tmp_path / "one")
    for _ in driver.sweep.first_trials():
        given = driver.assignments.next()
        assert given is not None
        driver.finish(given)
    propose = driver.proposals.propose

    def outside(trial_id: str, point: Any = None) -> Any:
        found = propose(trial_id, point)
        return {**(found or {}), "training.epochs": 100}

    monkeypatch.setattr(driver.proposals, "propose", outside)
    with pytest.raises(ConfigError, match=r"search/.*py: .*has training.epochs, though it is not"):
        driver.assignments.next()
