"""What tracking is told: names that make sense alone, data with roles, metrics on their data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from rc_core.config import seedless
from rc_core.metrics.footprint import PACKED
from sweeps.folder import SweepFolder
from sweeps.pareto import knee
from sweeps.rows import ROUNDED, rows
from sweeps.stored_sweep import StoredSweep
from sweeps.tracking.tracked import TrialFacts, datasets, front_models, measured, summary
from sweeps.verification.confirm import confirmation
from tests.sweeps._made_sweep import DATA, make_sweep

OBJECTIVES = {"id_dev/accuracy": "max", "ood_dev/accuracy": "max"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    return make_sweep(tmp_path_factory.mktemp("tracked"), "first", trials=12, track=False)


def test_only_splits_are_data_and_each_has_its_role() -> None:
    found = datasets(DATA, {"name": "shortcut_nli"})
    assert [(each["role"], each["name"]) for each in found] == [
        ("train", "train.shortcut_nli"),
        ("id_dev", "id_dev.shortcut_nli"),
        ("ood_dev", "ood_dev.overlap"),
    ]
    assert found[0]["digest"] == "56896be6eb972d48" and found[0]["samples"] == 3000
    assert found[0]["source"] == '{"name": "shortcut_nli"}'


@pytest.mark.parametrize(
    ("suites", "expected"),
    [
        (("hans",), {"ood_dev/accuracy": "ood_dev.hans"}),
        (
            ("hans", "paws"),
            # The role's own figure is of both suites, so it is of neither.
            {
                "ood_dev/accuracy": None,
                "ood_dev/hans/accuracy": "ood_dev.hans",
                "ood_dev/paws/accuracy": "ood_dev.paws",
            },
        ),
    ],
)
def test_a_metric_hangs_on_the_split_it_was_measured_on(
    suites: tuple[str, ...], expected: dict[str, Any]
) -> None:
    data = datasets({f"ood_dev.{s}": {"digest": s, "samples": 1} for s in suites}, {})
    metrics = {"ood_dev/accuracy": 0.5, "ood_dev/hans/subcase.le/accuracy": 0.1, "other/x": 1.0}
    metrics |= {f"ood_dev/{suite}/accuracy": 0.5 for suite in suites}
    metrics |= {"ood_dev/relative_bias": math.nan, "footprint/parameters": 5.0}
    found = {each["key"]: each for each in measured(metrics, data, 7)}
    assert found.pop("footprint/parameters")["dataset"] is None
    assert {key: each["dataset"] for key, each in found.items()} == expected
    assert all(each["step"] == 7 for each in found.values())


def test_the_models_to_choose_from_are_told_with_their_export(folder: SweepFolder) -> None:
    records = {record.id: record for record in folder.records()}
    found = rows(list(records.values()), OBJECTIVES)
    models = front_models(found, records, folder, ("loss.name",))
    assert [m["trial_id"] for m in models] == [r.id for r in found if r.on_front or r.candidate]
    for model in models:
        assert model["tags"]["export"].startswith(
            f"rc-sweep export first --pick {model['trial_id']}"
        )
        assert model["metrics"] and set(model["params"]) == {"loss.name"}
    text = summary(found, OBJECTIVES)
    assert all(model["trial_id"] in text for model in models) and "nan" not in text
    # MLflow folds all but the first lines: they say what to take.
    first = text.splitlines()[0]
    candidates = [row for row in found if row.candidate]
    points = [[row.values[name] for name in OBJECTIVES] for row in candidates]
    best = candidates[knee(points, list(OBJECTIVES.values()))]
    assert first.startswith(f"Knee: **{best.id} {best.name}**: ID {100 * best.id_accuracy:.1f} %")
    assert "; dense: ID " in first
    assert "one seed each" in text and "| ID | OOD |" in text
    failed = [row for row in found if row.rank is None]
    assert failed and not summary(failed, OBJECTIVES).startswith("Knee")


def test_sizes_say_that_rounded_weights_count_by_their_bits(folder: SweepFolder) -> None:
    plain = folder.records()
    bits = [r.model_copy(update={"metrics": r.metrics | {PACKED: 1e6}}) for r in plain]
    told = [summary(rows(records, OBJECTIVES), OBJECTIVES) for records in (plain, bits)]
    assert [ROUNDED in text for text in told] == [False, True]


def test_what_is_undefined_is_a_dash_and_a_name_stays_whole(folder: SweepFolder) -> None:
    named = []
    for record in folder.records():
        metrics = {k: x for k, x in record.metrics.items() if k != "footprint/nonzero_parameters"}
        named.append(record.model_copy(update={"name": "student-nanoBERT", "metrics": metrics}))
    lines = summary(rows(named, OBJECTIVES), OBJECTIVES).splitlines()
    table = lines[lines.index("|---|---|---|---|---|---|") + 1 :]
    assert table
    for line in table:
        assert "student-nanoBERT" in line
        assert line.endswith(" | - |"), "it was not measured"


def test_a_confirmations_trial_names_what_it_repeats(folder: SweepFolder) -> None:
    (folder.path / "sweep_id").write_text("first-id\n")
    config = confirmation(StoredSweep(folder), seeds=2)
    beside = SweepFolder(folder.path.with_name("first.confirm"))
    facts = TrialFacts(config, beside)
    assert facts.parent == {"sweep_id": "first-id", "trial_id": None}
    point = config.settings.search.points[-1]
    # Several trials may share a configuration; the first of them is what the others repeat.
    key = seedless(config.trial(point).as_dict())
    repeated = next(r for r in folder.records() if seedless(r.config) == key)
    told = facts.of("t0099", repeated.name, config.trial(point).as_dict())
    assert told["parent"] == {"sweep_id": "first-id", "trial_id": repeated.id}
    assert told["name"] == f"{repeated.id} {repeated.name} seed={point['training.seed']}"
    assert set(told["params"]) >= {"compression.name", "loss.name", "training.seed"}
    assert "training.batch_size" not in told["params"], "the same in every trial"


def test_a_trial_of_an_ordinary_sweep_is_below_its_sweep(folder: SweepFolder) -> None:
    sweep = StoredSweep(folder)
    from sweeps.config import SweepConfig

    facts = TrialFacts(SweepConfig(sweep.config), folder)
    record = sweep.records[3]
    told = facts.of(record.id, record.name, record.config)
    assert facts.parent is None and "parent" not in told
    assert told["name"] == f"{record.id} {record.name}"


def test_a_configuration_of_another_version_is_told_all_the_same(
    folder: SweepFolder, tmp_path: Path
) -> None:
    from sweeps.config import SweepConfig

    facts = TrialFacts(SweepConfig(StoredSweep(folder).config), folder)
    told = facts.of("t0001", "old", {"loss": {"name": "gone"}, "compression": {"name": "dense"}})
    assert told["params"] == {"compression.name": "dense", "loss.name": "gone"}
    assert told["changed"] == {}
