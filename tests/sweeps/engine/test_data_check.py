"""Objectives and constraints held against the data: what is never measured voids a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rc_core.errors import ConfigError, DataError
from rc_core.record import TrialRecord
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig
from sweeps.engine.data_check import check_data, check_same_data, measured
from tests.sweeps.test_config import RAW

SMALL = {"task": {"name": "shortcut_nli", "train_size": 100, "dev_size": 60, "test_size": 60}}


def problems(changes: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        check_data(SweepConfig(merge(RAW, SMALL | changes)))
    return {problem.where: problem.message for problem in caught.value.problems}


def some_slice() -> str:
    task = check_data(SweepConfig(merge(RAW, SMALL)))
    return next(key for key in sorted(measured(task)) if key.startswith("ood_dev/overlap/subcase."))


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("ood_dev/overlp/accuracy", "no suite 'overlp': did you mean 'overlap'?"),
        ("ood_dev/overlap/subcase.nowhere/accuracy", "no slice 'subcase.nowhere' of overlap: "),
        ("ood_dev/overlap/agreement", "'agreement' is not measured for ood_dev/overlap; available"),
        # No suite of this task lacks a label.
        ("ood_dev/masked_accuracy", "'masked_accuracy' is not measured for ood_dev; available"),
        ("ood_dev/difficulty_gap", "'difficulty_gap' is not measured for ood_dev"),
    ],
)
def test_what_is_never_measured_steers_and_bounds_nothing(metric: str, said: str) -> None:
    assert said in problems({"objectives": {metric: "max"}})[f"objectives.{metric}"]
    bound = problems({"constraints": [f"{metric} >= 0.5"]})["constraints"]
    assert bound.startswith(f"'{metric} >= 0.5': ") and said in bound


def test_a_misspelt_slice_is_helped() -> None:
    metric = some_slice()
    wrong = metric.replace("subcase.", "subcas.")
    found = problems({"objectives": {wrong: "max"}})[f"objectives.{wrong}"]
    assert f"did you mean '{metric.split('/')[2]}'?" in found


def test_what_is_measured_may_steer_and_bound() -> None:
    names = ["id_dev/accuracy", "id_dev/difficulty.easy/accuracy", "id_dev/difficulty_gap"]
    names += ["ood_dev/difference", "ood_dev/agreement", "ood_dev/overlap/calibration_error"]
    names += ["footprint/parameters", some_slice()]
    less = ("calibration_error", "footprint/parameters")
    changes = {
        "objectives": {
            name: "min" if name.endswith(less) else "max"
            for name in names
            if "difference" not in name
        },
        "constraints": [f"{name} >= 0.1" for name in names],
    }
    check_data(SweepConfig(merge(RAW, SMALL | changes)))


def test_data_that_changed_since_trials_were_trained_ends_a_resume(tmp_path: Path) -> None:
    """Two data sets in one sweep would be compared as if they were one."""
    rows, others = (
        ["text,label", *(f"{word} text {i},{'ab'[i % 2]}" for i in range(60))]
        for word in ("some", "other")
    )
    (tmp_path / "train.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "ood.csv").write_text("\n".join(others) + "\n")
    task = {
        "name": "files",
        "data_dir": str(tmp_path),
        "text": "text",
        "label": "label",
        "labels": ["a", "b"],
        "roles": {"train": "train.csv", "ood_dev": {"x": "ood.csv"}},
    }
    sweep = SweepConfig(merge(RAW, {"task": None}) | {"task": task})
    known = {"digest": check_data(sweep).digest()}
    record = TrialRecord(
        id="t0000",
        status="finished",
        config=sweep.reference().as_dict(),
        fingerprint="",
        started=0.0,
        data=known,
    )
    check_same_data(sweep, [record])
    (tmp_path / "train.csv").write_text("\n".join(rows[:-2]) + "\n")
    with pytest.raises(DataError, match=f"digest {known['digest']}.*restore the old files"):
        check_same_data(sweep, [record])
    # What has not finished will be trained anew.
    check_same_data(sweep, [record.model_copy(update={"status": "running"})])
    (tmp_path / "train.csv").unlink()
    check_same_data(sweep, [record])
