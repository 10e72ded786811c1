"""Rows of a sweep: who is on the front, who is not and why, and what tables print of them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from rc_core.record import TrialRecord
from sweeps.pareto import hypervolume
from sweeps.rows import front_json, rows
from sweeps.selection.tested_text import test_table as sealed_table
from sweeps.tables import front_table, render
from sweeps.views.picture import front_picture

OBJECTIVES = {"id_dev/accuracy": "max", "ood_dev/accuracy": "max"}


def record(
    number: int, id_accuracy: float, ood: float, *, loss: str = "rmc", **changes: Any
) -> TrialRecord:
    return TrialRecord(
        id=f"t{number:04d}",
        status="finished",
        name=f"magnitude-{number} {loss}",
        config={"compression": {"name": "magnitude"}, "loss": {"name": loss}},
        fingerprint=str(number),
        started=0.0,
        metrics={
            "id_dev/accuracy": id_accuracy,
            "ood_dev/accuracy": ood,
            "footprint/nonzero_parameters": 1e6 * (10 + number),
        },
        seconds={"total": 12.0},
    ).model_copy(update=changes)


REFERENCE = record(0, 0.95, 0.80, loss="vanilla", reference=True, name="dense")
TRIALS = [
    REFERENCE,
    record(1, 0.96, 0.70),
    record(2, 0.94, 0.75),
    record(3, 0.96, 0.70, loss="vanilla"),
    record(4, 0.5, 0.9, status="failed", error="diverged [/red] at step 3"),
    record(5, 0.99, math.nan, undefined={"ood_dev/accuracy": "empty slice"}),
]


def test_front_is_what_nothing_beats_and_the_rest_has_a_reason() -> None:
    found = {row.id: row for row in rows(TRIALS, OBJECTIVES)}
    assert [i for i, row in found.items() if row.on_front] == ["t0000", "t0001", "t0003"]
    assert found["t0002"].rank == 1
    assert found["t0004"].rank is None and found["t0004"].excluded == (
        "failed: diverged [/red] at step 3"
    )
    assert found["t0005"].excluded == "ood_dev/accuracy is undefined: empty slice"


@pytest.mark.parametrize(
    ("status", "why"),
    [("stopped", "stopped"), ("failed", "failed"), ("running", "not finished")],
)
def test_a_trial_that_did_not_finish_is_never_on_the_front(status: str, why: str) -> None:
    best = record(7, 0.99, 0.99, status=status)
    found = {row.id: row for row in rows([*TRIALS, best], OBJECTIVES)}
    assert found["t0007"].rank is None and not found["t0007"].candidate
    assert found["t0007"].excluded == why and found["t0001"].on_front


def test_rounded_weights_count_by_their_bits_and_that_is_said() -> None:
    """8 M of 8 bits and 3 M of 32 bits: 5 M."""
    metrics = TRIALS[1].metrics | {"footprint/packed_bytes": 8e6 + 4 * 3e6}
    trials = [REFERENCE, TRIALS[1].model_copy(update={"metrics": metrics}), *TRIALS[2:]]
    found = {row.id: row for row in rows(trials, OBJECTIVES)}
    assert found["t0001"].size == 5e6 and found["t0001"].rounded
    assert found["t0001"].parameters == 11e6, "as measured, in JSON"
    assert found["t0002"].size == 12e6 and not found["t0002"].rounded
    text = render(front_table(list(found.values()), OBJECTIVES))
    (line,) = (line for line in text.splitlines() if "t0001" in line)
    assert "5.0" in line and "11.0" not in line
    note = "a rounded weight counts by its bits, one of 8 bits as a quarter"
    assert note in text and note not in render(front_table(rows(TRIALS, OBJECTIVES), OBJECTIVES))


def test_without_the_reference_there_is_a_front_to_choose_from() -> None:
    found = rows(
        [REFERENCE, record(1, 0.9, 0.7), record(2, 0.8, 0.75), record(3, 0.8, 0.7)], OBJECTIVES
    )
    assert [row.id for row in found if row.on_front] == ["t0000"]
    assert [row.id for row in found if row.candidate] == ["t0001", "t0002"]
    text = render(front_table(found, OBJECTIVES))
    marks = [line.replace("\u2502", " ").split()[:2] for line in text.splitlines()]
    assert [mark for mark in marks if mark[:1] in (["*"], ["+"])] == [
        ["*", "t0000"], ["+", "t0001"], ["+", "t0002"],
    ]  # fmt: skip


def test_rows_compare_with_the_reference() -> None:
    found = {row.id: row for row in rows(TRIALS, OBJECTIVES)}
    assert found["t0001"].ood_difference == pytest.approx(-10.0)
    # (0.96 - 0.70) / 0.96 over (0.95 - 0.80) / 0.95: Du et al. 2023, equation 1.
    assert found["t0001"].relative_bias == pytest.approx((0.26 / 0.96) / (0.15 / 0.95))
    assert found["t0000"].relative_bias == pytest.approx(1.0)
    alone = rows(TRIALS[1:3], OBJECTIVES)
    assert math.isnan(alone[0].ood_difference) and math.isnan(alone[0].relative_bias)


def test_a_trial_with_a_teacher_of_its_own_is_compared_with_that_one() -> None:
    metrics = TRIALS[1].metrics | {"ood_dev/difference": -4.0}
    found = rows([REFERENCE, TRIALS[1].model_copy(update={"metrics": metrics})], OBJECTIVES)
    assert found[1].ood_difference == -4.0


@pytest.mark.parametrize(
    ("constraint", "kept", "why"),
    [
        ("id_dev/accuracy >= reference - 0.005", ["t0000", "t0001", "t0003"], "misses"),
        ("footprint/nonzero_parameters <= 12e6", ["t0000", "t0001"], None),
        ("ood_dev/hans/accuracy >= 0.1", [], "was not measured"),
    ],
)
def test_constraints_decide_who_takes_part(
    constraint: str, kept: list[str], why: str | None
) -> None:
    found = rows(TRIALS, OBJECTIVES, constraints=[constraint])
    assert [row.id for row in found if row.on_front] == kept
    excluded = next(row for row in found if row.id == "t0002").excluded
    assert excluded is None if why is None else why in str(excluded)


def test_the_table_shows_front_reference_and_vanilla_as_they_are_called() -> None:
    odd = TRIALS[1].model_copy(update={"name": "student-[0,2] [bold]distil[/]"})
    text = render(front_table(rows([REFERENCE, odd, *TRIALS[2:]], OBJECTIVES), OBJECTIVES))
    assert "3 of 5 finished trials" in text
    assert "student-[0,2] [bold]distil[/]" in text
    assert "diverged [/red] at step 3" in text
    assert "dense (dense reference)" in text
    cells = [line.replace("\u2502", " ").split() for line in text.splitlines()]
    lines = {cell[1]: cell for cell in cells if cell[:1] == ["*"]}
    assert sorted(lines) == ["t0000", "t0001", "t0003"]
    assert "-10.0" in lines["t0001"] and "96.0" in lines["t0001"] and "70.0" in lines["t0001"]


def test_a_note_says_why_a_bias_is_undefined() -> None:
    weak = record(1, 0.80, 0.60)
    text = render(front_table(rows([REFERENCE, weak], OBJECTIVES), OBJECTIVES))
    assert "- [1]" in text and "[1] F_bias undefined: ID accuracy is more than 3 points" in text


def test_a_large_sweep_shows_only_what_everything_is_compared_with() -> None:
    many = [record(i, 0.9, 0.5 + i / 1000) for i in range(1, 40)]
    vanilla = record(50, 0.1, 0.1, loss="vanilla")
    # Of the others only the best is shown: what there is to choose from but for the reference.
    table = front_table(rows([REFERENCE, *many, vanilla], OBJECTIVES), OBJECTIVES)
    assert table.row_count == 3
    assert str(table.title).startswith("Pareto front: 1 of 41 finished trials")


def test_front_json_is_strict_json_with_every_trial_accounted_for() -> None:
    document = front_json(TRIALS, OBJECTIVES, sweep="s")
    read = json.loads(json.dumps(document, allow_nan=False))
    placed = [entry["id"] for key in ("front", "dominated", "excluded") for entry in read[key]]
    assert sorted(placed) == [record.id for record in TRIALS]
    assert read["reference"] == "t0000"
    points = [[0.95, 0.8], [0.96, 0.7], [0.94, 0.75], [0.96, 0.7]]
    assert read["hypervolume"] == pytest.approx(hypervolume(points, [0, 0], ["max", "max"]))
    # By hand: two overlapping rectangles.
    assert read["hypervolume"] == pytest.approx(0.95 * 0.8 + 0.01 * 0.7)


def test_ties_come_by_id_whatever_the_order_in_which_trials_ended() -> None:
    late = [TRIALS[index] for index in (3, 5, 1, 4, 0, 2)]
    assert front_json(late, OBJECTIVES, sweep="s") == front_json(TRIALS, OBJECTIVES, sweep="s")
    shown = [render(front_table(rows(each, OBJECTIVES), OBJECTIVES)) for each in (TRIALS, late)]
    order = [re.findall(r"\bt000\d\b", text.split("not on the front")[0]) for text in shown]
    assert order[0][:3] == order[1][:3] == ["t0001", "t0003", "t0000"]


def test_nothing_finished_is_an_empty_front() -> None:
    document = front_json([TRIALS[4]], OBJECTIVES, sweep="s")
    assert document["front"] == [] and document["hypervolume"] == 0.0
    assert "0 of 0" in render(front_table(rows([TRIALS[4]], OBJECTIVES), OBJECTIVES))


def test_other_objectives_get_a_column_of_their_own() -> None:
    objectives = OBJECTIVES | {"footprint/nonzero_parameters": "min"}
    found = rows(TRIALS, objectives)
    assert [row.id for row in found if row.on_front] == ["t0000", "t0001"]
    assert "footprint/nonzero_parameters" in render(front_table(found, objectives), width=200)


@pytest.mark.parametrize("objectives", [OBJECTIVES, {"ood_dev/accuracy": "max"}])
def test_the_picture_is_drawn_for_any_front(tmp_path: Path, objectives: dict[str, str]) -> None:
    from matplotlib import image

    path = tmp_path / "front.png"
    front_picture(rows(TRIALS, objectives), objectives, path, title="a $weird_ [title]")
    pixels = image.imread(path)
    assert pixels.shape[:2] == (800, 1200)
    assert pixels[..., :3].std() > 0.01


def test_what_was_not_measured_is_a_dash() -> None:
    bare = TRIALS[1].model_copy(update={"metrics": {"id_dev/accuracy": 0.9}})
    objectives = {"id_dev/accuracy": "max", "footprint/nonzero_parameters": "min"}
    text = render(front_table(rows([TRIALS[0], bare], objectives), objectives), width=200)
    assert "nan" not in text and "-" in text


def test_the_sealed_table_marks_the_selection_and_what_changed() -> None:
    metrics = {
        "id_test/accuracy": 0.9,
        "ood_test/accuracy": 0.6,
        "ood_test/a[b]/accuracy": 0.6,
        "ood_test/c/accuracy": 0.6,
        "ood_test/a[b]/subcase.x/accuracy": 0.1,
        "ood_test/difference": -4.0,
        "ood_test/relative_bias": None,
    }
    document = {
        "design": "search",
        "selection": ["t0001"],
        "changed_after_opening": ["t0002"],
        "trials": {
            "t0001": {"name": "m [x]", "metrics": metrics},
            "t0002": {"name": "n", "metrics": {}},
        },
    }
    text = sealed_table(document)
    cells = [line.replace("\u2502", " ").split() for line in text.splitlines()]
    assert ["*", "t0001", "m", "[x]"] in [each[:4] for each in cells]
    assert ["!", "t0002", "n"] in [each[:3] for each in cells]
    assert "a[b] %" in text
    assert "subcase" not in text and "-4.0" in text and "60.0" in text
    assert "SELECTION CHANGED AFTER OPENING: t0002" in text
