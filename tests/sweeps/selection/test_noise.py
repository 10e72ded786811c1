"""What seeds can show, from a confirmation or from the seeds that a fixed design lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rc_core.errors import StorageError
from sweeps.cli import entry
from sweeps.config import SweepConfig
from sweeps.folder import SweepFolder
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.selection.confirmed import confirmed
from sweeps.selection.confirmed_text import confirmed_table
from sweeps.selection.noise import (
    measured_noise,
    power_json,
    power_text,
    uneven_noise,
    unlearned,
)
from sweeps.stored_sweep import StoredSweep
from tests.sweeps.selection.test_confirmed import VALUES, write

# By row of the design, then by seed: ID and OOD. Differences of the rows' OOD: 0.10, 0.12, 0.14.
DESIGN = [[(0.90, 0.80), (0.91, 0.82), (0.92, 0.84)], [(0.88, 0.70), (0.88, 0.70), (0.88, 0.70)]]


def fixed(storage: Path, found: list[list[tuple[float, float]]]) -> StoredSweep:
    points = [{"compression.sparsity": s} for s in (0.3, 0.5)]
    seeds: dict[str, Any] = {"training.seed": {"choice": [0, 1, 2]}}
    search = {"name": "grid", "points": points}
    config = SweepConfig(VALUES | {"design": "fixed", "space": seeds, "search": search})
    folder = SweepFolder.create(storage, "found", "x")
    folder.write_config(config.as_dict())
    for trial_id, point in config.first_trials().items():
        row = points.index({"compression.sparsity": point["compression.sparsity"]})
        seed = point["training.seed"]
        if row < len(found) and seed < len(found[row]):
            write(folder, trial_id, config.trial(point), found[row][seed])
    return StoredSweep(folder)


def test_the_seeds_of_a_fixed_design_measure_its_noise(tmp_path: Path) -> None:
    noise = measured_noise(fixed(tmp_path, DESIGN))
    assert noise.df == 2 + 2
    # Squares around each row's own mean: 2 * 0.01**2 of the first row's ID values, 0 of the second.
    assert noise.deviation(ID_KEY) == pytest.approx((2 * 0.01**2 / 4) ** 0.5)
    assert noise.pairs[OOD_KEY] == pytest.approx(0.02)
    text = power_text("found", noise, difference=1.0)
    assert "about 0.7 ID points and 1.4 OOD points" in text
    assert "difference of two configurations by 1.0 and 2.0" in text
    assert "4 repeated trainings" in text


def test_json_says_what_the_text_says(tmp_path: Path) -> None:
    sweep = fixed(tmp_path, DESIGN)
    noise = measured_noise(sweep)
    found = power_json(sweep, difference=1.0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["one_seed"][OOD_KEY] == noise.deviation(OOD_KEY)
    assert found["difference_of_two"] == {
        ID_KEY: noise.pairs[ID_KEY],
        OOD_KEY: noise.pairs[OOD_KEY],
    }
    text = power_text("found", noise, difference=1.0)
    for key, what in ((ID_KEY, "ID"), (OOD_KEY, "OOD")):
        assert f"To show 1 {what} points: {found['seeds_needed'][key]} seeds." in text
        for n in ("2", "3", "5", "30"):
            assert f" {100 * found['detectable'][n][key]:.1f} " in text
    assert found["difference"] == pytest.approx(0.01)
    # Of a paired t-test with 4 degrees of freedom; its power for what it detects is 80 %.
    for seeds in (2, 5, 30):
        shift = found["detectable"][str(seeds)][OOD_KEY] / 0.02 * seeds**0.5
        df = max(2, seeds - 1)
        critical = stats.t.ppf(0.975, df)
        power = stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift)
        assert power == pytest.approx(0.8, abs=1e-3)
    one = power_json(fixed(tmp_path / "one", DESIGN[:1]))
    assert one["seeds_needed"] == one["detectable"]["5"] == {ID_KEY: None, OOD_KEY: None}
    assert one["repeated_trainings"] == 2


def test_one_configuration_has_no_differences_but_its_noise_is_known(tmp_path: Path) -> None:
    noise = measured_noise(fixed(tmp_path, DESIGN[:1]))
    text = power_text("found", noise)
    assert "about 1.0 ID points and 2.0 OOD points" in text and "nan" not in text
    assert "two configurations that share two seeds" in text


def floored(storage: Path, dense: float, floors: dict[str, dict[str, float]]) -> StoredSweep:
    """Return the design with its reference, whose record holds trivial baselines."""
    sweep = fixed(storage, DESIGN)
    config = SweepConfig(sweep.config)
    data = {"floors": floors}
    write(sweep.folder, "t0000", config.reference(), (dense, 0.6), data=data)
    return sweep


def test_noise_of_models_that_learned_nothing_is_said_to_be_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows have 91 and 88 % ID in the mean, 82 and 70 % OOD."""
    low = {"id_dev": {"majority": 0.5, "bag_of_words": 0.6}, "ood_dev": {"majority": 0.5}}
    assert unlearned(floored(tmp_path / "a", 0.95, low)) == []
    assert unlearned(fixed(tmp_path / "b", DESIGN)) == [], "no trivial baseline is known"
    dense = unlearned(floored(tmp_path / "c", 0.6, low))
    assert dense[0] == (
        "warning: the dense reference did not learn the task: 60.0 % ID is no better than "
        "the best trivial baseline (bag of words: 60.0 %)"
    )
    assert len(dense) == 2 and "noise of models that learned nothing" in dense[1]
    high = {"id_dev": {"majority": 0.9}, "ood_dev": {"majority": 0.82 + 1e-6}}
    told = unlearned(floored(tmp_path / "d", 0.95, high))
    assert "the OOD accuracy of every configuration is no better" in told[0] and len(told) == 2
    with pytest.raises(SystemExit, match="0"):
        entry.main(["power", "found", "--storage", str(tmp_path / "d")])
    printed = capsys.readouterr().out
    assert printed.startswith("warning: the OOD accuracy of every") and "80 % power" in printed


def test_no_noise_at_all_is_no_success(tmp_path: Path) -> None:
    same = [[(0.5, 0.5)] * 3, [(0.5, 0.5)] * 3]
    sweep = fixed(tmp_path, same)
    text = power_text("found", measured_noise(sweep))
    assert "To show" not in text and text.count("the noise of differences is not known") == 2
    assert "80 % power" not in text
    found = confirmed(sweep)
    assert found is not None
    shown = " ".join(confirmed_table(found).split())
    assert "intervals of zero width do not mean certainty" in shown
    assert "points or more" not in shown


def test_what_one_metric_s_noise_is_worth_is_said_where_the_other_s_is_not_known(
    tmp_path: Path,
) -> None:
    """ID accuracies move alike, so that differences of rows never differ; OOD ones do not."""
    exact = 2.0**-5
    alike = [
        [(0.50, 0.80), (0.50 + exact, 0.82), (0.50 + 2 * exact, 0.84)],
        [(0.75, 0.70), (0.75 + exact, 0.70), (0.75 + 2 * exact, 0.70)],
    ]
    sweep = fixed(tmp_path, alike)
    text = power_text("found", measured_noise(sweep), difference=1.0)
    assert "To show 1 OOD points" in text and "ID points:" not in text
    assert "Every seed moved all ID accuracies alike" in text
    found = power_json(sweep, difference=1.0)
    assert found["seeds_needed"][ID_KEY] is None and found["seeds_needed"][OOD_KEY] > 2
    assert found["difference_of_two"][ID_KEY] is None


def test_seeds_that_are_not_there_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = fixed(tmp_path, [DESIGN[0][:1]])
    with pytest.raises(StorageError, match="two seeds yet; list several under space"):
        measured_noise(sweep)
    with pytest.raises(SystemExit, match="2"):
        entry.main(["power", "found", "--storage", str(tmp_path)])
    assert "Traceback" not in capsys.readouterr().err


def test_rows_that_a_seed_moves_more_than_others_are_told() -> None:
    """The dense row and vanilla of three seeds in tune_configs/paper/RESULTS.md, with conf_reg."""
    steady = {0: 0.503, 1: 0.512, 2: 0.507}
    wild = {0: 0.828, 1: 0.728, 2: 0.585}
    found = uneven_noise([steady, wild, {0: 0.915, 1: 0.837, 2: 0.870}])
    assert found == pytest.approx((0.0045, 0.1221), abs=1e-4)
    assert uneven_noise([wild, steady]) == pytest.approx((0.0045, 0.1221), abs=1e-4)


def test_rows_with_one_noise_are_seldom_called_uneven() -> None:
    rng = np.random.default_rng(0)
    told = [
        uneven_noise([dict(enumerate(rng.normal(size=4))) for _ in range(6)]) is not None
        for _ in range(400)
    ]
    assert 0.04 < np.mean(told) < 0.16


def test_two_seeds_or_one_row_say_nothing_of_it() -> None:
    assert uneven_noise([{0: 0.1, 1: 0.9}, {0: 0.5, 1: 0.5001}]) is None
    assert uneven_noise([{0: 0.1, 1: 0.9, 2: 0.4}]) is None
    assert uneven_noise([{0: 0.5, 1: 0.5, 2: 0.5}, {0: 0.1, 1: 0.9, 2: 0.4}]) is None
