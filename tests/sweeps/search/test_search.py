"""Every sampler over a real study: conditional parameters, constraints, endings, resume."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import optuna
import pytest

from rc_core import plugins
from rc_core.record import RungRecord, Status, TrialRecord
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig
from sweeps.fixed_design import looks_at_results
from sweeps.search._base import Known, Outcome, outcome_of
from sweeps.search._optuna import StudyProposals
from sweeps.search._storage import study_storage
from sweeps.space import Point
from tests.sweeps.test_config import RAW

# Whatever lies in sweeps/search; a race gives seeds to a sweep, see test_race.py.
SAMPLERS = tuple(name for name in plugins.available("sweeps.search") if name != "race")
STEERED_BY_NOTHING = tuple(name for name in SAMPLERS if not looks_at_results(name))
FLAT = ("nsga2", "gp", "qmc")
# What a grid needs of `RAW`: a choice in the place of the range.
CHOICES = {
    "compression.sparsity": {
        "choice": [0.2, 0.3, 0.5, 0.6, 0.8],
        "when": {"compression.name": "magnitude"},
    }
}
CONSTRAINT = "id_dev/accuracy >= 0.5"


def proposals(name: str, study_file: Path | None = None, **search: Any) -> StudyProposals:
    changes = {"search": {"name": name, "trials": 30} | search}
    raw = dict(RAW)
    if name == "grid":
        raw["space"] = RAW["space"] | CHOICES
    sweep = SweepConfig(merge(raw, changes))
    found: StudyProposals = plugins.load("sweeps.search", name).proposals(sweep, study_file)
    return found


def states(study: StudyProposals) -> list[str]:
    """Return the name of every study trial's state, in order."""
    return [trial.state.name for trial in study.trials()]


def finished(a: float, b: float, violations: Mapping[str, float] | None = None) -> Outcome:
    values = {"id_dev/accuracy": a, "ood_dev/accuracy": b}
    return Outcome("finished", values, violations or {}, {})


@pytest.mark.parametrize("status", ["finished", "stopped", "failed"])
def test_only_a_finished_trial_has_values_for_the_search(status: Status) -> None:
    record = TrialRecord(
        id="t0001",
        status=status,
        config={},
        fingerprint="f",
        started=0.0,
        metrics={"id_dev/accuracy": 0.7},
        rungs=(RungRecord(step=1, progress=0.5, seconds=1.0, metrics={"rung/x": 0.6}),),
    )
    settings = SweepConfig(merge(RAW, {"constraints": [CONSTRAINT]})).settings
    found = outcome_of(record, settings, {})
    assert (found.status, found.rungs) == (status, {"rung/x": 0.6})
    if status == "finished":
        assert found.values == {
            "id_dev/accuracy": 0.7,
            "ood_dev/accuracy": pytest.approx(math.nan, nan_ok=True),
        }
        assert list(found.violations) == [CONSTRAINT]
    else:
        assert found.values == {} == found.violations


def only_sparsity_matters(point: Point) -> tuple[float, float]:
    """Best near a sparsity of 0.62; ID and OOD want slightly different ones."""
    sparsity = point.get("compression.sparsity")
    if sparsity is None:
        return 0.4, 0.4
    return 0.9 - 2 * abs(sparsity - 0.6), 0.9 - 2 * abs(sparsity - 0.64)


def search(name: str, seed: int, trials: int = 30) -> tuple[list[Point], list[tuple[float, float]]]:
    found, points, values = proposals(name, seed=seed, trials=trials), [], []
    for i in range(trials):
        point = found.propose(f"t{i:04d}")
        assert point is not None
        points.append(point)
        values.append(only_sparsity_matters(point))
        found.tell(f"t{i:04d}", finished(*values[-1]))
    return points, values


@pytest.mark.parametrize(("name", "trials"), [("tpe", 30), ("nsga2", 60), ("gp", 14)])
def test_a_parameter_that_is_only_sometimes_active_is_learned(name: str, trials: int) -> None:
    """The later proposals are far better than random ones: their conditional values moved."""
    seeds = range(1 if name == "gp" else 3)

    def late(which: str) -> float:
        runs = [search(which, seed, trials)[1][trials // 2 :] for seed in seeds]
        return float(np.mean([min(values) for run in runs for values in run]))

    assert late(name) > late("random") + 0.1


def test_quasi_random_draws_cover_a_conditional_range_evenly() -> None:
    """Reference: the greatest distance to the uniform distribution, beside random draws."""
    gaps: dict[str, list[float]] = {"qmc": [], "random": []}
    for name, mine in gaps.items():
        for seed in range(4):
            found = proposals(name, seed=seed)
            points = [found.propose(f"t{i:04d}") or {} for i in range(32)]
            active = [p["compression.sparsity"] for p in points if "compression.sparsity" in p]
            drawn = np.sort((np.array(active) - 0.2) / 0.6)
            mine.append(float(np.abs(drawn - (np.arange(len(drawn)) + 0.5) / len(drawn)).max()))
            if name == "qmc":
                assert 14 <= len(active) <= 18, "choices are even as well"
    assert np.mean(gaps["qmc"]) < 0.6 * np.mean(gaps["random"])


@pytest.mark.parametrize("name", FLAT)
def test_equal_configurations_have_equal_encodings(name: str) -> None:
    found = proposals(name, seed=1)
    space = SweepConfig(RAW).space
    given = {"compression.name": "student", "compression.num_layers": 2, "loss.name": "distil"}
    points = [found.propose("t0000", dict(given))]
    for i in range(1, 14):
        found.tell(f"t{i - 1:04d}", finished(0.5 + 0.01 * i, 0.6))
        points.append(found.propose(f"t{i:04d}"))
    assert points[0] == given
    assert all(point is not None and space.contains(point) for point in points)
    for trial, point in zip(found.trials(), points, strict=True):
        assert point is not None and set(trial.params) == {p.key for p in space.parameters}
        for parameter in space.parameters:
            asleep = parameter.key not in point
            expected = parameter.middle if asleep else point[parameter.key]
            assert trial.params[parameter.key] == expected


def test_those_that_say_no_result_steers_them() -> None:
    assert set(STEERED_BY_NOTHING) == {"grid", "random", "qmc"}


@pytest.mark.parametrize("name", STEERED_BY_NOTHING)
def test_what_no_result_steers_proposes_the_same_whatever_is_found(name: str) -> None:
    drawn = []
    for outcome in (None, finished(0.9, 0.1), Outcome("failed", {}, {}, {})):
        found, points = proposals(name), []
        for i in range(12):
            points.append(found.propose(f"t{i:04d}"))
            if outcome is not None:
                found.tell(f"t{i:04d}", outcome)
        drawn.append(points)
    assert drawn[0] == drawn[1] == drawn[2]


@pytest.mark.parametrize("name", SAMPLERS)
def test_endings_and_a_resume(name: str, tmp_path: Path) -> None:
    found = proposals(name, tmp_path / "study.journal")
    points = [found.propose(f"t{i:04d}") for i in range(7)]
    found.tell("t0000", finished(0.9, 0.6))
    found.tell("t0000", finished(0.1, 0.1))
    found.tell("t0001", Outcome("stopped", {}, {}, {"rung/id_dev/accuracy": 0.7}))
    found.tell("t0002", Outcome("failed", {}, {}, {}))
    found.tell("t0003", finished(0.9, math.nan))
    found.tell("t0004", finished(0.9, 0.6, {CONSTRAINT: math.inf}))
    found.discard("t0005")
    ended = ["COMPLETE", "PRUNED", "FAIL", "FAIL", "FAIL", "FAIL", "RUNNING"]
    assert states(found) == ended
    # As optuna-dashboard reads it, while it is open here.
    seen = optuna.load_study(study_name="sweep", storage=study_storage(tmp_path / "study.journal"))
    assert [trial.state.name for trial in seen.trials] == ended
    assert seen.metric_names == ["id_dev/accuracy", "ood_dev/accuracy"]
    assert seen.trials[1].user_attrs["rungs"] == {"rung/id_dev/accuracy": 0.7}
    assert seen.trials[0].values == [0.9, 0.6]
    again = proposals(name, tmp_path / "study.journal")
    assert again.unfinished() == {"t0006": points[6]}
    again.tell("t0006", finished(0.8, 0.7))
    assert "RUNNING" not in states(again)
    # It does not begin its sequence anew; one draw alone may repeat a point by chance.
    fresh = [again.propose(f"t{i:04d}") for i in range(7, 15)]
    assert all(fresh) and any(point not in points for point in fresh)


@pytest.mark.parametrize(("name", "trials"), [("tpe", 24), ("nsga2", 60), ("gp", 18)])
def test_constraints_reach_the_sampler(name: str, trials: int) -> None:
    """Values are best where the constraint is missed: only who is told of it stays away."""

    def late_sparsity(constrained: bool) -> float:
        found, late = proposals(name, seed=3, trials=trials), []
        for i in range(trials):
            point = found.propose(f"t{i:04d}")
            assert point is not None
            sparsity = point.get("compression.sparsity", 0.2)
            violation = {CONSTRAINT: sparsity - 0.45} if constrained else {}
            found.tell(f"t{i:04d}", finished(sparsity, sparsity, violation))
            late.append(sparsity)
        if constrained:
            assert all(list(trial.constraints) == [CONSTRAINT] for trial in found.trials())
        return float(np.mean(late[-(trials // 4) :]))

    assert late_sparsity(True) < late_sparsity(False) - 0.1


@pytest.mark.parametrize("name", SAMPLERS)
def test_earlier_trials_are_known_and_only_once(name: str, tmp_path: Path) -> None:
    space = SweepConfig(RAW).space
    point = {"compression.name": "magnitude", "compression.sparsity": 0.3, "loss.name": "distil"}
    values = {"ood_dev/accuracy": 0.6, "id_dev/accuracy": 0.9}
    known = Known("old/t0003", point, values, {CONSTRAINT: -0.4})
    found = proposals(name, tmp_path / "study.journal")
    found.know(known)
    found.know(known)
    again = proposals(name, tmp_path / "study.journal")
    again.know(known)
    (trial,) = again.trials()
    assert (trial.state.name, trial.values) == ("COMPLETE", [0.9, 0.6])
    assert trial.constraints == {CONSTRAINT: -0.4}
    if name not in FLAT:
        assert trial.params == point
    assert again.unfinished() == {}
    assert space.contains(again.propose("t0001") or {})


def test_earlier_trials_are_parents_of_the_genetic_search_from_the_start() -> None:
    found = proposals("nsga2", seed=0, trials=30)
    for i in range(12):
        point = {"compression.name": "magnitude", "compression.sparsity": 0.6 + 0.002 * i,
                 "loss.name": "distil"}  # fmt: skip
        values = {"id_dev/accuracy": 0.9 - 0.01 * i, "ood_dev/accuracy": 0.5 + 0.01 * i}
        found.know(Known(f"old/t{i:04d}", point, values, {}))
    drawn = [found.propose(f"t{i:04d}") or {} for i in range(10)]
    near = [0.5 <= point.get("compression.sparsity", 0.0) <= 0.7 for point in drawn]
    assert sum(near) >= 5, "children of the known trials, not random first ones"


@pytest.mark.parametrize("name", FLAT)
def test_a_point_that_was_entered_but_not_asked_for_does_not_end_the_search(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = {"compression.name": "student", "compression.num_layers": 2, "loss.name": "distil"}

    class Killed(Exception):
        pass

    found = proposals(name, tmp_path / "study")
    monkeypatch.setattr(found._study, "ask", Mock(side_effect=Killed))
    with pytest.raises(Killed):
        found.propose("t0001", point)
    assert states(found) == ["WAITING"]
    again = proposals(name, tmp_path / "study")
    assert states(again) == ["FAIL"] and again.unfinished() == {}
    assert again.propose("t0001", point) == point
    again.tell("t0001", finished(0.5, 0.5))
    assert states(again) == ["FAIL", "COMPLETE"]
