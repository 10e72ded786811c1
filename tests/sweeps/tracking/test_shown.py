"""Few parameters that tell trials apart, and what differs from the defaults."""

from __future__ import annotations

from typing import Any

import pytest

from rc_core.metrics.footprint import NONZERO, PACKED
from sweeps.config import SweepConfig
from sweeps.tracking.shown import (
    changed_values,
    common_keys,
    shown_keys,
    shown_values,
    size_metric,
)

BASE: dict[str, Any] = {
    "model": "tiny:bert",
    "training": {"epochs": 3},
    "compression": {"name": "magnitude", "sparsity": 0.7},
}


def test_what_is_searched_is_shown_and_no_more() -> None:
    sweep = SweepConfig(
        BASE
        | {
            "space": {
                "loss.name": {"choice": ["vanilla", "rmc"]},
                "loss.alpha": {"choice": [0.2, 0.5], "when": {"loss.name": "rmc"}},
                "training.learning_rate": {"log_uniform": [1.0e-5, 1.0e-3]},
            }
        }
    )
    keys = shown_keys(sweep)
    assert keys == ("compression.name", "loss.name", "training.learning_rate", "loss.alpha")
    assert common_keys(sweep) == ("compression.name", "loss.name", "training.learning_rate")
    point = {"loss.name": "rmc", "loss.alpha": 0.2, "training.learning_rate": 1 / 30000}
    assert shown_values(sweep.trial(point).as_dict(), keys) == {
        "compression.name": "magnitude",
        "loss.name": "rmc",
        "loss.alpha": "0.2",
        "training.learning_rate": "3.33333e-05",
    }
    assert "loss.alpha" not in shown_values(sweep.trial({"loss.name": "vanilla"}).as_dict(), keys)


@pytest.mark.parametrize(("other", "expected"), [("quantized", PACKED), ("heads", NONZERO)])
def test_rounded_weights_are_drawn_by_their_bits(other: str, expected: str) -> None:
    space = {"compression.name": {"choice": ["magnitude", other]}}
    values = BASE | {"compression": {"name": "magnitude"}, "space": space}
    assert size_metric(SweepConfig(values)) == expected


def test_of_given_points_only_what_differs_is_shown() -> None:
    points = [
        {
            "compression.name": "magnitude",
            "compression.sparsity": sparsity,
            "training.epochs": 3.0,
            "training.weight_decay": 0.01,
        }
        | {"training.seed": seed, "compression.scope": "global"}
        for sparsity in (0.5, 0.7)
        for seed in (1, 2)
    ]
    sweep = SweepConfig(BASE | {"design": "fixed", "search": {"points": points}})
    keys = shown_keys(sweep)
    assert keys == ("compression.name", "loss.name", "compression.sparsity", "training.seed")


def test_what_is_not_default_is_told_by_its_name_in_the_yaml() -> None:
    sweep = SweepConfig(BASE | {"loss": {"name": "rmc", "alpha": 0.5, "lambda": 0.7}})
    changed = changed_values(sweep.trial({}))
    assert changed["loss.lambda"] == "0.7" and changed["training.epochs"] == "3"
    assert changed["compression.sparsity"] == "0.7"
    assert "training.batch_size" not in changed and "loss.name" not in changed
