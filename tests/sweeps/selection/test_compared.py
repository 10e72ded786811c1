"""F_bias and the optimism of a selection over seeds, on answers made by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sweeps.selection import compared
from sweeps.selection.bootstrap import Answers
from sweeps.selection.compared import accuracy, difference, excess_drop, relative_bias
from tests.sweeps.selection._planted import Planted, whole


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


def test_a_gap_that_differs_by_seed_has_no_bias_and_the_model_s_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gaps of 2, 10 and 18 points: a standard error of Student's half width over 1.96."""
    samples = 100_000
    planted = Planted(monkeypatch, dict.fromkeys(("id_dev", "ood_dev"), np.zeros(samples)))
    inside = whole([0.9] * 3, samples)
    steady = planted.row("steady", id_dev=inside, ood_dev=whole([0.8] * 3, samples))
    varied = planted.row("varied", id_dev=inside, ood_dev=whole([0.88, 0.8, 0.72], samples))
    found = relative_bias(planted.reader(), steady, varied, "dev")
    assert found is not None and math.isnan(found[0].mean) and found[1] is not None
    said = float(found[1].partition("standard error ")[2].partition(" points")[0])
    assert said == pytest.approx(100 * stats.t.ppf(0.975, 2) * 0.08 / 3**0.5 / 1.96, rel=0.03)
    found = relative_bias(planted.reader(), varied, steady, "dev")
    assert found is not None and found[1] is None and found[0].mean == pytest.approx(1.0)


def test_a_model_without_a_gap_has_no_bias_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ID accuracy is its OOD accuracy; of three seeds the means differ by rounding."""
    planted = Planted(monkeypatch, {"id_dev": np.arange(1_200), "ood_dev": np.arange(400)})
    dense = planted.row("dense", id_dev=whole([0.9] * 3, 1_200), ood_dev=whole([0.7] * 3, 400))
    for extra in range(12):
        rates = [(348 + extra) / 400, 0.88, 0.89]
        even = planted.row(f"even{extra}", id_dev=whole(rates, 1_200), ood_dev=whole(rates, 400))
        found = relative_bias(planted.reader(), even, dense, "dev")
        assert found is not None and found[1] is None
        assert found[0].mean == pytest.approx(0, abs=1e-9)


def test_what_the_chosen_lose_is_their_mean_over_shared_seeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By hand: drops of 6 and 12 points beside the reference's 4; a third seed is not shared."""
    roles = ("ood_dev", "ood_test")
    planted = Planted(monkeypatch, {role: np.zeros(1_000) for role in roles})
    first = planted.row("a", ood_dev=whole([0.80, 0.82]), ood_test=whole([0.74, 0.76]))
    second = planted.row("b", ood_dev=whole([0.70, 0.74, 0.99]), ood_test=whole([0.60, 0.60, 0.01]))
    dense = planted.row("dense", ood_dev=whole([0.9, 0.9]), ood_test=whole([0.87, 0.85]))

    def excess(*chosen: Any) -> float:
        found = excess_drop(planted.reader(), chosen, dense, roles, "headline")
        assert found is not None and found.n == 2
        return found.mean

    assert excess(first) == pytest.approx(2.0)
    assert excess(first, second) == excess(second, first) == pytest.approx(5.0)


def test_figures_are_of_shared_seeds_and_of_all_answers_or_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planted = Planted(monkeypatch, {"id_dev": np.zeros(1_000), "ood_dev": np.zeros(1_000)})
    ours = planted.row("ours", ood_dev=whole([0.1, 0.6, 0.7]))
    theirs = planted.row("theirs", ood_dev=whole([0.9, 0.5, 0.4, 0.99]))
    del ours[0], theirs[2]
    reader = planted.reader()
    found = difference(reader, ours, theirs, "ood_dev")
    assert found is not None and found.mean == pytest.approx(10.0) and found.n == 1
    assert math.isnan(found.low) and math.isnan(found.high)
    of_ours = accuracy(reader, ours, "ood_dev")
    assert of_ours is not None and of_ours.mean == pytest.approx(0.65) and of_ours.n == 2
    half = stats.t.ppf(0.975, 1) * np.std([0.6, 0.7], ddof=1) / 2**0.5
    # Percentiles of drawn seeds are stretched to Student's.
    assert (of_ours.low, of_ours.high) == pytest.approx((0.65 - half, 0.65 + half), abs=0.02)
    # One of the trials lacks its answers, or there are no shared seeds, or no such role.
    lacking = planted.row("lacking", ood_dev=whole([0.5, 0.5])) | {2: theirs[3]}
    planted.answers.pop((str(theirs[3].path), "ood_dev"))
    for pair in ((lacking, ours), (ours, lacking), (ours, {0: theirs[0]})):
        assert difference(planted.reader(), *pair, "ood_dev") is None
    assert accuracy(planted.reader(), lacking, "ood_dev") is None
    assert difference(reader, ours, theirs, "id_dev") is None
    assert relative_bias(reader, ours, theirs, "dev") is None
    assert accuracy(reader, ours, "id_test") is None
    roles = ("ood_dev", "ood_dev")
    assert excess_drop(planted.reader(), [ours, lacking], ours, roles, "headline") is None
    assert excess_drop(reader, [ours], {0: theirs[0]}, roles, "headline") is None


@pytest.mark.parametrize(("by_seed", "by_cluster"), [(0.03, 0.002), (0.003, 0.05), (0.02, 0.04)])
def test_the_optimism_s_interval_covers_the_truth(
    monkeypatch: pytest.MonkeyPatch, by_seed: float, by_cluster: float
) -> None:
    """The chosen fall 5 points further; seeds and each model's clusters vary, 16 to a role."""
    monkeypatch.setattr(compared, "_DRAWS", 200)
    rng = np.random.default_rng(0)
    roles, worlds = ("ood_dev", "ood_test"), 150
    covered = 0
    for _ in range(worlds):
        planted = Planted(monkeypatch, {role: np.arange(16) for role in roles})

        def row(name: str, *means: float, planted: Planted = planted) -> Any:
            answers: dict[str, Any] = {
                role: mean + rng.normal(0, by_seed, (4, 1)) + rng.normal(0, by_cluster, (1, 16))
                for role, mean in zip(roles, means, strict=True)
            }
            return planted.row(name, **answers)

        chosen = [row("a", 0.8, 0.73), row("b", 0.75, 0.68)]
        dense = row("dense", 0.82, 0.80)
        found = excess_drop(planted.reader(), chosen, dense, roles, "headline")
        assert found is not None
        covered += found.low <= 5.0 <= found.high
    assert 0.91 <= covered / worlds <= 1.0
