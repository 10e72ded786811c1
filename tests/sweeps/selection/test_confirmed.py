"""A confirmation of records made by hand: means without the search's value, chances, texts."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from rc_core.config import seedless
from rc_core.errors import ConfigError, StorageError
from rc_core.record import TrialRecord
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig
from sweeps.folder import SweepFolder
from sweeps.objectives import ID_KEY, OOD_KEY
from sweeps.search.race import proposals
from sweeps.selection.confirmed import _marked, cannot_be_told_apart, confirmed, optimism
from sweeps.selection.confirmed_text import confirmed_json, confirmed_table, dense_text
from sweeps.selection.mean_rows import mean_rows
from sweeps.selection.noise import power_text
from sweeps.selection.options import options
from sweeps.stored_sweep import StoredSweep
from sweeps.verification import confirm as confirming
from sweeps.verification.confirm import FIRST_SEED, confirmation
from sweeps.views.progress import Progress

VALUES: dict[str, Any] = {
    "model": "tiny:bert",
    "task": {"name": "shortcut_nli", "train_size": 100},
    "training": {"epochs": 1, "seed": 0},
    "compression": {"name": "magnitude"},
    "space": {"compression.sparsity": {"uniform": [0.1, 0.9]}},
}
# sparsity -> what the search measured, ID and OOD
SEARCHED = {0.3: (0.90, 0.80), 0.5: (0.92, 0.70), 0.8: (0.60, 0.55)}


def write(
    folder: SweepFolder, trial_id: str, config: Any, values: tuple[float, float], **changes: Any
) -> None:
    record = TrialRecord(
        id=trial_id,
        status="finished",
        name=config.compression.label(),
        config=config.as_dict(),
        fingerprint=config.fingerprint(),
        reference=config.is_reference(),
        attempt=9,
        started=0.0,
        metrics={ID_KEY: values[0], OOD_KEY: values[1]},
    )
    folder.trial(trial_id).commit(record.model_copy(update=changes))


@pytest.fixture
def sweep(tmp_path: Path) -> StoredSweep:
    config = SweepConfig(VALUES)
    folder = SweepFolder.create(tmp_path, "found", "x")
    folder.write_config(config.as_dict())
    write(folder, "t0000", config.reference(), (0.93, 0.81))
    for i, (sparsity, values) in enumerate(SEARCHED.items(), start=1):
        write(folder, f"t{i:04d}", config.trial({"compression.sparsity": sparsity}), values)
    return StoredSweep(folder)


def confirm(sweep: StoredSweep, found: dict[int, list[tuple[float, float]]]) -> StoredSweep:
    """Write a confirmation in which row i of the search has these values, one per new seed."""
    config = confirmation(sweep, seeds=3)
    folder = SweepFolder.create(sweep.folder.storage, "found.confirm", "x")
    folder.write_config(config.as_dict())
    for number, (trial_id, point) in enumerate(config.first_trials().items()):
        row, seed = divmod(number, 3)
        if row in found and seed < len(found[row]):
            write(folder, trial_id, config.trial(point), found[row][seed])
    return sweep


def test_rows_are_the_searched_configurations_with_new_seeds_and_the_old_teacher(
    sweep: StoredSweep,
) -> None:
    config = confirmation(sweep, seeds=3)
    trials = [config.trial(point) for point in config.first_trials().values()]
    assert len(trials) == 4 * 3
    assert {trial.training.seed for trial in trials} == {FIRST_SEED + i for i in range(3)}
    assert {trial.teacher["seed"] for trial in trials} == {0}
    assert {seedless(trial.as_dict()) for trial in trials} == {
        seedless(record.config) for record in sweep.records
    }
    # The dense row is trained anew: it is not the teacher, whose seed stays.
    assert not any(trial.is_reference() for trial in trials)


def test_new_seeds_of_a_sweep_that_stopped_early_are_trained_to_their_end(
    sweep: StoredSweep,
) -> None:
    stopping = {"scheduler": {"name": "pareto_asha", "eta": 2}, "training": {"rungs": 4}}
    sweep.folder.write_config(SweepConfig(merge(VALUES, stopping)).as_dict())
    settings = confirmation(StoredSweep(sweep.folder), seeds=2).settings
    assert (settings.scheduler.name, settings.design) == ("none", "fixed")


@pytest.mark.parametrize("ended", [True, False])
def test_trials_that_an_interrupted_search_has_open_are_said(
    sweep: StoredSweep, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    values = sweep.config["search"] | {"trials": 4 if ended else 9}
    sweep.folder.write_config(sweep.config | {"search": values})
    found = StoredSweep(sweep.folder)
    if not ended:
        left = {"status": "running", "metrics": {}}
        write(sweep.folder, "t0004", SweepConfig(VALUES).trial({}), (0.9, 0.8), **left)
    monkeypatch.setattr(confirming.runner, "launch", lambda *a, **o: found)  # type: ignore[attr-defined]
    monkeypatch.setattr(confirming, "conclude", lambda done: None)
    said = io.StringIO()
    confirming.confirm(found, seeds=2, progress=Progress(Console(file=said, soft_wrap=True)))
    if ended:
        assert said.getvalue() == ""
    else:
        assert "found was interrupted: 5 of its 9 trials are open" in said.getvalue()
        assert f"rc-sweep resume found --storage {sweep.folder.storage}" in said.getvalue()


def from_teacher(sweep: StoredSweep) -> StoredSweep:
    """Add a searched trial that starts from the fine-tuned dense model."""
    config = SweepConfig(VALUES | {"compression": {"name": "magnitude", "init": "teacher"}})
    write(sweep.folder, "t0004", config.trial({"compression.sparsity": 0.4}), (0.94, 0.85))
    return StoredSweep(sweep.folder)


@pytest.mark.parametrize(
    ("start", "asked", "whole"),
    [(False, None, False), (True, None, True), (True, False, False), (False, True, True)],
)
def test_seeds_get_a_teacher_each_where_trials_start_from_it(
    sweep: StoredSweep,
    monkeypatch: pytest.MonkeyPatch,
    start: bool,
    asked: bool | None,
    whole: bool,
) -> None:
    """The luck of one teacher would be in each of their seeds, and in none of the dense row's."""
    found = from_teacher(sweep) if start else sweep
    launched: list[SweepConfig] = []

    def launch(config: SweepConfig, **_: object) -> StoredSweep:
        launched.append(config)
        return found

    monkeypatch.setattr(confirming.runner, "launch", launch)  # type: ignore[attr-defined]
    monkeypatch.setattr(confirming, "conclude", lambda done: None)
    said = io.StringIO()
    progress = Progress(Console(file=said, soft_wrap=True))
    confirming.confirm(found, seeds=2, whole=asked, progress=progress)
    (config,) = launched
    assert config.settings.confirm.whole is whole
    trials = [config.trial(point) for point in config.first_trials().values()]
    assert {trial.teacher["seed"] == trial.training.seed for trial in trials} == {whole}
    told = "each new seed gets a teacher of its own" in said.getvalue()
    assert told is (whole and asked is None)


@pytest.mark.parametrize("begun", [True, False])
def test_a_confirmation_goes_on_as_it_was_begun(
    sweep: StoredSweep, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    config = confirmation(sweep, seeds=2, whole=begun)
    folder = SweepFolder.create(sweep.folder.storage, "found.confirm", "x")
    folder.write_config(config.as_dict())
    monkeypatch.setattr(
        confirming.runner,  # type: ignore[attr-defined]
        "resume",
        lambda path, **_: StoredSweep(folder),
    )
    monkeypatch.setattr(confirming, "conclude", lambda done: None)
    confirming.confirm(from_teacher(sweep), seeds=3, progress=Progress(Console(file=io.StringIO())))
    assert folder.read_config()["confirm"]["whole"] is begun


@pytest.mark.parametrize("teachers", [1, 3])
def test_of_seeds_with_one_start_no_difference_from_dense_is_shown(
    sweep: StoredSweep, teachers: int
) -> None:
    found = from_teacher(sweep)
    dense = [(0.93, 0.70), (0.92, 0.71), (0.93, 0.69)]
    confirm(found, {0: dense, 4: [(0.97, 0.92), (0.97, 0.93), (0.98, 0.92)]})
    other = found.confirmation
    assert other is not None
    for record in other.records:
        seed = record.config["training"]["seed"]
        teacher = f"teacher-{seed % teachers}"
        other.folder.trial(record.id).commit(
            record.model_copy(update={"artifacts": {"teacher": teacher}})
        )
    result = confirmed(StoredSweep(found.folder))
    assert result is not None
    row = next(row for row in result.rows if row.id == "t0004")
    assert row.one_start is (teachers == 1)
    dense_row = next(row for row in result.rows if row.reference)
    assert cannot_be_told_apart(result, row, dense_row, OOD_KEY) is (teachers == 1)
    assert dense_text(row, result) == ("not shown" if teachers == 1 else "better")
    text = " ".join(confirmed_table(result).split())
    told = "t0004: all seeds start from one dense model (init=teacher)"
    assert (told in text) is (teachers == 1)
    assert ("rc-sweep confirm found --whole" in text) is (teachers == 1)


def test_one_that_goes_on_is_changed_while_no_driver_can_start(
    sweep: StoredSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirm(sweep, {})
    write_config, locked = SweepFolder.write_config, []

    def write_locked(folder: SweepFolder, values: dict[str, Any]) -> None:
        locked.append(folder.is_running())
        write_config(folder, values)

    def resume(path: Path, **options: Any) -> StoredSweep:
        assert not SweepFolder(path).is_running()
        return StoredSweep(SweepFolder(path))

    monkeypatch.setattr(SweepFolder, "write_config", write_locked)
    monkeypatch.setattr(confirming.runner, "resume", resume)  # type: ignore[attr-defined]
    monkeypatch.setattr(confirming, "keep_clusters", lambda sweep: None)
    done = confirming.confirm(sweep, seeds=4)
    assert locked == [True] and len(done.config["search"]["points"]) == 4 * 4


def test_a_confirmation_is_not_confirmed_itself(sweep: StoredSweep) -> None:
    confirm(sweep, {})
    assert sweep.confirmation is not None
    told = r"found\.confirm holds the new seeds of found; .*rc-sweep confirm found --seeds N"
    with pytest.raises(ConfigError, match=told):
        confirmation(sweep.confirmation, seeds=3)


def test_whole_gives_the_teacher_the_new_seeds_too(sweep: StoredSweep) -> None:
    assert confirmation(sweep, seeds=2, hours=0.5).settings.budget.hours == 0.5
    config = confirmation(sweep, seeds=2, whole=True)
    for point in config.first_trials().values():
        trial = config.trial(point)
        assert trial.teacher["seed"] == trial.training.seed


def test_wrong_requests_are_told_all_at_once(sweep: StoredSweep, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        confirmation(sweep, seeds=1, also=["t0002", "t0099"])
    assert len(caught.value.problems) == 2
    empty = SweepFolder.create(tmp_path, "empty", "x")
    config = SweepConfig(VALUES)
    empty.write_config(config.as_dict())
    with pytest.raises(StorageError, match="a finished trial of a compressed model"):
        confirmation(StoredSweep(empty), seeds=2)
    # As the health gate leaves it: there is nothing to compare the dense row with.
    write(empty, "t0000", config.reference(), (0.5, 0.5))
    with pytest.raises(StorageError, match="a finished trial of a compressed model"):
        confirmation(StoredSweep(empty), seeds=2)
    with pytest.raises(ConfigError, match="rc-sweep confirm"):
        SweepConfig(VALUES | {"search": {"name": "race"}})


def test_the_race_starts_with_the_front_and_the_reference(sweep: StoredSweep) -> None:
    config = confirmation(sweep, seeds=3, also=["t0003"])
    folder = SweepFolder.create(sweep.folder.storage, "found.confirm", "x")
    race = proposals(config, folder.study)
    left = list(config.first_trials())
    handed = []
    while (chosen := race.choose(left)) is not None:
        left.remove(chosen)
        handed.append(chosen)
    rows = [(int(trial_id[1:]) - 1) // 3 for trial_id in handed]
    # Two each, and then it waits for results: nothing is decided without them.
    assert sorted(rows) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_rows_without_new_seeds_share_the_searchs_seed(sweep: StoredSweep) -> None:
    config = confirmation(sweep, seeds=3)
    folder = SweepFolder.create(sweep.folder.storage, "found.confirm", "x")
    race: Any = proposals(config, folder.study)
    searched = [record.config["training"]["seed"] for record in sweep.records]
    assert [row.searched_seed for row in race._rows] == searched
    assert [list(row.values) for row in race._rows] == [[seed] for seed in searched]


def test_what_seeds_do_to_all_rows_is_no_doubt_about_the_front(sweep: StoredSweep) -> None:
    """Row 2 is a point behind row 1 with every seed, which move both by five points."""
    seeds, wiggle = (0.05, -0.05, 0.01), (0.001, -0.001, 0.0)
    rows = {
        0: [(0.95 + s - w, 0.85 + s + w) for s, w in zip(seeds, wiggle, strict=True)],
        1: [(0.90 + s + w, 0.80 + s) for s, w in zip(seeds, wiggle, strict=True)],
        2: [(0.89 + s, 0.79 + s - w) for s, w in zip(seeds, wiggle, strict=True)],
    }
    found = confirmed(confirm(sweep, rows))
    assert found is not None
    chances = {row.id: row.chance for row in found.rows}
    assert chances["t0001"] == pytest.approx(1.0, abs=0.02)
    assert chances["t0002"] == pytest.approx(0.0, abs=0.02)


def test_means_are_of_new_seeds_and_luck_is_named(sweep: StoredSweep) -> None:
    found = confirmed(
        confirm(
            sweep,
            {
                0: [(0.93, 0.80), (0.93, 0.82), (0.93, 0.81)],
                1: [(0.90, 0.75), (0.90, 0.77), (0.90, 0.76)],
                2: [(0.92, 0.70), (0.92, 0.72)],
            },
        )
    )
    assert found is not None
    rows = {row.id: row for row in found.rows}
    assert rows["t0001"].estimates[OOD_KEY].mean == pytest.approx(0.76)
    assert rows["t0001"].searched[OOD_KEY] == 0.80
    assert rows["t0001"].seeds == 3 and rows["t0002"].seeds == 2
    assert rows["t0001"].confirmed and rows["t0002"].confirmed
    assert rows["t0000"].reference and rows["t0000"].chance is None
    assert "t0003" not in rows
    assert optimism(found, OOD_KEY).mean == pytest.approx((0.04 - 0.01) / 2)
    difference = rows["t0001"].against_reference
    assert difference is not None and difference.mean == pytest.approx(-5.0)
    assert found.noise.df == 2 + 2 + 1
    squares = 2 * 0.01**2 + 2 * 0.01**2 + 2 * 0.01**2
    assert found.noise.deviations[OOD_KEY] == pytest.approx((squares / 5) ** 0.5)


def test_a_bias_needs_a_gap_that_so_few_samples_show(sweep: StoredSweep) -> None:
    """By hand: 12 points, 100 samples of each role: standard error 4.7 points; 50: 6.6."""
    config = confirmation(sweep, seeds=3)
    folder = SweepFolder.create(sweep.folder.storage, "found.confirm", "x")
    folder.write_config(config.as_dict())
    trials = list(config.first_trials().items())

    def bias(samples: int, seeds: int) -> tuple[float, str | None]:
        data = {f"{role}_dev.x": {"samples": samples} for role in ("id", "ood")}
        for place, values in ((0, (0.93, 0.81)), (1, (0.92, 0.74))):
            for trial_id, point in trials[3 * place : 3 * place + seeds]:
                write(folder, trial_id, config.trial(point), values, data=data)
        found = confirmed(sweep)
        assert found is not None
        row = next(row for row in found.rows if row.id == "t0001")
        assert {each.id: each.bias for each in options(sweep, found)}["t0001"] == (
            pytest.approx(row.bias.mean, nan_ok=True),
            row.bias_reason,
        )
        return row.bias.mean, row.bias_reason

    for seeds in (1, 2):
        assert bias(100, seeds) == (pytest.approx((0.18 / 0.92) / (0.12 / 0.93)), None)
        assert dense_row(sweep) == ("1", 1.0, 1.0)
        value, reason = bias(50, seeds)
        assert value != value and reason is not None and "standard error 6.6 points" in reason
        # The dense row's own says as little.
        assert dense_row(sweep) == ("-", None, pytest.approx(math.nan, nan_ok=True))


def test_a_bias_needs_a_gap_that_differs_little_by_seed(sweep: StoredSweep) -> None:
    """By hand: gaps of 2, 12 and 22 points are 12 with Student's half width, over 1.96, of 12.7."""
    config = confirmation(sweep, seeds=3)
    folder = SweepFolder.create(sweep.folder.storage, "found.confirm", "x")
    folder.write_config(config.as_dict())
    trials = list(config.first_trials().items())
    data = {f"{role}_dev.x": {"samples": 100_000} for role in ("id", "ood")}

    def bias(dense: tuple[float, ...], ours: tuple[float, ...]) -> tuple[float, str | None]:
        for place, outside in enumerate((dense, ours)):
            for (trial_id, point), each in zip(trials[3 * place :], outside, strict=False):
                write(folder, trial_id, config.trial(point), (0.93, each), data=data)
        found = confirmed(sweep)
        assert found is not None
        row = next(row for row in found.rows if row.id == "t0001")
        return row.bias.mean, row.bias_reason

    value, reason = bias((0.91, 0.81, 0.71), (0.75, 0.75, 0.75))
    assert math.isnan(value) and reason is not None and "standard error 12.7 points" in reason
    # How the compressed model's gap varies is no matter of the guard.
    assert bias((0.81, 0.81, 0.81), (0.91, 0.81, 0.71)) == (pytest.approx(1.0), None)


def dense_row(sweep: StoredSweep) -> tuple[str, float | None, float]:
    """Return the dense row's bias: as the table shows it, in JSON, and as a mean's row has it."""
    found = confirmed(sweep)
    assert found is not None
    (line,) = [each for each in confirmed_table(found).splitlines() if "(dense reference)" in each]
    (values,) = [each for each in confirmed_json(found)["rows"] if each["reference"]]
    means = mean_rows(found, sweep.rows, sweep.objectives)
    (row,) = [each for each in means if each.reference]
    return (
        line.replace("\u2502", " ").split()[-1],
        values["relative_bias"]["mean"],
        row.relative_bias,
    )


def test_before_a_confirmation_a_bias_is_the_record_s_own(sweep: StoredSweep) -> None:
    config, key = SweepConfig(VALUES), "ood_dev/relative_bias"
    metrics = {ID_KEY: 0.92, OOD_KEY: 0.70, key: float("nan")}
    trial = config.trial({"compression.sparsity": 0.5})
    write(sweep.folder, "t0002", trial, (0, 0), metrics=metrics, undefined={key: "few samples"})
    found = {each.id: each.bias for each in options(sweep)}
    assert found["t0002"] is not None and found["t0002"][1] == "few samples"


def test_texts_say_what_the_seeds_show(sweep: StoredSweep) -> None:
    found = confirmed(
        confirm(sweep, {0: [(0.93, 0.80), (0.94, 0.83)], 1: [(0.90, 0.75), (0.91, 0.79)]})
    )
    assert found is not None
    text = confirmed_table(found)
    assert "4 trainings instead of 12" in text and "not shown" in text
    assert "luck: the search's front (1 configuration) had +3.0 \u00b1" in text
    assert "dense reference" in text and "on front" in text
    power = power_text(found.sweep, found.noise, difference=1.0)
    assert "To show 1 OOD points:" in power and "80 % power" in power
    assert confirmed_json(found)["rows"][0]["id"] == "t0001"


def test_without_a_confirmation_there_is_nothing(sweep: StoredSweep) -> None:
    assert confirmed(sweep) is None
    assert sweep.confirmation is None


def test_of_rows_that_are_alike_one_seed_is_no_better_than_two(sweep: StoredSweep) -> None:
    """Of many rows with one seed the best was lucky, as the search's own best was."""
    metrics = [ID_KEY, OOD_KEY]
    points = {
        "lucky": np.array([[0.90, 0.90]]),
        "a": np.array([[0.84, 0.70], [0.86, 0.72]]),
        "b": np.array([[0.84, 0.69], [0.86, 0.71]]),
    }
    alike = dict.fromkeys(points, 0.3)
    assert _marked(sweep, alike, points, metrics) == {"a"}
    assert _marked(sweep, alike | {"lucky": 0.6}, points, metrics) == {"lucky"}, "noise is known"
    single = {key: values[:1] for key, values in points.items()}
    assert _marked(sweep, alike, single, metrics) == {"lucky"}, "none has more"
