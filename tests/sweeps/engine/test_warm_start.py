"""What a new sweep's sampler learns from earlier sweeps, and what it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rc_core.errors import ConfigError
from rc_core.record import TrialRecord
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig
from sweeps.engine.warm_start import known_trials, point_of, tell_known
from sweeps.folder import SweepFolder
from sweeps.search import random
from sweeps.search._base import Known
from tests.sweeps.test_config import RAW

STUDENT = {"compression.name": "student", "compression.num_layers": 2, "loss.name": "distil"}
PRUNED = {"compression.name": "magnitude", "compression.sparsity": 0.7, "loss.name": "rmc",
          "loss.alpha": 0.2}  # fmt: skip
VANILLA = {"compression.name": "magnitude", "compression.sparsity": 0.5, "loss.name": "vanilla"}


def earlier(
    storage: Path, points: list[dict[str, Any]], digest: str | None = None, **changes: Any
) -> None:
    sweep = SweepConfig(merge(RAW, changes))
    folder = SweepFolder.create(storage, "old", "old")
    folder.write_config(sweep.as_dict())
    configs = [sweep.reference(), *map(sweep.trial, points)]
    for number, config in enumerate(configs):
        record = TrialRecord(
            id=f"t{number:04d}",
            status="finished",
            config=config.as_dict(),
            fingerprint=config.fingerprint(),
            reference=number == 0,
            started=0.0,
            metrics={"id_dev/accuracy": 0.9 - 0.1 * number, "ood_dev/accuracy": 0.6},
            data={} if digest is None else {"digest": digest},
        )
        folder.trial(record.id).commit(record)


def new(**changes: Any) -> SweepConfig:
    return SweepConfig(merge(RAW, {"search": {"warm_start": ["old"]}} | changes))


def test_points_in_the_space_are_known_with_values_and_violations(tmp_path: Path) -> None:
    earlier(tmp_path, [STUDENT, PRUNED, VANILLA])
    found, line = known_trials(new(constraints=["id_dev/accuracy >= reference - 0.15"]), tmp_path)
    assert {known.source: known.point for known in found} == {
        "old/t0001": STUDENT,
        "old/t0002": PRUNED,
    }, "vanilla lies outside the space, the reference is no point"
    assert found[1].values == {"id_dev/accuracy": pytest.approx(0.7), "ood_dev/accuracy": 0.6}
    assert [round(next(iter(k.violations.values())), 6) for k in found] == [-0.05, 0.05]
    assert "2 of 3 finished trials of old" in line


def test_trials_trained_otherwise_are_left_out(tmp_path: Path) -> None:
    earlier(tmp_path, [STUDENT], training={"epochs": 2})
    found, line = known_trials(new(), tmp_path)
    assert found == [] and "0 of 1" in line


def test_another_seed_is_the_same_configuration(tmp_path: Path) -> None:
    earlier(tmp_path, [STUDENT], training={"seed": 5})
    assert len(known_trials(new(), tmp_path)[0]) == 1


@pytest.mark.parametrize(
    ("there", "here", "counted"),
    [("same", None, 1), ("same", "same", 1), ("other", "same", 0), (None, "same", 1)],
)
def test_data_may_lie_elsewhere_and_its_digest_decides(
    tmp_path: Path, there: str | None, here: str | None, counted: int
) -> None:
    places = [{"name": "mnli", "data_dir": str(tmp_path / name)} for name in ("old", "new")]
    earlier(tmp_path, [STUDENT], digest=there, task=places[0])
    data = None if here is None else {"digest": here}
    found, line = known_trials(new(task=places[1]), tmp_path, data)
    assert [known.source for known in found] == ["old/t0001"] * counted
    assert ("0 of 1 finished trials of old, 1 trained on other data" in line) is (counted == 0)


def test_a_trial_whose_constraint_was_not_measured_is_left_out(tmp_path: Path) -> None:
    earlier(tmp_path, [STUDENT])
    sweep = new(constraints=["ood_dev/relative_bias <= 0.7"])
    found, line = known_trials(sweep, tmp_path)
    assert found == [] and "0 of 1" in line
    measured = SweepFolder(tmp_path / "old").trial("t0001")
    record = measured.read()
    assert record is not None
    metrics = {**record.metrics, "ood_dev/relative_bias": 0.5}
    measured.commit(record.model_copy(update={"metrics": metrics}))
    (known,), _ = known_trials(sweep, tmp_path)
    random.proposals(sweep, None).know(known)


class Study:
    """What a search was told before anything else."""

    def __init__(self) -> None:
        self.sources: list[str] = []

    def know(self, known: Known) -> None:
        self.sources.append(known.source)


@pytest.mark.parametrize("attempt", [1, 2])
def test_every_driver_tells_the_search_since_one_before_may_not_have_come_so_far(
    tmp_path: Path, attempt: int
) -> None:
    earlier(tmp_path, [STUDENT])
    said: list[str] = []
    study: Any = Study()
    tell_known(new(), SweepFolder(tmp_path / "new"), study, attempt, said.append)
    assert study.sources == ["old/t0001"] and "1 of 1" in said[0]


def test_a_resume_goes_on_without_the_earlier_sweep(tmp_path: Path) -> None:
    said: list[str] = []
    study: Any = Study()
    folder = SweepFolder(tmp_path / "new")
    with pytest.raises(ConfigError):
        tell_known(new(), folder, study, 1, said.append)
    tell_known(new(), folder, study, 2, said.append)
    assert study.sources == [] and "no sweep 'old'" in said[0]


def test_without_warm_start_nothing_is_read(tmp_path: Path) -> None:
    assert known_trials(SweepConfig(RAW), tmp_path / "nowhere") == ([], "")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"task": {"name": "shortcut_nli", "seed": 3}}, "this sweep's task"),
        ({"objectives": {"id_dev/accuracy": "max"}}, "this sweep's objectives"),
    ],
)
def test_another_task_or_other_objectives_are_an_error(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    earlier(tmp_path, [STUDENT])
    with pytest.raises(ConfigError, match=expected):
        known_trials(new(**changes), tmp_path)


def test_an_unknown_sweep_is_an_error(tmp_path: Path) -> None:
    earlier(tmp_path, [STUDENT])
    with pytest.raises(ConfigError, match="did you mean 'old'"):
        known_trials(new(search={"warm_start": ["odl"]}), tmp_path)


def test_every_corner_of_a_space_is_found_again_from_its_configuration() -> None:
    sweep = SweepConfig(RAW)
    corners = list(sweep.space.corners())
    assert len(corners) > 5
    for point in corners:
        assert point_of(sweep.trial(point).as_dict(), sweep) == point
