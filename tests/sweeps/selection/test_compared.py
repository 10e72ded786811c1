"""F_bias over seeds, on answers made by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sweeps.selection.bootstrap import Answers
from sweeps.selection.compared import relative_bias


class Made:
    """Stands for a Reader: one cluster per role, the same answers whatever trials are asked for."""

    def __init__(self, samples: int, seeds: int) -> None:
        # ID 0.90 and 0.90, OOD 0.70 and 0.80: the model's, and the reference's.
        self.answers = {
            "id_dev": self._answers((0.9, 0.9), samples, seeds),
            "ood_dev": self._answers((0.7, 0.8), samples, seeds),
        }

    @staticmethod
    def _answers(rates: tuple[float, float], samples: int, seeds: int) -> Answers:
        rows = [np.arange(samples) < round(rate * samples) for rate in rates]
        return Answers([np.tile(row, (seeds, 1)) for row in rows], np.zeros(samples))

    def pair(self, ours: Any, theirs: Any, role: str) -> Answers:
        return self.answers[role]


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_gap_that_so_few_samples_cannot_show_has_no_bias(seeds: int) -> None:
    """Seeds that agree say nothing of the samples: the gap of 10 points has an error of 5.6."""
    trials: Any = dict.fromkeys(range(seeds))
    few = relative_bias(Made(80, seeds), trials, trials, "dev")  # type: ignore[arg-type]
    assert few is not None and math.isnan(few[0].mean)
    assert few[1] is not None and "standard error 5.6 points" in few[1]
    many = relative_bias(Made(1_000, seeds), trials, trials, "dev")  # type: ignore[arg-type]
    assert many is not None and many[1] is None
    assert many[0].mean == pytest.approx((0.2 / 0.9) / (0.1 / 0.9))
