"""mnli, fever and qqp from local folders: roles, labels, subcases, what is wrong with files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rc_core import plugins
from rc_core.data._task import Task
from rc_core.data.mnli import choose_subcases
from rc_core.errors import ConfigError, DataError
from rc_core.schema import validate_section
from tests.rc_core.data._public_files import pairs, write, write_public


def load(name: str, folder: Path | None, **values: Any) -> Task:
    module = plugins.load("rc_core.data", name)
    given = {"name": name, "data_dir": str(folder) if folder else None, **values}
    return module.load(validate_section(module.Config, given))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_public(tmp_path)


def sizes(task: Task) -> dict[str, int]:
    return {split.name: len(split) for split in task.splits}


def test_mnli_has_the_planned_roles(folder: Path) -> None:
    task = load("mnli", folder)
    assert task.label_names == ("entailment", "neutral", "contradiction")
    assert sizes(task) == {
        "train.mnli": 240, "id_dev.mnli": 60, "ood_dev.hans": 90, "id_test.mnli": 60,
        "ood_test.hans": 180,
    }  # fmt: skip
    test = task.of_role("ood_test")[0]
    assert test.headline == ("seen", "unseen") and test.headline_rows().sum() == 90
    in_dev = set(task.of_role("ood_dev")[0].slices["subcase"])
    unseen = {s for s, seen in zip(test.slices["subcase"], test.slices["seen"], strict=True)
              if seen == "unseen"}  # fmt: skip
    assert not in_dev & unseen and len(in_dev) == 15 == len(unseen)
    collapse = test.collapse(task.label_names)
    assert collapse.tolist() == [0, 1, 1]
    assert task.heuristic is not None and task.heuristic("a b", "a") == "entailment"


@pytest.mark.parametrize("seed", range(4))
def test_five_subcases_of_each_heuristic_with_labels_mixed(folder: Path, seed: int) -> None:
    split = load("mnli", folder).of_role("ood_test")[0]
    chosen = choose_subcases(split, seed)
    assert chosen == choose_subcases(split, seed) and len(chosen) == 15
    for heuristic in ("lexical", "subsequence", "constituent"):
        own = [name for name in chosen if name.startswith(heuristic)]
        entailed = sum(int(name[-1]) % 2 == 0 for name in own)
        assert len(own) == 5 and entailed in (2, 3)


def test_limits_keep_subcases_and_labels_in_shares(folder: Path) -> None:
    task = load("mnli", folder, limit=90, ood_dev_limit=30, test_limit=60)
    assert np.bincount(task.train.labels).tolist() == [30, 30, 30]
    counts = np.unique(task.of_role("ood_dev")[0].slices["subcase"], return_counts=True)[1]
    assert counts.tolist() == [2] * 15
    assert len(task.of_role("ood_test")[0]) == 60
    assert task.notes["left_out_by_limit/train.mnli"] == 150


def test_fever_in_three_and_in_two_labels(folder: Path) -> None:
    three = load("fever", folder)
    assert three.label_names == ("SUPPORTS", "NOT ENOUGH INFO", "REFUTES")
    ood = three.of_role("ood_dev")[0]
    assert ood.label_names == ("SUPPORTS", "REFUTES") and ood.labels.tolist()[:2] == [0, 1]
    assert ood.collapse(three.label_names).tolist() == [0, -1, 1]
    two = load("fever", folder, labels=["SUPPORTS", "REFUTES"])
    assert two.label_names == ("SUPPORTS", "REFUTES")
    assert two.notes["dropped_labels/train.fever"] == 100
    assert set(two.train.labels.tolist()) == {0, 1}


def test_fever_s_test_is_v2_test_or_the_rest_of_v1(folder: Path) -> None:
    task = load("fever", folder)
    assert task.of_role("ood_test")[0].suite == "symmetric_v1_rest"
    assert len(task.of_role("ood_test")[0]) == 20
    assert task.notes["excluded/ood_test.symmetric_v1_rest"] == 10
    with pytest.raises(DataError, match="allow_overlap"):
        load("fever", folder, ood_test="v1_whole")
    whole = load("fever", folder, ood_test="v1_whole", allow_overlap=True)
    assert len(whole.of_role("ood_test")[0]) == 30 and len(whole.of_role("ood_dev")[0]) == 10
    rows = [row | {"label": 0 if i % 2 else 2} for i, row in enumerate(pairs("new", 20, 2))]
    write(folder / "fever/symmetric_v02_test.parquet", rows)
    assert load("fever", folder).of_role("ood_test")[0].suite == "symmetric_v2_test"


@pytest.mark.parametrize(("name", "part"), [("qqp", "paws_qqp"), ("fever", "symmetric_v2_test")])
def test_a_suite_that_was_given_is_not_left_out_for_want_of_its_file(
    folder: Path, name: str, part: str
) -> None:
    """A misspelt file left a sealed suite out, or gave another in its place, without a word."""
    with pytest.raises(DataError, match=r"misspelt\.tsv: must be a tsv file, but is no such"):
        load(name, folder, **{part: "misspelt.tsv"})


@pytest.mark.parametrize(
    "labels", [["SUPPORTS", "NOT ENOUGH INFO", "REFUTES"], ["SUPPORTS", "REFUTES"]]
)
def test_fever_s_test_is_v1_and_v2_test_together_as_in_the_paper(
    folder: Path, labels: list[str]
) -> None:
    options = {"ood_test": "both", "labels": labels}
    with pytest.raises(DataError, match="symmetric_v02_test"):
        load("fever", folder, allow_overlap=True, **options)
    # One pair of v2 test is in v1 too: it stays in both.
    rows = [row | {"label": 2 * (i % 2)} for i, row in enumerate(pairs("new", 20, 2))]
    shared = pairs("sym", 40, 2)[39] | {"label": 2}
    write(folder / "fever/symmetric_v02_test.parquet", [*rows, shared])
    with pytest.raises(DataError, match="allow_overlap"):
        load("fever", folder, **options)
    task = load("fever", folder, allow_overlap=True, **options)
    assert [(split.suite, len(split)) for split in task.of_role("ood_test")] == [
        ("symmetric_v1_whole", 30), ("symmetric_v2_test", 21)
    ]  # fmt: skip
    assert len(task.of_role("ood_dev")[0]) == 10
    assert task.notes["removed_overlap/ood_dev.symmetric_v2_dev"] == 10


def test_qqp_takes_paws_qqp_where_it_is(folder: Path) -> None:
    assert sizes(load("qqp", folder)) == {
        "train.qqp": 160, "id_dev.qqp": 40, "ood_dev.paws_wiki": 40, "id_test.qqp": 40,
        "ood_test.paws_wiki": 40,
    }  # fmt: skip
    path = folder / "paws_qqp/dev_and_test.tsv"
    path.parent.mkdir()
    lines = [f"{i}\tfirst {i}\tsecond {i}\t{i % 2}" for i in range(20)]
    path.write_text("\n".join(["id\tsentence1\tsentence2\tlabel", *lines]) + "\n")
    task = load("qqp", folder)
    assert sizes(task)["ood_test.paws_qqp"] == 20
    assert task.heuristic is not None and task.heuristic("a b", "b a") == "duplicate"


def test_qqp_leaves_out_and_counts_what_has_one_question_only(folder: Path) -> None:
    """QQP itself has a few, which nobody who names the hub could take out."""
    rows = pairs("qtrain", 200, 2)
    rows[3]["sentence2"] = ""
    rows[8]["sentence1"] = " "
    rows = [{"question1": r["sentence1"], "question2": r["sentence2"], **r} for r in rows]
    write(folder / "qqp/train.parquet", rows)
    task = load("qqp", folder)
    found = sizes(task)
    assert found["train.qqp"] + found["id_dev.qqp"] == 198
    assert task.notes["without_text/train.qqp"] == 2
    assert not any(name.startswith("without_text") for name in load("mnli", folder).notes)


def test_a_part_may_be_named_by_itself(folder: Path, tmp_path: Path) -> None:
    rows = [
        {"a": f"x {i}", "b": f"y {i}", "gold": ["entailment", "neutral"][i % 2]} for i in range(60)
    ]
    write(tmp_path / "own.parquet", rows)
    part = {"file": "own.parquet", "text": ["a", "b"], "label": "gold"}
    task = load("mnli", folder, id_test=part)
    assert task.of_role("id_test")[0].first[0] == "x 0"
    assert load("mnli", folder, id_test="mnli/dev_matched.parquet").digest() == task.digest()


def change_train(size: int = 30, labels: int = 3, names: Any = None, **values: Any) -> Any:
    """Return what replaces MNLI's train by `size` rows with some values changed."""
    rows = [row | values for row in pairs("x", size, labels)]
    return lambda folder: write(folder / "mnli/train.parquet", rows, names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "hans/eval.parquet").unlink(), "no such file"),
        (
            lambda folder: write(folder / "mnli/train.parquet", [{"text": "a", "label": 0}]),
            "sentence1",
        ),
        (change_train(label=-1), "'-1' in 30 rows"),
        (change_train(labels=1), "at least two labels"),
        (change_train(sentence2=" "), "empty second text"),
        (
            change_train(names={0: "contradiction", 1: "neutral", 2: "entailment"}),
            "its labels mean",
        ),
        (change_train(label="yes"), "'yes' in 30 rows"),
        (change_train(label=True), "'true' in 30 rows"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(folder: Path, change: Any, message: str) -> None:
    change(folder)
    with pytest.raises(DataError, match=message):
        load("mnli", folder)


def test_everything_wrong_is_said_at_once(folder: Path) -> None:
    (folder / "hans/eval.parquet").unlink()
    (folder / "mnli/dev_matched.parquet").unlink()
    with pytest.raises(DataError) as caught:
        load("mnli", folder)
    assert len(caught.value.problems) == 2


def test_a_part_that_no_hub_has_needs_a_file(folder: Path) -> None:
    given = {key: {"file": str(folder / f"fever/{name}.parquet")}
             for key, name in (("train", "train"), ("id_test", "dev"))}  # fmt: skip
    with pytest.raises(DataError, match="no data hub carries this part"):
        load("fever", None, **given)
    for key, name in (("v2_dev", "v02_dev"), ("v1", "v01_generated")):
        given[f"symmetric_{key}"] = {"file": str(folder / f"fever/symmetric_{name}.parquet")}
    assert len(load("fever", None, **given).train) == 240


@pytest.mark.parametrize(
    ("name", "values", "where"),
    [
        ("fever", {"labels": ["SUPPORTS"]}, "labels"),
        ("mnli", {"train": {"fil": "x.parquet"}}, "fil"),
        ("mnli", {"train": "x.xlsx"}, "must be a file"),
        ("qqp", {"limit": 0}, "limit"),
    ],
)
def test_bad_settings_are_refused(name: str, values: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError, match=where):
        load(name, None, **values)


def test_configuration_survives_json(folder: Path) -> None:
    module = plugins.load("rc_core.data", "mnli")
    config = validate_section(module.Config, {"name": "mnli", "data_dir": str(folder)})
    assert validate_section(module.Config, json.loads(json.dumps(config.as_dict()))) == config


def test_the_real_data_load(data_dir: Path) -> None:
    mnli = load("mnli", data_dir)
    assert len(mnli.of_role("id_test")[0]) == 9_815
    assert mnli.of_role("ood_test")[0].headline_rows().sum() == 15_000
    assert set(mnli.of_role("ood_dev")[0].slices["heuristic"]) == {
        "lexical_overlap", "subsequence", "constituent"
    }  # fmt: skip
    fever = load("fever", data_dir, labels=["SUPPORTS", "REFUTES"])
    assert len(fever.of_role("ood_dev")[0]) == 708 and len(fever.of_role("ood_test")[0]) == 362


@pytest.mark.parametrize("name", ["fever", "mnli", "qqp"])
def test_what_would_be_asked_of_a_hub_is_not_here(name: str, tmp_path: Path) -> None:
    config = plugins.load("rc_core.data", name).Config
    assert not config(name=name).is_here()
    assert config(name=name, data_dir=str(tmp_path)).is_here()


def test_sets_that_no_hub_has_are_told_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = plugins.load("rc_core.data", "fever")

    def fetched(*given: object, **options: object) -> None:
        pytest.fail("nothing is to be fetched")

    monkeypatch.setattr(module, "read_part", fetched)
    with pytest.raises(DataError) as caught:
        module.load(module.Config(name="fever"))
    assert [problem.where for problem in caught.value.problems] == [
        "fever/symmetric_v02_dev.parquet",
        "fever/symmetric_v01_generated.parquet",
    ]
