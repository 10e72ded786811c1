"""Sweeps beside each other: one point for all hypervolumes, warnings where data differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rc_core.errors import InputError
from sweeps.pareto import hypervolume
from sweeps.reporting.compare import compare, comparison_json, comparison_text
from sweeps.reporting.compare_page import comparison_page, write_comparison
from sweeps.reporting.facts import Facts
from tests.sweeps.reporting._made import confirm_made, made_sweep, write_record


@pytest.fixture
def two(tmp_path: Path) -> tuple[Facts, Facts]:
    first = made_sweep(tmp_path, trials=12, name="first")
    return Facts.read(first), Facts.read(made_sweep(tmp_path, trials=12, name="second", seed=1))


def test_sweeps_made_alike_are_compared_without_a_warning(two: tuple[Facts, Facts]) -> None:
    found = compare(two)
    assert found.warnings == [] and list(found.worst) == [0.0, 0.0]
    for side, facts in zip(found.sides, two, strict=True):
        points = [[r.id_accuracy, r.ood_accuracy] for r in facts.rows if not r.reference]
        assert side.volume == pytest.approx(hypervolume(points, [0, 0], ["max", "max"]))
        assert side.with_reference >= side.volume
    text = comparison_text(found)
    for word in ("first", "second", "knee", "best OOD", "hypervolume: of compressed models"):
        assert word in text
    assert "warning" not in text


def test_the_share_beaten_is_counted_by_hand(two: tuple[Facts, Facts]) -> None:
    found = compare(two)
    for i, side in enumerate(found.sides):
        others = [r for r in two[1 - i].rows if not r.reference]
        mine = two[i].candidates
        beaten = [
            row
            for row in mine
            if any(
                o.id_accuracy >= row.id_accuracy
                and o.ood_accuracy >= row.ood_accuracy
                and (o.id_accuracy, o.ood_accuracy) != (row.id_accuracy, row.ood_accuracy)
                for o in others
            )
        ]
        assert side.beaten == pytest.approx(len(beaten) / len(mine))


def test_what_makes_numbers_incomparable_is_said(tmp_path: Path) -> None:
    first = made_sweep(tmp_path, trials=6, name="first")
    second = made_sweep(tmp_path, trials=9, name="second", model="tiny:roberta")
    for record in second.records:
        data = {**record.data, "digest": "d1", "ood_dev.overlap": {"samples": 300}}
        training = {**record.config["training"], "seed": 5}
        write_record(
            second.folder,
            record.model_copy(
                update={"data": data, "config": {**record.config, "training": training}}
            ),
        )
    found = compare([Facts.read(first), Facts.read(second)])
    kinds = [text.split(" differ")[0] for text in found.warnings]
    assert kinds == ["data", "split sizes", "encoders", "training seeds", "numbers of trials"]
    assert "accuracies cannot be compared" in found.warnings[0]
    assert comparison_text(found).startswith("warning: data differ")


def test_only_common_objectives_are_compared_from_the_worst_of_all(tmp_path: Path) -> None:
    size = {"footprint/nonzero_parameters": "min"}
    first = made_sweep(tmp_path, trials=8, name="a", objectives={"ood_dev/accuracy": "max"} | size)
    second = made_sweep(tmp_path, trials=8, name="b", objectives={"id_dev/accuracy": "max"} | size)
    found = compare([Facts.read(first), Facts.read(second)])
    assert list(found.objectives) == ["footprint/nonzero_parameters"]
    every = [r for side in found.sides for r in side.facts.rows]
    assert list(found.worst) == [max(row.parameters for row in every)]
    assert [text for text in found.warnings if text.startswith("objectives differ")]
    third = made_sweep(tmp_path, trials=4, name="c", objectives={"ood_dev/accuracy": "max"})
    with pytest.raises(InputError, match="objective in common"):
        compare([Facts.read(second), Facts.read(third)])


def test_one_sweep_is_no_comparison(two: tuple[Facts, Facts]) -> None:
    with pytest.raises(InputError, match="two sweeps"):
        compare(two[:1])


def test_files_and_json(two: tuple[Facts, Facts], tmp_path: Path) -> None:
    # The same name twice, say from two storages.
    found = compare([two[0], two[0]])
    assert [side.label for side in found.sides] == ["first (1)", "first (2)"]
    page = write_comparison(found, tmp_path / "out")
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 5_000
    assert "first (2)" in page.read_text()
    assert "Up and right is better. The fronts are joined." in page.read_text()
    ways = {
        "footprint/nonzero_parameters": "min",
        "ood_dev/accuracy": "max",
        "id_dev/accuracy": "max",
    }
    third = Facts.read(made_sweep(tmp_path, trials=8, name="third", objectives=ways))
    other = comparison_page(compare([third, third]))
    assert "Up and left is better. Pale dots are dominated." in other
    document = json.loads(json.dumps(comparison_json(found), allow_nan=False))
    assert document["sweeps"][0]["hypervolume"] == document["sweeps"][1]["hypervolume"]


def test_a_confirmed_search_is_compared_by_its_means_over_new_seeds(tmp_path: Path) -> None:
    lucky, plain = made_sweep(tmp_path, trials=8, name="lucky"), made_sweep(tmp_path, trials=8)
    assert "one seed each: no difference" in comparison_text(
        compare([Facts.read(lucky), Facts.read(plain)])
    )
    confirm_made(lucky, seeds=3)
    facts = Facts.read(lucky)
    found = compare([facts, Facts.read(plain)])
    assert facts.confirmation is not None
    means = {row.id: row.estimates["ood_dev/accuracy"].mean for row in facts.confirmed_rows}
    side = found.sides[0]
    assert {row.id: row.ood_accuracy for row in side.facts.units} == pytest.approx(means)
    assert means != pytest.approx(
        {row.id: row.ood_accuracy for row in facts.rows if row.id in means}
    )
    points = [
        [each.estimates[name].mean for name in facts.objectives]
        for each in facts.confirmed_rows
        if not each.reference
    ]
    assert side.volume == pytest.approx(hypervolume(points, [0, 0], ["max", "max"]))
    assert side.best()["knee"].id == facts.knee
    said = "lucky: means over new seeds; made: one seed each (the best of single seeds is high by"
    assert said in comparison_text(found) and said in comparison_page(found)
    assert [each["front_is_of"] for each in comparison_json(found)["sweeps"]] == [
        "means over new seeds",
        "trials",
    ]
    # The report of the same sweep keeps the search's trials beside the means.
    assert len(facts.units) == 8 and not facts.own_seeds
