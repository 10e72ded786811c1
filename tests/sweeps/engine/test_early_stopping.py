"""Early stopping in the driver's bookkeeping, without Ray: endings, resume, limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rc_core.record import RungRecord
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig
from sweeps.engine.assignments import Assignment, Assignments
from sweeps.engine.ranking import MetricRanking
from sweeps.engine.rungs import Decision, RungRule, Variant, is_settled, rung_of
from sweeps.folder import SweepFolder
from sweeps.search import random
from tests.sweeps.test_config import RAW

ID = "rung/id_dev/accuracy"


class Driver:
    """One attempt of a sweep of students (no ramp); rungs and ends are made by hand."""

    def __init__(self, path: Path, variant: Variant = "promotion", **changes: Any) -> None:
        raw = {
            "model": "tiny:bert",
            "training": {"epochs": 1, "rungs": 4},
            "compression": {"name": "student", "num_layers": 1},
            "space": {"training.learning_rate": {"log_uniform": [1e-5, 1e-2]}},
            "search": {"name": "random", "trials": 7},
        }
        self.sweep = SweepConfig(merge(raw, changes))
        self.folder = SweepFolder(path)
        path.mkdir(parents=True, exist_ok=True)
        self.rule = RungRule(MetricRanking, {ID: "max"}, eta=3, grace=1, variant=variant)
        self.proposals = random.proposals(self.sweep, self.folder.study)
        self.assignments = Assignments(self.sweep, self.folder, self.proposals, 1, rule=self.rule)

    def next(self) -> Assignment:
        given = self.assignments.next()
        assert given is not None
        return given

    def reach(self, given: Assignment, rung: int, value: float) -> Decision:
        """Commit a rung as a worker does, then decide on it as the scheduler does."""
        folder = self.folder.trial(given.trial_id)
        before = folder.read()
        point = RungRecord(step=rung, progress=rung / 4, seconds=rung, metrics={ID: value})
        rungs = (*(before.rungs if before else ()), point)
        from rc_core.record import TrialRecord

        folder.commit(
            TrialRecord(
                id=given.trial_id,
                status="running",
                config=given.config.as_dict(),
                fingerprint=given.config.fingerprint(),
                started=0.0,
                rungs=rungs,
            )
        )
        folder.checkpoint.mkdir(exist_ok=True)
        return self.rule.report(
            given.trial_id,
            rung_of(point.progress, given.config),
            point.metrics,
            settled=is_settled(point.progress, given.config),
        )

    def finish(self, given: Assignment, value: float) -> None:
        folder = self.folder.trial(given.trial_id)
        record = folder.read()
        assert record is not None
        metrics = {"id_dev/accuracy": value, "ood_dev/accuracy": value}
        folder.commit(record.model_copy(update={"metrics": metrics}).sealed("finished"))
        self.assignments.close(given.trial_id)


def test_a_stopped_trial_keeps_its_rungs_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s", "stopping")
    first, second = driver.next(), driver.next()
    assert driver.reach(first, 1, 0.9) is Decision.CONTINUE
    assert driver.reach(second, 1, 0.5) is Decision.STOP
    record = driver.assignments.close(second.trial_id)
    assert record is not None and record.status == "stopped" and record.finished is not None
    assert [rung.metrics[ID] for rung in record.rungs] == [0.5]
    assert not driver.folder.trial(second.trial_id).checkpoint.exists()
    assert driver.folder.trial(first.trial_id).checkpoint.exists()
    trial = driver.proposals.trials()[-1]
    assert trial.state.name == "PRUNED" and trial.user_attrs["rungs"] == {ID: 0.5}


def test_after_a_kill_paused_trials_stay_paused_until_they_are_promoted(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s")
    given = [driver.next() for _ in range(4)]
    for each, value in zip(given[:2], (0.6, 0.5), strict=True):
        assert driver.reach(each, 1, value) is Decision.PAUSE
    # The third had just been written when the driver was killed; the fourth had reached nothing.
    driver.reach(given[2], 1, 0.4)
    del driver

    again = Driver(tmp_path / "s")
    promoted = again.next()
    assert promoted.trial_id == given[0].trial_id, "the best of three goes on first"
    assert promoted.config == given[0].config
    assert again.next().trial_id == given[3].trial_id, "then what was running"
    assert again.next().trial_id not in {each.trial_id for each in given}, "then new trials"
    assert again.reach(promoted, 2, 0.7) is Decision.PAUSE
    # Alone at its rung it is not promoted; when nothing else is left, paused ones are stopped.
    while again.assignments.next() is not None:
        pass
    assert not again.assignments.reopened()
    again.assignments.stop_left()
    states = {record.id: record.status for record in again.folder.records()}
    assert states[given[1].trial_id] == states[given[2].trial_id] == "stopped"


def test_a_promotion_that_comes_late_opens_the_sweep_again(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s", search={"trials": 4})
    given = [driver.next() for _ in range(3)]
    for each, value in zip(given[:2], (0.6, 0.5), strict=True):
        driver.reach(each, 1, value)
    del driver
    again = Driver(tmp_path / "s", search={"trials": 4})
    running = again.next()
    assert running.trial_id == given[2].trial_id
    assert again.assignments.next() is None and not again.assignments.reopened()
    assert again.reach(running, 1, 0.1) is Decision.PAUSE
    assert again.assignments.reopened()
    assert again.next().trial_id == given[0].trial_id


def test_what_ray_lets_go_of_is_open_until_the_sweep_ends(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s", search={"trials": 4})
    given = [driver.next() for _ in range(3)]
    for each, value in zip(given, (0.9, 0.5, 0.4), strict=True):
        driver.reach(each, 1, value)
    del driver
    # A trial paused by the driver before goes on, last of all, when Ray has let the others go.
    again = Driver(tmp_path / "s", search={"trials": 4})
    promoted = again.next()
    assert promoted.trial_id == given[0].trial_id
    assert again.reach(promoted, 2, 0.9) is Decision.PAUSE
    again.assignments.park(promoted.trial_id)
    assert again.assignments.close(promoted.trial_id) is None, "Ray says that it ended"
    record = again.folder.trial(promoted.trial_id).read()
    assert record is not None and record.status == "running"
    assert again.folder.trial(promoted.trial_id).checkpoint.exists()
    assert not again.assignments.reopened()
    for name in ("x", "y"):
        again.rule.report(name, 2, {ID: 0.1}, settled=True)
    assert again.assignments.reopened(), "now it is the best of three"
    assert again.next().trial_id == promoted.trial_id
    again.assignments.park(promoted.trial_id)
    stopped = {record.id for record in again.assignments.stop_left()}
    assert stopped == {each.trial_id for each in given}
    assert not again.folder.trial(promoted.trial_id).checkpoint.exists()


def test_magnitude_killed_before_the_end_of_its_ramp_just_goes_on(tmp_path: Path) -> None:
    changes = {"compression": {"name": "magnitude", "num_layers": None, "sparsity": 0.5}}
    raw = merge(RAW, {"training": {"rungs": 4}})
    del changes
    sweep = SweepConfig(raw)
    folder = SweepFolder(tmp_path / "s")
    folder.path.mkdir()
    rule = RungRule(MetricRanking, {ID: "max"}, eta=3, grace=1, variant="promotion")
    assignments = Assignments(sweep, folder, random.proposals(sweep, folder.study), 1, rule=rule)
    driver = Driver.__new__(Driver)
    driver.folder, driver.rule = folder, rule
    given = assignments.next()
    assert given is not None and given.config.compression.name == "magnitude"
    assert driver.reach(given, 1, 0.1) is Decision.CONTINUE
    again = Assignments(sweep, folder, random.proposals(sweep, folder.study), 2, rule=rule)
    resumed = again.next()
    assert resumed is not None and resumed.trial_id == given.trial_id


def test_a_front_that_no_longer_grows_ends_the_sweep_and_says_so(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s", "stopping", budget={"stall": {"trials": 2, "gain": 0.01}})
    assert driver.assignments.ending == "the last of its trials"
    values = iter((0.8, 0.9, 0.5, 0.6, 0.99))
    ended = 0
    while (given := driver.assignments.next()) is not None:
        driver.reach(given, 1, 0.5)
        driver.finish(given, next(values))
        ended += 1
    assert ended == 4
    assert driver.assignments.over()
    assert driver.assignments.ending.startswith("budget.stall (the last 2 trials added 0 %")
    again = Driver(tmp_path / "s", "stopping", budget={"stall": {"trials": 2, "gain": 0.01}})
    assert again.assignments.next() is None, "a resumed sweep has not forgotten"


def test_a_sweep_that_runs_all_its_trials_says_so(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "s", "stopping")
    while (given := driver.assignments.next()) is not None:
        driver.reach(given, 1, 0.5)
        driver.finish(given, 0.5)
    assert driver.assignments.ending == "search.trials (7)"
    records = driver.assignments.records.values()
    assert [record.status for record in records].count("finished") == len(records) == 6
