"""Trials that are known beforehand: the ids and configurations that a launch gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rc_core.config import TrialConfig
from rc_core.errors import ConfigError
from rc_core.record import TrialRecord
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig
from sweeps.engine.assignments import Assignments
from sweeps.engine.listed import listed
from sweeps.folder import SweepFolder
from sweeps.search import grid, qmc, random
from tests.sweeps.test_config import RAW

# Two seeds with a teacher each, three rows, one of which is the dense reference.
DESIGN: dict[str, Any] = {
    "model": "tiny:bert",
    "design": "fixed",
    "task": {"name": "shortcut_nli", "train_size": 100, "dev_size": 60, "test_size": 60},
    "training": {"epochs": 1, "rungs": 1, "precision": "fp32"},
    "compression": {"name": "magnitude", "sparsity": 0.5},
    "space": {"training.seed": {"choice": [0, 1]}, "teacher.seed": {"choice": [0, 1]}},
    "search": {
        "points": [
            {"compression.name": "dense"},
            {"compression.name": "magnitude", "loss.name": "vanilla"},
            {"compression.name": "magnitude", "loss.name": "distil"},
        ]
    },
}
GRID: dict[str, Any] = {
    "model": "tiny:bert",
    "compression": {"name": "magnitude"},
    "space": {
        "compression.sparsity": {"choice": [0.2, 0.4, 0.6]},
        "loss.name": {"choice": ["vanilla", "distil"]},
    },
    "search": {"name": "grid", "trials": 20},
}


def finished(trial_id: str, config: TrialConfig) -> TrialRecord:
    return TrialRecord(
        id=trial_id,
        status="finished",
        config=config.as_dict(),
        fingerprint=config.fingerprint(),
        reference=config.is_reference(),
        started=0.0,
    )


def finish(folder: SweepFolder, sweep: SweepConfig, *left_out: str) -> None:
    """Leave finished records of a sweep's trials, but for some."""
    for trial_id, config in listed(sweep).items():
        if trial_id not in left_out:
            folder.trial(trial_id).commit(finished(trial_id, config))


def test_a_fixed_design_with_a_teacher_for_each_seed() -> None:
    sweep = SweepConfig(DESIGN)
    found = listed(sweep)
    shown = {
        trial_id: (c.training.seed, c.teacher["seed"], c.compression.name, c.loss.name)
        for trial_id, c in found.items()
    }
    # t0001, the first row, is the reference itself: it runs once, as t0000.
    assert shown == {
        "t0000": (0, 0, "dense", "vanilla"),
        "t0002": (0, 0, "magnitude", "vanilla"),
        "t0003": (0, 0, "magnitude", "distil"),
        "t0004": (1, 1, "dense", "vanilla"),
        "t0005": (1, 1, "magnitude", "vanilla"),
        "t0006": (1, 1, "magnitude", "distil"),
    }
    assert [i for i, config in found.items() if config.is_reference()] == ["t0000", "t0004"]
    assert len(found) == sweep.settings.search.trials


def test_a_grid_beside_a_dense_row_with_seeds_is_listed_whole() -> None:
    """As docs/confirmed.md advises: the row that is the reference takes no other's place."""
    space = {
        "training.seed": {"choice": [0, 1, 2]},
        "compression.sparsity": {"choice": [0.3, 0.5], "when": {"compression.name": "magnitude"}},
    }
    search = {"name": "grid", "points": [{"compression.name": "dense"}]}
    sweep = SweepConfig(DESIGN | {"space": space, "search": search})
    found = listed(sweep)
    assert len(found) == sweep.settings.search.trials == 9


def test_a_grid_and_the_study_that_a_launch_would_have(tmp_path: Path) -> None:
    sweep = SweepConfig(GRID)
    found = listed(sweep)
    # The compression with vanilla first, in the middle of the space; then the grid's others.
    assert list(found) == [f"t{i:04d}" for i in range(7)]
    assert len({config.fingerprint() for config in found.values()}) == 7
    folder = SweepFolder(tmp_path)
    assert listed(sweep, folder.study) == found
    finish(folder, sweep, "t0003", "t0005")
    proposals = grid.proposals(sweep, folder.study)
    driver = Assignments(sweep, folder, proposals, 1)
    given = [each for _ in range(3) if (each := driver.next()) is not None]
    assert {each.trial_id: each.config for each in given} == {
        trial_id: found[trial_id] for trial_id in ("t0003", "t0005")
    }


@pytest.mark.parametrize("search", [random, qmc])
def test_a_search_that_no_result_steers_is_known_beforehand(tmp_path: Path, search: Any) -> None:
    name = search.__name__.rpartition(".")[2]
    sweep = SweepConfig(merge(RAW, {"search": {"name": name, "trials": 12}}))
    found = listed(sweep)
    assert list(found) == [f"t{i:04d}" for i in range(12)]
    folder = SweepFolder(tmp_path)
    driver = Assignments(sweep, folder, search.proposals(sweep, folder.study), 1)
    driver.add(finished("t0000", sweep.reference()))
    given = [each for _ in range(12) if (each := driver.next()) is not None]
    assert {each.trial_id: each.config for each in given} == {
        trial_id: config for trial_id, config in found.items() if trial_id != "t0000"
    }


@pytest.mark.parametrize(
    ("raw", "changes", "where"),
    [
        (RAW, {}, "design"),
        (DESIGN, {"search": {"trials": 9}}, "search.trials"),
        (DESIGN, {"search": {"name": "race"}, "confirm": {"sweep": "x"}}, "confirm.sweep"),
    ],
)
def test_what_depends_on_results_is_not_listed(
    raw: dict[str, Any], changes: dict[str, Any], where: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        listed(SweepConfig(merge(raw, changes)))
    assert [problem.where for problem in caught.value.problems] == [where]
