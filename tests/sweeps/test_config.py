"""A sweep's configuration: everything wrong is reported at once, before anything starts."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from rc_core.errors import ConfigError
from rc_core.yaml_files import merge
from sweeps.config import SweepConfig, load_sweep

RAW: dict[str, Any] = {
    "model": "tiny:bert",
    "training": {"epochs": 1},
    "compression": {"name": "magnitude", "init": "teacher", "sparsity": 0.5},
    "space": {
        "compression.name": {"choice": ["magnitude", "student"]},
        "compression.sparsity": {"uniform": [0.2, 0.8], "when": {"compression.name": "magnitude"}},
        "compression.num_layers": {"int": [1, 3], "when": {"compression.name": "student"}},
        "loss.name": {"choice": ["distil", "rmc"]},
        "loss.alpha": {"choice": [0.2, 0.5], "when": {"loss.name": "rmc"}},
    },
}


def problems(changes: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        SweepConfig(merge(RAW, changes))
    return {problem.where: problem.message for problem in caught.value.problems}


def test_a_point_becomes_a_trial_and_foreign_keys_are_left_out() -> None:
    sweep = SweepConfig(RAW)
    trial = sweep.trial(
        {"compression.name": "student", "compression.num_layers": 2, "loss.name": "distil"}
    )
    assert trial.compression.as_dict()["num_layers"] == 2
    assert trial.compression.init == "teacher"
    assert trial.loss.name == "distil"


def test_the_resolved_values_read_back_the_same() -> None:
    sweep = SweepConfig(RAW)
    again = SweepConfig(sweep.as_dict())
    assert again.as_dict() == sweep.as_dict()
    assert sweep.as_dict()["training"]["learning_rate"] == 1e-4


def test_all_trials_share_one_reference_whatever_training_is_searched() -> None:
    raw = merge(RAW, {"space": {"training.learning_rate": {"choice": [1e-3, 1e-5]}}})
    sweep = SweepConfig(raw)
    references = {
        sweep.trial(point).reference().training.learning_rate for point in sweep.space.corners()
    }
    assert references == {1e-4} == {sweep.reference().training.learning_rate}


def test_each_compression_comes_first_with_vanilla_in_the_middle_of_its_range() -> None:
    sweep = SweepConfig(RAW)
    assert sweep.first_points() == [
        {"compression.name": "magnitude", "compression.sparsity": 0.5, "loss.name": "vanilla"},
        {"compression.name": "student", "compression.num_layers": 2, "loss.name": "vanilla"},
    ]
    names = [sweep.trial(point).loss.name for point in sweep.first_points()]
    assert names == ["vanilla", "vanilla"]


def test_points_of_the_yaml_follow_without_repeats() -> None:
    mine = {"compression.name": "magnitude", "compression.sparsity": 0.7, "loss.name": "distil"}
    first = SweepConfig(RAW).first_points()
    sweep = SweepConfig(merge(RAW, {"search": {"points": [mine, first[0]]}}))
    assert sweep.first_points() == [*first, mine]


@pytest.mark.parametrize(
    ("changes", "where", "expected"),
    [
        ({"serach": {}}, "serach", "did you mean 'search'"),
        ({"search": {"nam": "tpe"}}, "search.nam", "did you mean 'name'"),
        ({"search": {"name": "tpee"}}, "search.name", "did you mean 'tpe'"),
        ({"search": {"trials": 0}}, "search.trials", "greater than or equal to 1"),
        ({"scheduler": {"name": "ahsa"}}, "scheduler.name", "unknown scheduler"),
        ({"objectives": {"ood_test/accuracy": "max"}}, "objectives.ood_test/accuracy", "sealed"),
        ({"objectives": {"ood_dev/acuracy": "max"}}, "objectives.ood_dev/acuracy", "did you mean"),
        ({"objectives": {"footprint/size": "min"}}, "objectives.footprint/size", "unknown metric"),
        ({"objectives": {"accuracy": "max"}}, "objectives.accuracy", "must begin with"),
        ({"objectives": {"latency/ms": "min"}}, "objectives.latency/ms", "after training"),
        (
            {"objectives": {"ood_dev/relative_bias": "min"}},
            "objectives.ood_dev/relative_bias",
            "broken",
        ),
        (
            {"objectives": {"ood_dev/one/balanced_accuracy": "min"}},
            "objectives.ood_dev/one/balanced_accuracy",
            "must be max, but is min, which would prefer the worst models (balanced_accuracy: mean",
        ),
        (
            {"objectives": {"footprint/parameters": "max"}},
            "objectives.footprint/parameters",
            "must be min, but is max",
        ),
        ({"objectives": {"id_dev/accuracy": "maximum"}}, "objectives.id_dev/accuracy", "max"),
        ({"constraints": ["id_test/accuracy >= 0.5"]}, "constraints", "sealed"),
        ({"resources": {"gpu": 2}}, "resources.gpu", "less than or equal to 1"),
        ({"resources": "autoo"}, "resources",
         "must be auto, or like {cpu: 1, gpu: 0.5} (did you mean 'auto'?), but got 'autoo'"),
        ({"resources": "gpu"}, "resources",
         "must be auto, or like {cpu: 1, gpu: 0.5}, but got 'gpu'"),
        ({"confirm": {"sweep": "x"}}, "confirm.sweep", "is written by rc-sweep confirm, with"),
        ({"model": "tiny:bart"}, "model", "did you mean 'bert'"),
        ({"storage": "gs://bucket/x"}, "storage", "s3://bucket/prefix"),
        ({"training": {"epochs": "2"}}, "training.epochs", "valid number"),
        ({"space": {"compression.num_layers": {"int": [1, 9]}}},
         "compression.num_layers", "at most"),
        ({"space": {"compression.sparsity": {"uniform": [0.2, 1.0]}}},
         "compression.sparsity", "less"),
        ({"space": {"loss.alpha": {"choice": [0.2], "when": {"loss.name": "distil"}}}},
         "loss.alpha", "unknown key"),
        ({"space": {"loss.name": {"choice": ["rmc", "rcm"]}}}, "loss.name", "did you mean 'rmc'"),
        ({"search": {"name": "grid"}}, "space.compression.sparsity", "needs choice or int"),
        ({"search": {"points": [{"compresion.name": "student"}]}},
         "search.points.compresion.name", "did you mean"),
        ({"search": {"points": [{"compression.sparsity": 1.5}]}}, "compression.sparsity", "less"),
        # No plugin that the space names knows these.
        ({"loss": {"normalization": "rank"}}, "loss.normalization", "'normalisation'"),
        ({"compression": {"schedul": "linear"}}, "compression.schedul", "did you mean 'schedule'"),
        ({"compression": {"name": "magnitud"}}, "compression.name", "did you mean 'magnitude'"),
        ({"training": 3}, "training", "must be a mapping of keys to values, but is 3"),
        ({"compression": "abc"}, "compression", "must be a mapping"),
        # A plugin's name where its section belongs, as other tools have it.
        ({"compression": "magnitude"}, "compression", "write compression: {name: magnitude}"),
        ({"search": "random"}, "search", "write search: {name: random}"),
        ({"scheduler": "asha"}, "scheduler", "write scheduler: {name: asha}"),
        ({"loss": None}, "loss", "must be a mapping"),
        ({"teacher": True}, "teacher", "must be a mapping"),
        ({"search": 3}, "search", "must be a mapping"),
        ({"constraints": "footprint/bytes <= 1"}, "constraints", "must be a list"),
        ({"space": {"loss.alpha": {"choice": []}}}, "space.loss.alpha", "at least one value"),
        ({"space": {"loss.lambda.when": {"loss.name": "rmc"}}}, "space.loss.lambda.when",
         "--set 'space.loss.lambda={uniform: [0.2, 0.8], when: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(changes: dict[str, Any], where: str, expected: str) -> None:
    raw = changes
    if "when" not in str(changes.get("space", "")) and "space" in changes:
        # The range alone is changed; its condition stays.
        raw = {"space": {k: merge(RAW["space"].get(k, {}), v) for k, v in changes["space"].items()}}
    found = problems(raw)
    assert where in found, found
    assert expected in found[where]


def test_problems_of_different_sections_are_reported_together() -> None:
    found = problems(
        {"modle": 1, "search": {"trials": -1}, "training": {"epoch": 1}, "objectives": {"x": "max"}}
    )
    assert set(found) == {"modle", "search.trials", "training.epoch", "objectives.x"}


WRONG_EVERYWHERE: dict[str, Any] = {
    "model": "tiny:bart",
    "task": {"name": "shortcut_nli", "train_sise": 3},
    "training": {"epochs": "2"},
    "teacher": {"epoch": 1},
    "difficulty": {"name": "loss_variance", "levels": [2.0]},
    "budget": {"hours": -1},
}


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"space": {"loss.alpha": {"uniforn": [0.1, 0.2]}}}, "space.loss.alpha"),
        ({"space": {"loss.name": {"choice": ["rmc", "rcm"]}}}, "loss.name"),
        ({"space": 3}, "space"),
        ({"compression": {"name": "magnitud"}}, "compression.name"),
        ({"search": {"points": [{"x": 1}]}}, "search.points.x"),
        ({"loss": {"normalization": "rank"}}, "loss.normalization"),
    ],
)
def test_one_mistake_hides_none_of_the_sections_that_do_not_depend_on_it(
    wrong: dict[str, Any], where: str
) -> None:
    found = problems(merge(WRONG_EVERYWHERE, wrong))
    told = {"model", "task.train_sise", "training.epochs", "teacher.epoch", "budget.hours"}
    assert {where, *told} <= set(found), found
    # What the space changes is checked with it: where it cannot be read, nothing of it is.
    assert wrong.get("space") == 3 or any("difficulty" in each for each in found)


def test_a_condition_on_a_fixed_key_that_never_holds_is_told() -> None:
    space = {k: v for k, v in RAW["space"].items() if k != "loss.name"}
    with pytest.raises(ConfigError) as caught:
        SweepConfig(RAW | {"space": space, "loss": {"name": "distil"}})
    (problem,) = caught.value.problems
    assert problem.where == "space.loss.alpha.when"
    assert "loss.name is not searched, so it is always 'distil', never 'rmc'" in problem.message
    assert "space.loss.name: {choice: [distil, rmc]}" in problem.message
    SweepConfig(RAW | {"space": space, "loss": {"name": "rmc"}})


def test_a_wrong_parameter_hides_nothing_that_can_be_judged_without_it() -> None:
    found = problems(
        {
            "space": {
                "compression.num_layers": {"int": [1, 3], "when": {"compression.name": "studnt"}},
                "loss.alpha": {"uniforn": [0.1, 0.5]},
                "training.warmup": {"choice": [0.1, 7]},
            },
            "scheduler": {"name": "asha", "grace": 2},
            "search": {"points": [{"training.epochs": -1.0}, {"compression.num_layers": 40}]},
        }
    )
    assert set(found) == {
        "space.compression.num_layers.when",
        "space.loss.alpha",
        "training.warmup",
        "training.epochs",
        "training.rungs",
    }, "a student without layers, or with 40, follows from what is wrong: it is told after that"


def test_a_wrong_base_hides_neither_corners_nor_the_encoder() -> None:
    found = problems(
        {
            "training": {"epochs": "2"},
            "teacher": {"epoch": 1},
            "difficulty": {"levels": [2.0], "name": "loss_variance"},
            "space": {
                "compression.num_layers": {"int": [1, 9]},
                "training.warmup": {"choice": [0.1, 7]},
            },
        }
    )
    assert set(found) == {
        "training.epochs",
        "teacher.epoch",
        "difficulty.levels.0",
        "compression.num_layers",
        "training.warmup",
    }


def test_an_unknown_plugin_hides_no_other_section() -> None:
    space = {k: v for k, v in RAW["space"].items() if k != "compression.name"}
    space["loss.lambda"] = {"uniform": [0.5, 1.5]}
    space["difficulty.epochs"] = {"uniform": [1.0, 2.0]}
    with pytest.raises(ConfigError) as caught:
        SweepConfig(RAW | {"compression": {"name": "magnitud", "sparsity": 0.5}, "space": space})
    assert [problem.where for problem in caught.value.problems] == [
        "compression.name",
        "space.difficulty.epochs",
        "loss.lambda",
    ], "whether conditions on its name hold is not known"


def test_a_misspelt_choice_of_plugins_is_told_and_not_the_condition_on_the_right_name() -> None:
    space = RAW["space"] | {"loss.name": {"choice": ["vanilla", "rcm"]}}
    assert [*problems({"space": space})] == ["loss.name"]
    wrong = {"loss.lambda": {"uniform": [0.9, 0.5]}}
    assert [*problems({"space": space | wrong})] == ["space.loss.lambda", "loss.name"]


def test_overrides_without_effect_come_with_the_other_problems(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(json.dumps(RAW | {"modle": 1}))
    with pytest.raises(ConfigError) as caught:
        load_sweep(path, ["compression.sparsity=0.3", "training.epochs=0"])
    assert sorted(p.where for p in caught.value.problems) == ["--set", "modle", "training.epochs"]
    with pytest.raises(ConfigError) as caught:
        load_sweep(path, ["epochs", "training.seed=1", "a..b=2"])
    assert len(caught.value.problems) == 2


def test_a_key_that_nobody_knows_hides_no_wrong_value() -> None:
    changes = {
        "loss": {"normalization": "rank"},
        "space": {"compression.sparsity": {"uniform": [0.2, 1.0]}},
    }
    assert set(problems(changes)) == {"loss.normalization", "compression.sparsity"}
    raw = merge(RAW, changes)
    with pytest.raises(ConfigError):
        SweepConfig(raw)
    assert raw["loss"] == {"normalization": "rank"}, "the caller's values are left alone"


def test_keys_of_several_plugins_are_not_called_wrong_beside_a_wrong_space() -> None:
    both = {"compression": {"num_layers": 2}, "loss": {"alpha": 0.5}}
    assert set(problems(both | {"space": {"loss.lambda": {"uniforn": [0, 1]}}})) == {
        "space.loss.lambda"
    }
    # `auto` needs what the space says of the compression.
    auto = merge(RAW, {"loss": {"name": "rmc", "alpha": "auto"}})
    auto["space"] = {"compression.sparsity": {"uniforn": [0, 1]}}
    with pytest.raises(ConfigError) as caught:
        SweepConfig(auto)
    assert [p.where for p in caught.value.problems] == ["space.compression.sparsity"]


@pytest.mark.parametrize(
    ("wrong", "where", "judged", "else_wrong"),
    [
        (
            {"resources": {"gpu": 2}}, "resources.gpu",
            {"budget": {"accelerator_hours": 1.0}}, "budget.accelerator_hours",
        ),
        (
            {"objectives": {"ood_dev/overlap/accuracy": "maximum"}},
            "objectives.ood_dev/overlap/accuracy",
            {"scheduler": {"name": "asha", "metric": "ood_dev/overlap/accuracy"}},
            "scheduler.metric",
        ),
        ({"design": "fixd"}, "design", {"scheduler": {"name": "asha", "metric": "x"}},
         "scheduler.metric"),
        ({"confirm": {"sweep": 3}}, "confirm.sweep", {"search": {"name": "race"}}, "search.name"),
        ({"search": {"name": 3}}, "search.name", {"confirm": {"sweep": "x"}}, "confirm.sweep"),
    ],
)  # fmt: skip
def test_what_is_judged_by_a_wrong_section_is_not_called_wrong(
    wrong: dict[str, Any], where: str, judged: dict[str, Any], else_wrong: str
) -> None:
    judged = {"training": {"rungs": 4}} | judged
    assert set(problems(wrong | judged)) == {where}
    assert set(problems(judged)) == {else_wrong}, "by the default, had the user left that section"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"search": {"warm_start": "old", "name": "tpee"}},
            {"search.warm_start", "search.name"},
        ),
        (
            {"search": {"trials": 0, "points": [{"compresion.name": "student"}]}},
            {"search.trials", "search.points.compresion.name"},
        ),
        (
            {"resources": {"cpu": -1}, "budget": {"accelerator_hours": 1.0}},
            {"resources.cpu", "budget.accelerator_hours"},
        ),
        (
            {"resources": {"gpu": 2}, "budget": {"stall": {"trials": 3}}, "design": "fixed",
             "search": {"name": "qmc"}},
            {"resources.gpu", "budget.stall"},
        ),
        (
            {"confirm": {"whole": 3}, "search": {"name": "race"}},
            {"confirm.whole", "search.name"},
        ),
    ],
)  # fmt: skip
def test_a_wrong_key_hides_nothing_that_does_not_stand_or_fall_with_it(
    changes: dict[str, Any], told: set[str]
) -> None:
    assert set(problems(changes)) == told


def test_a_fixed_design_runs_all_rows_of_one_seed_before_the_next() -> None:
    rows = [{"compression.name": "magnitude"}, {"loss.name": "distil"}]
    own = {"compression.name": "dense", "training.seed": 7}
    raw = {
        **{key: value for key, value in RAW.items() if key != "space"},
        "design": "fixed",
        "space": {"training.seed": {"choice": [3, 5]}},
        "search": {"name": "grid", "points": [rows[0], own, rows[1]]},
    }
    assert SweepConfig(raw).first_points() == [
        own,
        *({**row, "training.seed": 3} for row in rows),
        *({**row, "training.seed": 5} for row in rows),
    ]


SEEDS = {"training.seed": {"choice": [0, 1]}}
CHOSEN = {"compression.sparsity": {"uniform": [0.2, 0.8]}}


@pytest.mark.parametrize(
    ("space", "changes", "where", "told"),
    [
        (CHOSEN, {}, "search.name", "must be grid, random or qmc .*compression.sparsity.* is tpe"),
        (CHOSEN, {"search": {"name": "gp", "trials": 9}}, "search.name", "but is gp"),
        (SEEDS, {"search": {"trials": 9}}, "search.trials", "must be at most 3, .* tpe chooses"),
        (SEEDS, {"budget": {"stall": {"trials": 3}}}, "budget.stall", "must be left out"),
    ],
)
def test_no_result_chooses_the_rows_of_a_fixed_design(
    space: dict[str, Any], changes: dict[str, Any], where: str, told: str
) -> None:
    rows = {"search": {"points": [{"loss.name": "distil"}]}}
    raw = RAW | {"design": "fixed", "space": space}
    with pytest.raises(ConfigError, match=told) as caught:
        SweepConfig(merge(raw, merge(rows, changes)))
    assert [problem.where for problem in caught.value.problems] == [where]


@pytest.mark.parametrize(
    ("space", "search"),
    [
        (CHOSEN, {"name": "random", "trials": 9}),
        (CHOSEN, {"name": "qmc", "trials": 9}),
        (SEEDS, {"name": "tpe", "points": [{"loss.name": "distil"}]}),
        (SEEDS, {"name": "grid"}),
    ],
)
def test_rows_that_no_result_chooses_are_a_fixed_design(
    space: dict[str, Any], search: dict[str, Any]
) -> None:
    budget = {"hours": 1.0}
    raw = RAW | {"design": "fixed", "space": space, "search": search, "budget": budget}
    assert SweepConfig(SweepConfig(raw).as_dict()).settings.design == "fixed"


def test_draws_of_a_fixed_design_are_as_many_as_of_any_sweep() -> None:
    sweep = SweepConfig(RAW | {"design": "fixed", "space": CHOSEN, "search": {"name": "random"}})
    assert sweep.settings.search.trials == 12


def test_a_fixed_base_without_a_space_is_one_trial() -> None:
    raw = {k: v for k, v in RAW.items() if k != "space"}
    sweep = SweepConfig(raw)
    assert len(sweep.structures()) == 2
    assert sweep.reference().is_reference()
    assert sweep.settings.search.trials == 2, "the dense reference, and the base with vanilla"


def test_an_override_without_effect_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(json.dumps(RAW))
    assert load_sweep(path, ["training.epochs=2"]).base["training"]["epochs"] == 2
    with pytest.raises(ConfigError, match=r"compression\.sparsity is searched"):
        load_sweep(path, ["compression.sparsity=0.3"])


def test_alpha_auto_is_judged_on_the_cheapest_compression() -> None:
    raw = copy.deepcopy(RAW) | {
        "loss": {"name": "rmc", "alpha": "auto"},
        "compression": {"name": "magnitude", "sparsity": 0.5},
        "space": {
            "compression.name": {"choice": ["magnitude", "student"]},
            "compression.sparsity": {
                "uniform": [0.2, 0.6],
                "when": {"compression.name": "magnitude"},
            },
            "compression.num_layers": {"int": [1, 3], "when": {"compression.name": "student"}},
        },
    }
    trial = SweepConfig(raw).trial({"compression.name": "magnitude", "compression.sparsity": 0.3})
    assert trial.loss.as_dict()["alpha_on"] == {"name": "student", "num_layers": 2}
    alone = SweepConfig(raw | {"space": {"compression.sparsity": {"uniform": [0.2, 0.6]}}})
    on = alone.trial({"compression.sparsity": 0.3}).loss.as_dict()["alpha_on"]
    assert on == {"name": "magnitude", "sparsity": pytest.approx(0.4)}
    rows = [
        {"compression.name": "magnitude", "compression.sparsity": 0.3},
        {"compression.name": "student", "compression.num_layers": 1},
    ]
    fixed = raw | {"space": {}, "design": "fixed", "search": {"name": "grid", "points": rows}}
    on = SweepConfig(fixed).trial(rows[0]).loss.as_dict()["alpha_on"]
    assert on == {"name": "student", "num_layers": 1}


def test_what_alpha_is_judged_on_must_suit_the_encoder() -> None:
    auto = {"name": "rmc", "alpha": "auto"}
    space: dict[str, Any] = {"compression.sparsity": {"uniform": [0.2, 0.6]}}
    raw: dict[str, Any] = RAW | {"space": space}
    raw |= {"loss": auto | {"alpha_on": {"name": "student", "num_layers": 40}}}
    with pytest.raises(ConfigError) as caught:
        SweepConfig(raw)
    (problem,) = caught.value.problems
    assert problem.where == "loss.alpha_on.num_layers" and "at most" in problem.message
    # What the sweep fills in is told of the compression alone.
    space = {
        "compression.name": {"choice": ["student"]},
        "compression.num_layers": {"int": [40, 41]},
    }
    with pytest.raises(ConfigError) as caught:
        SweepConfig(RAW | {"space": space, "loss": auto})
    assert {problem.where for problem in caught.value.problems} == {"compression.num_layers"}


AUTO = {"name": "rmc", "alpha": "auto"}
HALVES = {"choice": [0.5, 0.75]}
WHOLE = {"choice": [8, 16]}


@pytest.mark.parametrize(
    ("sections", "key", "searched", "chosen"),
    [
        ({"loss": {"name": "jtt"}}, "loss.first_epochs", {"uniform": [0.5, 2.0]}, HALVES),
        ({"loss": {"name": "poe"}}, "loss.expert.level", {"uniform": [0.5, 0.9]}, HALVES),
        ({"loss": AUTO}, "loss.lambda", {"uniform": [0.5, 0.9]}, HALVES),
        ({"loss": AUTO}, "training.weight_decay", {"uniform": [0.1, 0.9]}, HALVES),
        ({"loss": {"name": "rmc"}}, "difficulty.epochs", {"uniform": [1.0, 2.0]}, HALVES),
        ({"compression": {"name": "heads"}}, "compression.num_batches", {"int": [4, 64]}, WHOLE),
        ({"compression": {"name": "ffn"}}, "training.batch_size", {"int": [8, 64]}, WHOLE),
        (
            {
                "compression": {"name": "ffn"},
                "design": "fixed",
                "search": {"name": "random", "trials": 4},
            },
            "training.seed",
            {"int": [0, 1000]},
            WHOLE,
        ),
    ],
)
def test_what_changes_an_artifact_is_a_choice(
    sections: dict[str, Any], key: str, searched: dict[str, Any], chosen: dict[str, Any]
) -> None:
    space = {key: searched}
    if sections.get("loss") == AUTO:
        space["loss.alpha"] = {"choice": ["auto", 0.5]}
    with pytest.raises(ConfigError, match="must be a choice of a few values"):
        SweepConfig(copy.deepcopy(RAW) | sections | {"space": space})
    sweep = SweepConfig(copy.deepcopy(RAW) | sections | {"space": space | {key: chosen}})
    values = {point[key] for point in sweep.space.structures()}
    assert values == set(chosen["choice"]), "each is prepared"


@pytest.mark.parametrize("name", ["id_dev/difficulty_gap", "id_dev/difficulty.hard/accuracy"])
@pytest.mark.parametrize("where", ["space", "points"])
def test_an_objective_of_halves_wants_the_same_halves(name: str, where: str) -> None:
    """Else the estimate that tells samples apart least would win."""
    raw = copy.deepcopy(RAW) | {"objectives": {"id_dev/accuracy": "max", name: "max"}}
    SweepConfig(raw)
    if where == "space":
        raw["space"]["difficulty.name"] = {"choice": ["loss_variance", "level_errors"]}
    else:
        raw["search"] = {"points": [{"loss.name": "rmc", "difficulty.name": "hypothesis_only"}]}
    with pytest.raises(ConfigError) as caught:
        SweepConfig(raw)
    (problem,) = caught.value.problems
    assert problem.where == f"objectives.{name}"
    assert "difficulty.name, which decides what is hard, is searched" in problem.message
    SweepConfig(raw | {"objectives": {"id_dev/accuracy": "max", "ood_dev/accuracy": "max"}})


def test_what_changes_no_artifact_is_searched_as_it_likes() -> None:
    space = {
        "loss.name": {"choice": ["distil", "rmc"]},
        "loss.lambda": {"uniform": [0.5, 0.9]},
        "training.batch_size": {"int": [8, 64]},
        "loss.alpha": {"choice": [0.3, 0.5], "when": {"loss.name": "rmc"}},
    }
    sweep = SweepConfig(RAW | {"space": space})
    assert len([*sweep.space.structures()]) == 2


@pytest.mark.parametrize("where", ["space", "points"])
def test_a_search_does_not_choose_by_seed(where: str) -> None:
    seeds = {"training.seed": {"choice": [0, 1]}}
    searched: dict[str, Any] = {"space": RAW["space"] | seeds}
    if where == "points":
        searched = {"search": {"name": "grid", "points": [{"training.seed": 3}]}, "space": {}}
    with pytest.raises(ConfigError) as caught:
        SweepConfig(RAW | searched)
    (problem,) = caught.value.problems
    assert problem.where == {"space": "space", "points": "search.points"}[where]
    assert "must not contain training.seed" in problem.message and "luckiest" in problem.message
    SweepConfig(RAW | searched | {"design": "fixed", "search": {"name": "random", "trials": 4}})
    # One of before goes on.
    SweepConfig(SweepConfig(RAW).as_dict() | searched)


def test_folders_of_models_get_their_full_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers run elsewhere, and a sweep may be resumed from another folder."""
    for name in ("base", "small"):
        folder = tmp_path / name
        folder.mkdir()
        AutoConfig.for_model("bert", num_hidden_layers=2).save_pretrained(folder)
        (folder / "model.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    values = {
        "model": "./base",
        "compression": {"name": "student", "model": "small"},
        "space": {"compression.model": {"choice": ["small", "tiny:bert"]}},
        "search": {"points": [{"compression.name": "student", "compression.model": "small"}]},
    }
    found = SweepConfig(values).as_dict()
    monkeypatch.chdir("/")
    small = str(tmp_path / "small")
    assert found["model"] == str(tmp_path / "base")
    assert found["compression"]["model"] == small
    assert found["space"]["compression.model"]["choice"] == [small, "tiny:bert"]
    assert found["search"]["points"][0]["compression.model"] == small
    assert SweepConfig(found).as_dict() == found


def test_in_a_fixed_design_the_teachers_seed_goes_along() -> None:
    rows = [{"compression.name": "magnitude"}, {"loss.name": "distil"}]
    raw = {
        **{key: value for key, value in RAW.items() if key != "space"},
        "design": "fixed",
        "space": {"training.seed": {"choice": [3, 5]}, "teacher.seed": {"choice": [0, 1]}},
        "search": {"name": "grid", "points": rows},
    }
    sweep = SweepConfig(raw)
    assert sweep.first_points() == [
        *({**row, "training.seed": 3, "teacher.seed": 0} for row in rows),
        *({**row, "training.seed": 5, "teacher.seed": 1} for row in rows),
    ]
    assert list(sweep.space.grid()) == [
        {"training.seed": 3, "teacher.seed": 0},
        {"training.seed": 5, "teacher.seed": 1},
    ]
    trial = sweep.trial(sweep.first_points()[-1])
    assert (trial.training.seed, trial.reference().training.seed) == (5, 1)
    raw["space"]["teacher.seed"] = {"choice": [0, 1, 2]}
    with pytest.raises(ConfigError, match="as many values as space"):
        SweepConfig(raw)
    with pytest.raises(ConfigError, match="a sweep has one dense reference"):
        SweepConfig(raw | {"design": "search", "search": {"name": "grid"}})


def test_a_grid_has_no_more_trials_than_points() -> None:
    space = {
        "compression.sparsity": {"choice": [0.2, 0.4, 0.6]},
        "loss.name": {"choice": ["vanilla", "focal"]},
    }
    raw = {key: value for key, value in RAW.items() if key != "space"} | {"space": space}

    def trials(asked: int) -> int:
        search = {"name": "grid", "trials": asked}
        return SweepConfig(raw | {"search": search}).settings.search.trials

    # Six points (the middle of which is tried first), and the dense reference.
    assert (trials(20), trials(7), trials(5)) == (7, 7, 5)


def test_seeds_of_a_row_are_told_apart_by_the_training_s_own() -> None:
    """Of two trials that differ in the teacher alone one would be lost from every mean."""
    points: list[dict[str, Any]] = [
        {"loss.name": name, "teacher.seed": seed} for name in ("vanilla", "jtt") for seed in (0, 1)
    ]
    raw = {**{key: value for key, value in RAW.items() if key != "space"}, "design": "fixed"}
    with pytest.raises(ConfigError, match=r"its own training\.seed") as caught:
        SweepConfig(raw | {"search": {"points": points}})
    assert [problem.where for problem in caught.value.problems] == ["search.points"]
    own = [point | {"training.seed": point["teacher.seed"]} for point in points]
    assert SweepConfig(raw | {"search": {"points": own}}).first_points() == own
    # Rows of their own may have other teachers.
    others = [points[0], points[3]]
    assert SweepConfig(raw | {"search": {"points": others}}).first_points() == others
    launched = SweepConfig(raw).as_dict()
    launched["search"]["points"] = points
    launched["search"].pop("trials")
    assert SweepConfig(launched).first_points() == points, "what was launched can be read"


def test_an_encoder_that_is_built_otherwise_is_refused_by_its_config(tmp_path: Path) -> None:
    config = AutoConfig.for_model("albert", num_hidden_layers=2).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"is not read")
    assert "AlbertForSequenceClassification" in problems({"model": str(tmp_path)})["model"]


def test_a_condition_that_an_earlier_version_let_pass_keeps_nobody_from_a_sweep() -> None:
    space = {"loss.alpha": {"choice": [0.2], "when": {"loss.name": "rmc"}}}
    raw = {**RAW, "space": space, "loss": {"name": "rmc"}}
    stored = SweepConfig(raw).as_dict()
    stored["loss"]["name"], stored["space"] = "distil", space
    with pytest.raises(ConfigError, match="never holds"):
        SweepConfig({key: value for key, value in stored.items() if key != "defaults"})
    assert len(SweepConfig(stored).space.parameters) == 1
