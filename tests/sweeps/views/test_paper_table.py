"""Our table of a fixed design in the paper's layout, on made-up records."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from rc_core.errors import ConfigError, InputError
from rc_core.record import TrialRecord
from sweeps.config import SweepConfig
from sweeps.views.paper_table import interval, paper_table


def record(number: int, compression: str, loss: str, seed: int, **metrics: float) -> TrialRecord:
    config: dict[str, Any] = {
        "compression": {"name": compression},
        "loss": {"name": loss},
        "difficulty": {"name": "loss_variance"},
        "training": {"seed": seed, "epochs": 1},
    }
    floors = {"id_dev": {"majority": 0.5}, "ood_dev": {"majority": 0.4}}
    return TrialRecord(
        id=f"t{number:04d}",
        status="finished",
        name=f"{compression} {loss}",
        config=config,
        fingerprint=str(number),
        reference=number == 0,
        started=0.0,
        metrics={key.replace("__", "/"): value for key, value in metrics.items()},
        data={"floors": floors} if number == 0 else {},
    )


def accuracies(id_accuracy: float, ood: float) -> dict[str, float]:
    return {"id_dev__accuracy": id_accuracy, "ood_dev__accuracy": ood}


RECORDS = [
    record(0, "dense", "vanilla", 0, **accuracies(0.90, 0.70)),
    record(1, "magnitude-40", "rmc", 0, **accuracies(0.89, 0.60)),
    record(2, "magnitude-40", "rmc", 1, **accuracies(0.91, 0.66)),
    record(3, "dense", "vanilla", 1, **accuracies(0.92, 0.74)),
    record(4, "broken|one", "vanilla", 0, **accuracies(0.50, 0.50)),
]
# Seed by seed: 60 - 70 and 66 - 74.
DIFFERENCE = f"-9.0 +- {t.ppf(0.975, 1) * np.std([-10, -8], ddof=1) / math.sqrt(2):.1f}"
CONFIG = {"design": "fixed", "model": "tiny:bert", "task": {"name": "shortcut_nli"}}


def parsed(text: str) -> dict[str, dict[str, str]]:
    return {row["configuration"]: row for row in csv.DictReader(io.StringIO(text))}


def test_rows_are_means_over_seeds_with_their_interval() -> None:
    found = parsed(paper_table(RECORDS, CONFIG, None, form="csv"))
    assert list(found) == [
        "dense vanilla",
        "magnitude-40 rmc",
        "broken|one vanilla",
        "majority class",
    ]
    half = t.ppf(0.975, 1) * np.std([60, 66], ddof=1) / math.sqrt(2)
    assert found["magnitude-40 rmc"]["OOD %"] == f"63.0 +- {half:.1f}"
    assert found["magnitude-40 rmc"]["seeds"] == "2"
    # Of the means: (0.90, 0.63) against (0.91, 0.72).
    assert found["magnitude-40 rmc"]["F_bias"] == f"{(0.27 / 0.90) / (0.19 / 0.91):.3f}"
    assert found["magnitude-40 rmc"]["OOD vs dense"] == DIFFERENCE
    assert found["broken|one vanilla"]["OOD %"] == "50.0"
    assert found["broken|one vanilla"]["F_bias"] == "-"
    assert found["majority class"]["ID %"] == "50.0"


@pytest.mark.parametrize(
    ("ood", "shown"), [((0.70, 0.74), "1"), ((0.89, 0.91), "-"), ((0.30, 0.90), "-")]
)
def test_the_dense_rows_bias_is_1_only_where_its_gap_says_something(
    ood: tuple[float, float], shown: str
) -> None:
    """Of two seeds whose gaps are 20 and 18 points, 1 each, and 60 and 2: not clear of zero."""
    dense = [
        record(number, "dense", "vanilla", seed, **accuracies(id_accuracy, ood[seed]))
        for number, seed, id_accuracy in ((0, 0, 0.90), (3, 1, 0.92))
    ]
    text = paper_table([dense[0], *RECORDS[1:3], dense[1]], CONFIG, None, form="csv")
    found = parsed(text)
    assert found["dense vanilla"]["F_bias"] == shown
    assert (found["magnitude-40 rmc"]["F_bias"] == "-") == (shown == "-")


def test_rounded_weights_count_by_their_bits_in_its_sizes() -> None:
    sizes = {"footprint__nonzero_parameters": 11e6}
    dense = record(0, "dense", "vanilla", 0, **accuracies(0.9, 0.7), **sizes)
    sizes["footprint__packed_bytes"] = 4e6 * 5
    own = record(1, "quantized", "vanilla", 0, **accuracies(0.9, 0.7), **sizes)
    found = parsed(paper_table([dense, own], CONFIG, None, form="csv"))
    assert [found[f"{name} vanilla"]["non-zero M"] for name in ("dense", "quantized")] == [
        "11.0",
        "5.0",
    ]
    text = paper_table([dense, own], CONFIG, None)
    assert "counts by its bits" in text and "bits" not in paper_table([dense], CONFIG, None)


def test_losses_are_compared_with_vanilla_seed_by_seed() -> None:
    vanilla = [
        record(5, "magnitude-40", "vanilla", 1, **accuracies(0.90, 0.63)),
        record(6, "magnitude-40", "vanilla", 0, **accuracies(0.90, 0.58)),
        record(7, "magnitude-40", "vanilla", 2, **accuracies(0.90, 0.10)),
    ]
    found = parsed(paper_table([*RECORDS, *vanilla], CONFIG, None, form="csv"))
    half = t.ppf(0.975, 1) * np.std([2.0, 3.0], ddof=1) / math.sqrt(2)
    assert found["magnitude-40 rmc"]["OOD vs vanilla"] == f"+2.5 +- {half:.1f}"
    assert found["magnitude-40 vanilla"]["OOD vs vanilla"] == ""
    alone = parsed(paper_table(RECORDS, CONFIG, None, form="csv"))
    assert alone["magnitude-40 rmc"]["OOD vs vanilla"] == "-"


def changed(record: TrialRecord, section: str, **values: Any) -> TrialRecord:
    """Return the record with other values in a section of its configuration."""
    config = record.config | {section: record.config[section] | values}
    name = f"{record.name} init=teacher" if "init" in values else record.name
    return record.model_copy(update={"config": config, "name": name})


def test_losses_are_compared_at_equal_start_only() -> None:
    """The start alone gives 15 OOD points here; vanilla of the same start is as good as rmc."""
    found = [
        record(10, "magnitude-50", "vanilla", 0, **accuracies(0.90, 0.55)),
        changed(
            record(11, "magnitude-50", "rmc", 0, **accuracies(0.90, 0.70)),
            "compression",
            init="teacher",
        ),
    ]
    like = changed(
        record(12, "magnitude-50", "vanilla", 0, **accuracies(0.90, 0.70)),
        "compression",
        init="teacher",
    )
    name = "magnitude-50 rmc init=teacher"
    alone = parsed(paper_table([*RECORDS, *found], CONFIG, None, form="csv"))
    assert alone[name]["OOD vs vanilla"] == "-"
    both = parsed(paper_table([*RECORDS, *found, like], CONFIG, None, form="csv"))
    assert both[name]["OOD vs vanilla"] == "+0.0"
    # The reference has no start of its own to share.
    assert both[name]["OOD vs dense"] == "+0.0"


def test_rows_of_other_training_have_names_and_references_of_their_own() -> None:
    other = [
        changed(each, "training", epochs=5)
        for each in (
            record(20, "magnitude-40", "rmc", 0, **accuracies(0.93, 0.80)),
            record(21, "magnitude-40", "vanilla", 0, **accuracies(0.93, 0.79)),
        )
    ]
    same = record(22, "magnitude-40", "vanilla", 0, **accuracies(0.89, 0.59))
    found = parsed(paper_table([*RECORDS, *other, same], CONFIG, None, form="csv"))
    ours = found["magnitude-40 rmc training.epochs=5"]
    assert (ours["OOD vs vanilla"], ours["OOD vs dense"], ours["F_bias"]) == ("+1.0", "-", "-")
    assert found["magnitude-40 rmc training.epochs=1"]["OOD vs vanilla"] == "+1.0"
    dense = changed(
        record(23, "dense", "vanilla", 0, **accuracies(0.94, 0.84)), "training", epochs=5
    )
    found = parsed(paper_table([*RECORDS, *other, same, dense], CONFIG, None, form="csv"))
    ours = found["magnitude-40 rmc training.epochs=5"]
    assert ours["OOD vs dense"] == "-4.0"
    assert ours["F_bias"] == f"{(0.13 / 0.93) / (0.10 / 0.94):.3f}"
    own = found["dense vanilla training.epochs=5"]
    assert (own["F_bias"], own["OOD vs dense"]) == ("1", "")
    assert list(found)[:2] == ["dense vanilla training.epochs=1", "dense vanilla training.epochs=5"]


def test_a_reference_of_its_own_training_is_the_one_compared_with() -> None:
    """`teacher: {epochs: 5}`: no dense row has the rows' training, the reference has that."""
    found = [
        r.model_copy(update={"config": r.config | {"teacher": {"epochs": 5}}}) for r in RECORDS
    ]
    found = [changed(r, "training", epochs=5) if r.name.startswith("dense") else r for r in found]
    table = parsed(paper_table(found, CONFIG, None, form="csv"))
    assert table["magnitude-40 rmc"]["OOD vs dense"] == DIFFERENCE


def test_dense_is_compared_over_the_seeds_that_both_rows_have() -> None:
    """A seed that dense lacks is worth 20 OOD points: the difference is that of the other two."""
    more = record(30, "magnitude-40", "rmc", 2, **accuracies(0.85, 0.93))
    text = paper_table([*RECORDS, more], CONFIG, None)
    note = "compared over shared seeds (2) with dense vanilla (2 seeds): magnitude-40 rmc (3)"
    assert note in text
    found = parsed(paper_table([*RECORDS, more], CONFIG, None, form="csv"))["magnitude-40 rmc"]
    assert found["seeds"] == "3" and found["OOD vs dense"] == DIFFERENCE
    assert found["F_bias"] == f"{(0.27 / 0.90) / (0.19 / 0.91):.3f}"
    assert "shared seeds (2)" not in paper_table(RECORDS, CONFIG, None)
    apart = [r for r in RECORDS if (r.name, r.config["training"]["seed"]) != ("dense vanilla", 1)]
    lonely = record(31, "magnitude-60", "rmc", 7, **accuracies(0.89, 0.60))
    found = parsed(paper_table([*apart, lonely], CONFIG, None, form="csv"))["magnitude-60 rmc"]
    assert (found["OOD vs dense"], found["F_bias"]) == ("-", "-")
    assert "the dense reference has one seed only" not in text
    assert "one seed only; to train it with every seed, make dense a row" in paper_table(
        apart, CONFIG, None
    )
    assert "+- is from each row's own seeds; rc-sweep pareto" in text


@pytest.mark.parametrize(("samples", "shown"), [(40, False), (400, True)])
def test_a_gap_that_so_few_samples_cannot_show_has_no_bias(samples: int, shown: bool) -> None:
    """Seeds that agree say nothing of the samples: 40 leave a gap of 15 points an error of 8.3."""
    data = {f"{role}.x": {"samples": samples} for role in ("id_dev", "ood_dev")}
    found = [
        record(0, "dense", "vanilla", 0, **accuracies(0.90, 0.75)),
        record(1, "dense", "vanilla", 1, **accuracies(0.90, 0.75)),
        record(2, "magnitude-40", "rmc", 0, **accuracies(0.89, 0.60)),
        record(3, "magnitude-40", "rmc", 1, **accuracies(0.89, 0.60)),
    ]
    found[0] = found[0].model_copy(update={"data": data})
    text = paper_table(found, CONFIG, None)
    cell = parsed(paper_table(found, CONFIG, None, form="csv"))["magnitude-40 rmc"]["F_bias"]
    expected = (0.29 / 0.89) / (0.15 / 0.90)
    assert cell == (f"{expected:.3f}" if shown else "-")
    assert ("is not clear of zero" in text) is not shown
    # One seed tells as much of the samples; of the opened test its own counts are taken.
    counted = {
        f"{role}.x": {"samples": 9_999, "counted": samples} for role in ("id_test", "ood_test")
    }
    trials = {
        r.id: {"metrics": {k.replace("dev", "test"): v for k, v in r.metrics.items()}}
        for r in found
    }
    opened = {"trials": trials, "data": counted}
    rows = parsed(paper_table(found[::2], CONFIG, opened, form="csv"))
    assert (rows["magnitude-40 rmc"]["F_bias"] != "-") is shown


def test_a_compression_with_options_is_one_compression() -> None:
    pair = [
        record(8, "magnitude", "vanilla", 0, **accuracies(0.90, 0.60)),
        record(9, "magnitude", "rmc", 0, **accuracies(0.90, 0.65)),
    ]
    names = ("magnitude-40 scope=layer vanilla", "magnitude-40 scope=layer rmc alpha=0.3")
    pair = [r.model_copy(update={"name": n}) for r, n in zip(pair, names, strict=True)]
    found = parsed(paper_table([*RECORDS, *pair], CONFIG, None, form="csv"))
    assert found[names[1]]["OOD vs vanilla"] == "+5.0"


def test_whose_teacher_it_was_is_said() -> None:
    def text(keys: list[str]) -> str:
        records = [
            record.model_copy(update={"artifacts": {"teacher": key}})
            for record, key in zip(RECORDS, keys, strict=True)
        ]
        return paper_table(records, CONFIG, None)

    assert "one task and one teacher" in text(["a"] * 5)
    # Their seeds are 0, 0, 1, 1 and 0, of which the first trial is the reference.
    assert "one task and a teacher for each seed" in text(["a", "a", "b", "b", "a"])
    assert "one task and 2 teachers;" in text(["a", "a", "b", "b", "b"])


def test_seeds_that_share_one_start_show_no_difference_from_dense() -> None:
    def text(init: str, second: str) -> str:
        magnitude = {"compression": {"name": "magnitude", "init": init}}
        update = {
            each.id: {"config": each.config | magnitude, "artifacts": {"teacher": key}}
            for each, key in zip(RECORDS[1:3], ("a", second), strict=True)
        }
        return paper_table(
            [each.model_copy(update=update.get(each.id, {})) for each in RECORDS], CONFIG, None
        )

    said = "magnitude-40 rmc: all seeds start from one dense model (init=teacher)"
    assert said in text("teacher", "a")
    assert said not in text("teacher", "b")
    assert said not in text("pretrained", "a")


def test_markdown_has_the_same_cells_and_says_what_it_shows() -> None:
    text = paper_table(RECORDS, CONFIG, None)
    assert "broken\\|one vanilla" in text and "dev roles; test is sealed" in text
    assert "F_bias undefined: ID accuracy is more than 3 points below dense" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_opened_test_roles_are_used() -> None:
    tested = {
        "trials": {r.id: {"metrics": {"id_test/accuracy": 0.8, "ood_test/accuracy": 0.6}}
                   for r in RECORDS},
        "floors": {"ood_test": {"chance": 0.5}},
    }  # fmt: skip
    found = parsed(paper_table(RECORDS, CONFIG, tested, form="csv"))
    assert found["dense vanilla"]["ID %"].startswith("80.0") and found["chance"]["OOD %"] == "50.0"


def test_relative_bias_has_the_interval_that_the_opened_test_gave_it() -> None:
    values = {"id_test/accuracy": 0.8, "ood_test/accuracy": 0.6}
    ids = [record.id for record in RECORDS if record.name == "magnitude-40 rmc"]
    row: dict[str, Any] = {
        "trials": ids,
        "relative_bias": {"mean": 1.0, "low": 0.81, "high": 1.27, "n": 2},
        "bias_reason": None,
    }
    tested = {"trials": {record.id: {"metrics": values} for record in RECORDS}, "rows": [row]}
    found = parsed(paper_table(RECORDS, CONFIG, tested, form="csv"))
    assert found["magnitude-40 rmc"]["F_bias"] == "1.000 [0.81, 1.27]"
    row |= {"relative_bias": None, "bias_reason": "the gap is not clear of zero"}
    text = paper_table(RECORDS, CONFIG, tested, stamp=["sealed test opened"])
    assert "not clear of zero" in text and text.endswith("sealed test opened")


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ({"design": "search"}, {}, "design: fixed"),
        ({}, {"form": "xml"}, "--format: must be markdown or csv, but got 'xml'"),
        ({}, {"role": "train"}, "--role: must be dev or test, but got 'train'"),
        ({}, {"role": "test"}, "are sealed"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    config: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        paper_table(RECORDS, CONFIG | config, None, **options)
    with pytest.raises(InputError, match="no trial has finished"):
        paper_table([], CONFIG, None)


def test_interval_of_one_value_is_none() -> None:
    assert math.isnan(interval([0.5])) and interval([1.0, 1.0]) == 0.0


FIXED: dict[str, Any] = {
    "model": "tiny:bert",
    "design": "fixed",
    "training": {"epochs": 1},
    "space": {"training.seed": {"choice": [0, 1, 2]}},
    "search": {
        "name": "grid",
        "points": [
            {"compression.name": "magnitude", "compression.sparsity": 0.4, "loss.name": "vanilla"},
            {"compression.name": "magnitude", "compression.sparsity": 0.4, "loss.name": "focal"},
        ],
    },
}


def test_a_fixed_design_is_rows_times_seeds() -> None:
    sweep = SweepConfig(FIXED)
    # Two rows and the dense one, three seeds each; the reference is the first seed's dense trial.
    assert sweep.settings.search.trials == 9
    assert len(sweep.first_points()) == 6
    assert SweepConfig(sweep.as_dict()).settings.search.trials == 9


def test_a_fixed_design_is_never_cut_short() -> None:
    short = FIXED | {"search": FIXED["search"] | {"trials": 5}}
    with pytest.raises(ConfigError, match="must be at least 9"):
        SweepConfig(short)


def test_halves_of_another_estimate_are_not_compared() -> None:
    gap = {"id_dev__difficulty_gap": 3.0}
    found = [
        record(number, "magnitude-40", loss, 0, **accuracies(0.9, 0.6), **gap)
        for number, loss in ((1, "vanilla"), (2, "distil"), (3, "rmc"))
    ]
    assert "halves by" not in paper_table(found, CONFIG, None)
    found[2].config["difficulty"]["name"] = "level_errors"
    expected = "use halves by loss_variance, but by level_errors of magnitude-40 rmc"
    assert expected in paper_table(found, CONFIG, None)


def test_halves_of_some_seeds_only_are_told() -> None:
    """Where earlier seeds were trained beside no loss that reads the difficulty."""
    gap = {"id_dev__difficulty_gap": 3.0}
    found = [
        record(number, "magnitude-40", "vanilla", seed, **accuracies(0.9, 0.6), **gap)
        for number, seed in ((1, 0), (2, 1))
    ]
    assert "fewer seeds" not in paper_table(found, CONFIG, None)
    found[1] = record(2, "magnitude-40", "vanilla", 1, **accuracies(0.9, 0.6))
    expected = "easy %, hard % and gap are over fewer seeds: magnitude-40 vanilla (1 of 2)"
    assert expected in paper_table(found, CONFIG, None)
