"""Objectives and constraints held against the data: what is never measured voids a sweep."""

from __future__ import annotations

from typing import Any

import pytest

from rc_core.errors import ConfigError
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig
from sweeps.engine.data_check import check_data, measured
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
        ("ood_dev/overlap/agreement", "'agreement' is not measured of ood_dev/overlap; available"),
        # No suite of this task lacks a label.
        ("ood_dev/masked_accuracy", "'masked_accuracy' is not measured of ood_dev; available"),
        ("ood_dev/difficulty_gap", "'difficulty_gap' is not measured of ood_dev"),
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
    changes = {
        "objectives": {name: "max" for name in names if "difference" not in name},
        "constraints": [f"{name} >= 0.1" for name in names],
    }
    check_data(SweepConfig(merge(RAW, SMALL | changes)))
