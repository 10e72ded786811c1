"""The `files` task: its configuration, what it makes of the files, and what it says of bad ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rc_core.data import files
from rc_core.data._splits import split_keys
from rc_core.data._task import Split, Task
from rc_core.errors import ConfigError, DataError
from rc_core.schema import validate_section
from rc_core.yaml_files import read_yaml

LABELS = {0: "entailment", 1: "neutral", 2: "contradiction"}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pairs(name: str, number: int, labels: int = 3, **more: Any) -> list[dict[str, Any]]:
    return [
        {"sentence1": f"{name} premise {i}", "sentence2": f"hypothesis {i}", "label": i % labels}
        | more
        for i in range(number)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "train.jsonl", pairs("train", 300))
    write(tmp_path / "dev.jsonl", pairs("dev", 30))
    write(tmp_path / "ood.jsonl", pairs("ood", 30))
    write(tmp_path / "test.jsonl", pairs("test", 30))
    return tmp_path


def raw(folder: Path, **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "files",
        "data_dir": str(folder),
        "text": ["sentence1", "sentence2"],
        "label": "label",
        "labels": LABELS,
        "roles": {"train": "train.jsonl", "ood_dev": {"x": "ood.jsonl"}},
    }
    roles = {**base["roles"], **changes.pop("roles", {})}
    return {**base, **changes, "roles": roles}


def config(folder: Path, **changes: Any) -> files.Config:
    return validate_section(files.Config, raw(folder, **changes), "task")


def load(folder: Path, **changes: Any) -> Task:
    return files.load(config(folder, **changes))


def named(task: Task, name: str) -> Split:
    return next(split for split in task.splits if split.name == name)


def refused(folder: Path, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config(folder, **changes)
    return str(caught.value)


def broken(folder: Path, **changes: Any) -> list[str]:
    with pytest.raises(DataError) as caught:
        load(folder, **changes)
    return [str(problem) for problem in caught.value.problems]


# --- what is made of the files


def test_the_shape_of_the_documentation_is_read_from_yaml(folder: Path) -> None:
    (folder / "y").mkdir()
    (folder / "y" / "test.tsv").write_text(
        "sentence1\tsentence2\tlabel\tsubcase\nA b.\tB a.\t1\tswap\nA b c.\tA b.\t0\tcut\n"
    )
    (folder / "sweep.yaml").write_text(
        f"""
        name: files
        data_dir: {folder}
        text: [sentence1, sentence2]
        label: label
        labels: {{0: entailment, 1: neutral, 2: contradiction}}
        roles:
          train: train.jsonl
          id_dev: dev.jsonl
          id_test: test.jsonl
          ood_dev: {{suite_x: ood.jsonl}}
          ood_test:
            suite_y: {{file: y/test.tsv, labels: {{0: entailment, 1: not_entailment}},
                      merge: {{neutral: not_entailment, contradiction: not_entailment}},
                      slice: subcase}}
        """
    )
    given = validate_section(files.Config, read_yaml(folder / "sweep.yaml"), "task")
    task = files.load(given)
    assert [split.name for split in task.splits] == [
        "train.files",
        "id_dev.files",
        "ood_dev.suite_x",
        "id_test.files",
        "ood_test.suite_y",
    ]
    assert task.label_names == ("entailment", "neutral", "contradiction")
    assert len(task.train) == 300
    suite = task.splits[-1]
    assert suite.label_names == ("entailment", "not_entailment")
    assert suite.labels.tolist() == [1, 0]
    assert suite.collapse(task.label_names).tolist() == [0, 1, 1]
    assert suite.slices == {"subcase": ["swap", "cut"]}
    assert (suite.first[0], (suite.second or [""])[0]) == ("A b.", "B a.")


def test_single_texts(folder: Path) -> None:
    task = load(folder, text=["sentence1"])
    assert task.train.second is None
    assert task.train.first[0].startswith("train premise")


def test_a_configuration_survives_json(folder: Path) -> None:
    given = config(
        folder,
        drop_labels=[-1],
        roles={"ood_test": {"y": {"file": "ood.jsonl", "slice": "label", "exclude": "dev.jsonl"}}},
    )
    again = validate_section(files.Config, json.loads(json.dumps(given.as_dict())), "task")
    assert again == given
    assert given.as_dict()["label"] == "label"


def test_a_list_of_labels_names_itself(folder: Path) -> None:
    for name in ("train", "ood"):
        rows = [row | {"label": "ab"[row["label"] % 2]} for row in pairs(name, 60)]
        write(folder / f"{name}.jsonl", rows)
    task = load(folder, labels=["b", "a"])
    assert task.label_names == ("b", "a")
    assert np.bincount(task.train.labels).tolist() == [16, 32]


def test_id_dev_is_carved_and_seeded(folder: Path) -> None:
    task = load(folder)
    assert (len(task.train), len(task.id_dev)) == (240, 60)
    assert np.bincount(task.id_dev.labels).tolist() == [20, 20, 20]
    assert task.notes["carved/id_dev.files"] == 60
    assert not {*split_keys(task.train)} & {*split_keys(task.id_dev)}
    assert load(folder).digest() == task.digest()
    assert load(folder, seed=1).digest() != task.digest()


def test_limit_keeps_shares_and_leaves_the_other_splits_alone(folder: Path) -> None:
    whole, part = load(folder), load(folder, limit=30)
    assert np.bincount(part.train.labels).tolist() == [10, 10, 10]
    assert part.notes["left_out_by_limit/train.files"] == 210
    assert part.id_dev.digest() == whole.id_dev.digest()
    assert {*part.train.first} < {*whole.train.first}
    assert len(load(folder, limit=10_000).train) == 240


def test_labels_can_be_dropped_or_share_a_name(folder: Path) -> None:
    task = load(folder, labels={0: "yes", 2: "no"}, drop_labels=[1])
    assert task.label_names == ("yes", "no")
    assert len(task.train) + len(task.id_dev) == 200
    assert task.notes["dropped_labels/train.files"] == 100
    merged = load(folder, labels={0: "yes", 1: "no", 2: "no"})
    assert merged.label_names == ("yes", "no")
    assert np.bincount(merged.train.labels).tolist() == [80, 160]


def test_a_suite_with_its_own_labels_does_not_inherit_drop_labels(folder: Path) -> None:
    suite = {"file": "ood.jsonl", "labels": {0: "yes", 1: "no", 2: "no"}}
    task = load(
        folder, labels={0: "yes", 2: "no"}, drop_labels=[1], roles={"ood_dev": {"x": suite}}
    )
    assert len(named(task, "ood_dev.x")) == 30
    own = suite | {"labels": {0: "yes", 1: "no"}, "drop_labels": [2]}
    task = load(folder, labels={0: "yes", 2: "no"}, drop_labels=[1], roles={"ood_dev": {"x": own}})
    assert len(named(task, "ood_dev.x")) == 20


def test_a_suite_may_lack_a_label_of_the_task(folder: Path) -> None:
    write(folder / "ood.jsonl", pairs("ood", 30, labels=2))
    suite = named(load(folder), "ood_dev.x")
    assert suite.label_names == ("entailment", "neutral", "contradiction")
    assert suite.collapse(("entailment", "neutral", "contradiction")).tolist() == [0, 1, 2]


def test_exclude_takes_pairs_out_of_the_test_side(folder: Path) -> None:
    write(folder / "test.jsonl", [*pairs("ood", 10), *pairs("test", 30)])
    plain = load(folder, roles={"ood_test": {"y": "test.jsonl"}}, allow_overlap=True)
    assert len(named(plain, "ood_dev.x")) == 20
    roles = {"ood_test": {"y": {"file": "test.jsonl", "exclude": ["ood.jsonl", "dev.jsonl"]}}}
    task = load(folder, roles=roles)
    assert len(named(task, "ood_test.y")) == 30
    assert len(named(task, "ood_dev.x")) == 30
    assert task.notes["excluded/ood_test.y"] == 10
    assert task.notes["removed_overlap/ood_dev.x"] == 0


def test_overlap_is_removed_from_train_and_counted(folder: Path) -> None:
    write(folder / "ood.jsonl", [*pairs("ood", 30), *pairs("TRAIN,", 10)])
    task = load(folder)
    assert task.notes["removed_overlap/train.files"] == 10
    assert len(task.train) + len(task.id_dev) == 290
    write(folder / "ood.jsonl", [*pairs("ood", 30), *pairs("train", 16)])
    assert broken(folder) == [
        "task.train.files: at most 5 % of a split may also be in a split that wins over it (test "
        "over dev over train), but 16 of 300 pairs are (5.3 %): 16 in ood_dev.x; leave them out "
        "on the test side (exclude: FILE), or set allow_overlap: true to drop them"
    ]
    assert load(folder, allow_overlap=True).notes["removed_overlap/train.files"] == 16


def test_data_dir_is_relative_to_the_current_directory_or_home(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = load(folder).digest()
    monkeypatch.chdir(folder.parent)
    assert load(Path(folder.name)).digest() == digest
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load(Path("~") / folder.name).digest() == digest
    assert load(Path("/nowhere"), roles=_absolute(folder)).digest() == digest


def test_a_relative_data_dir_stays_where_it_was_when_the_process_moves(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    config = files.Config.model_validate(
        {"data_dir": folder.name, "text": ("a",), "label": "y", "labels": ["x", "z"]}
        | {"roles": _absolute(folder)}
    )
    monkeypatch.chdir(tmp_path)
    assert config.path("train.jsonl") == folder / "train.jsonl"
    assert config.as_dict()["data_dir"] == str(folder)


def _absolute(folder: Path) -> dict[str, Any]:
    return {"train": str(folder / "train.jsonl"), "ood_dev": {"x": str(folder / "ood.jsonl")}}


# --- what a configuration may not say


def test_a_file_may_have_columns_of_its_own(folder: Path) -> None:
    """Suites from elsewhere call their columns otherwise; what is read is the same."""
    plain = {"ood_dev": {"x": {"file": "ood.jsonl", "exclude": "out.jsonl"}}, "id_dev": "dev.jsonl"}
    write(folder / "out.jsonl", pairs("ood", 2))
    expected = load(folder, roles=plain)

    def renamed(row: dict[str, Any]) -> dict[str, Any]:
        return {"a": row["sentence1"], "b": row["sentence2"], "gold": row["label"]}

    for name, prefix in (("ood", "ood"), ("out", "ood"), ("dev", "dev")):
        write(
            folder / f"{name}.jsonl",
            [renamed(r) for r in pairs(prefix, 2 if name == "out" else 30)],
        )
    assert all("own: {file: ..., text: [...]," in each for each in broken(folder, roles=plain))
    own = {"text": ["a", "b"], "label": "gold"}
    roles = {
        "ood_dev": {"x": {"file": "ood.jsonl", "exclude": "out.jsonl", **own}},
        "id_dev": {"file": "dev.jsonl", **own},
    }
    found = load(folder, roles=roles)
    assert [split.name for split in found.splits] == [split.name for split in expected.splits]
    for ours, theirs in zip(found.splits, expected.splits, strict=True):
        assert list(ours.texts()) == list(theirs.texts()) and np.array_equal(
            ours.labels, theirs.labels
        )
    assert len(named(found, "ood_dev.x")) == 28


def test_columns_are_written_only_where_a_file_has_its_own(folder: Path) -> None:
    """Configurations of before these keys keep their fingerprint."""
    source = config(folder).as_dict()["roles"]["ood_dev"]["x"]
    assert set(source) == {"file", "labels", "drop_labels", "merge", "slice", "exclude"}
    given = {"file": "ood.jsonl", "text": ["b", "a"], "label": "gold"}
    written = config(folder, roles={"ood_dev": {"x": given}}).as_dict()
    assert written["roles"]["ood_dev"]["x"] == source | given
    assert validate_section(files.Config, written, "task").as_dict() == written


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"labels": {0: "a"}}, "task.labels: must name at least two labels"),
        ({"labels": {0: "a", 1: "a"}}, "task.labels: must name at least two labels"),
        ({"labels": {1: "a", "1": "b"}}, "task.labels: labels in the file must differ"),
        ({"labels": {0.5: "a", 1: "b"}}, "task.labels: labels in the file must be integers"),
        (
            {"labels": [0, 1]},
            "the name of label 0 must be a text, like {0: good}, or the number in",
        ),
        (
            {"labels": [{0: "a"}, {1: "b"}]},
            "task.labels: must be a list of names, or one mapping of what is in the file to names, "
            "{0: negative, 1: positive} (on separate lines: without dashes), but got [{0: 'a'}",
        ),
        ({"labels": {0: True, 1: False}}, "YAML reads yes, no, on and off as booleans"),
        ({"labels": {0: "", 1: "b"}}, "task.labels.0: string should have at least 1 character"),
        ({"labels": "a"}, "task.labels: must be a mapping"),
        ({"text": []}, "task.text: list should have at least 1 item"),
        ({"text": ["a", "b", "c"]}, "task.text: list should have at most 2 items"),
        (
            {"text": ["label"]},
            "label must be a different column from those of text, but 'label' is among",
        ),
        (
            {"text": ["a", "a"], "limit": 0},
            "task.text: must be two different columns for pairs, or one for single texts (text: "
            "[a]), but got ['a', 'a']",
        ),
        (
            {"roles": {"ood_dev": {"x": {"file": "ood.jsonl", "text": "claim"}}}},
            "roles.ood_dev.x.text must be 2 columns, as the task's ['sentence1', 'sentence2'], not",
        ),
        (
            {"roles": {"id_dev": {"file": "dev.jsonl", "text": ["a", "a"]}}},
            "roles.id_dev.text must be two different columns",
        ),
        (
            {"roles": {"ood_dev": {"x": {"file": "ood.jsonl", "label": "sentence2"}}}},
            "roles.ood_dev.x.label must be a different column from those of text, but 'senten",
        ),
        ({"drop_labels": [1]}, "drop_labels must not be in labels, as ['1'] are"),
        ({"limit": 0}, "task.limit: input should be greater than or equal to 1"),
        ({"columns": 1}, "task.columns: unknown key 'columns': "),
        (
            {"roles": {"ood_dev": {}}},
            "task.roles.ood_dev: must have at least one suite, {NAME: PATH}",
        ),
        (
            {"roles": {"train": 3}},
            "task.roles.train: must be a path, or {file: PATH, ...}, but got 3",
        ),
        (
            {"roles": {"ood_dev": "ood.jsonl"}},
            "task.roles.ood_dev: must give each of its suites a name, like {my_suite: ood.jsonl} "
            "or {my_suite: {file: ood.jsonl, ...}}, but got 'ood.jsonl'",
        ),
        (
            {"roles": {"ood_test": ["ood.jsonl"]}},
            "task.roles.ood_test: must give each of its suites a name, like {my_suite: FILE}",
        ),
        (
            {"roles": {"ood_dev": {"x": "dev.xlsx"}}},
            "task.roles.ood_dev.x.file: must be a file that ends in one of .parquet",
        ),
        (
            {"roles": {"ood_dev": {"a.b": "ood.jsonl"}}},
            "names of suites must be letters, digits, _ and -, not ['a.b']",
        ),
        (
            {"roles": {"ood_dev": {"x": {"file": "ood.jsonl", "slices": "a"}}}},
            "task.roles.ood_dev.x.slices: unknown key 'slices': did you mean 'slice'?",
        ),
        (
            {"roles": {"ood_dev": {"x": {"slice": "a"}}}},
            "task.roles.ood_dev.x.file: is required",
        ),
        (
            {"roles": {"train": {"file": "train.jsonl", "labels": {0: "a", 1: "b"}}}},
            "roles.train.labels is for out-of-distribution suites only",
        ),
        (
            {"roles": {"ood_dev": {"x": {"file": "ood.jsonl", "merge": {"netral": "neutral"}}}}},
            "roles.ood_dev.x.merge must map labels of the task, but 'netral' is not one: "
            "did you mean 'neutral'?",
        ),
        (
            {"roles": {"ood_dev": {"x": {"file": "ood.jsonl", "merge": {"neutral": "not"}}}}},
            "roles.ood_dev.x.merge must map to labels of the suite, but 'not' is not one",
        ),
        (
            {"roles": {"ood_dev": {"x": {"file": "o.csv", "labels": {0: "entailment", 1: "not"}}}}},
            "merge must say which of the task's labels ['entailment', 'neutral', 'contradiction'] "
            "stand for ['not']",
        ),
        (
            {"roles": {"ood_dev": {"x": {"file": "ood.jsonl", "merge": {"neutral": False}}}}},
            "must map label names to label names; YAML reads yes, no, on and off as booleans",
        ),
    ],
)
def test_a_wrong_configuration_is_refused(
    folder: Path, changes: dict[str, Any], expected: str
) -> None:
    assert expected in refused(folder, **changes)


def test_all_problems_of_a_configuration_come_at_once(folder: Path) -> None:
    text = refused(folder, limit=0, labels={0: "a"}, roles={"ood_dev": {"x": "a.txt"}})
    assert text.count("\n") == 2


# --- what files may not hold


def test_a_carved_id_dev_that_is_too_small_is_said_to_be_carved(folder: Path) -> None:
    write(folder / "train.jsonl", [*pairs("train", 12, label=0), *pairs("more", 1, label=1)])
    (line,) = broken(folder)
    assert line.startswith("task.train.files: must have enough labels to carve id_dev from it (")
    assert "is left with only 'entailment'; give an id_dev, or more rows" in line
    write(folder / "train.jsonl", [*pairs("train", 2, label=0), *pairs("more", 2, label=1)])
    (line,) = broken(folder)
    assert "(0 of 4 rows were taken), but id_dev is left with no rows; give an id_dev" in line


def test_everything_wrong_with_the_files_comes_at_once(folder: Path) -> None:
    write(folder / "train.jsonl", [*pairs("train", 20), *pairs("more", 3, label=7)])
    write(folder / "dev.jsonl", pairs("dev", 30, label=0))
    write(folder / "ood.jsonl", pairs("ood", 30, sentence2=" "))
    found = broken(
        folder,
        roles={
            "id_dev": "dev.jsonl",
            "id_test": "nothing.csv",
            "ood_test": {"y": {"file": "test.jsonl", "slice": "subcas"}},
        },
    )
    assert [line.partition(": ")[0].partition(" (")[0] for line in found] == [
        "task.train.files",
        "task.id_dev.files",
        "task.ood_dev.x",
        "task.id_test.files",
        "task.ood_test.y",
    ]
    train, id_dev, ood_dev, id_test, ood_test = found
    assert "'7' in 3 rows; known are ['0', '1', '2']" in train
    assert str(folder / "train.jsonl") in train
    assert "at least two labels, but has only 'entailment'" in id_dev
    assert "column 'sentence2' must hold a text in every row, but 30 rows are empty" in ood_dev
    assert "(first: line 1); fill them in" in ood_dev
    assert train.endswith("the first is in line 21")
    assert str(folder / "ood.jsonl") in ood_dev
    assert "no such file; check data_dir" in id_test
    assert "must have a column 'subcas': available: sentence1, sentence2, label" in ood_test


def test_everything_wrong_with_one_file_comes_at_once_with_places_in_it(folder: Path) -> None:
    rows = [*pairs("ood", 20), {"sentence1": 3, "sentence2": None, "label": "x"}]
    write(folder / "ood.jsonl", rows)
    suite = {"file": "ood.jsonl", "exclude": "gone.csv"}
    found = broken(folder, roles={"ood_dev": {"x": suite}})
    told = ("the first is in line 21", "(first: line 21, 3)", "gone.csv: must be a csv file")
    assert len(found) == 3 and all(each in line for each, line in zip(told, found, strict=True))


def test_an_unknown_label_hides_no_empty_text(folder: Path) -> None:
    more: list[dict[str, Any]] = [
        {"sentence1": "a", "sentence2": "b", "label": "x"},
        {"sentence1": "c", "sentence2": " ", "label": 1},
        {"sentence1": "", "sentence2": "e", "label": 2},
    ]
    write(folder / "ood.jsonl", [*pairs("ood", 20, labels=2), *more])
    label, text = broken(folder, labels={0: "yes", 1: "no"}, drop_labels=[2])
    assert "'x' in 1 row" in label
    assert "column 'sentence2'" in text and "1 row is empty there (first: line 22)" in text


def test_places_are_those_in_the_file_whatever_was_left_out_of_it(folder: Path) -> None:
    lines = ["sentence1,sentence2,label", "a,b,1", '"two\nlines",x,2', "c,d,0", "e,,2", "g,h,0"]
    (folder / "ood.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write(folder / "gone.jsonl", [{"sentence1": "c", "sentence2": "d"}])
    suite = {"file": "ood.csv", "exclude": "gone.jsonl"}
    (line,) = broken(
        folder, labels={0: "yes", 2: "no"}, drop_labels=[1], roles={"ood_dev": {"x": suite}}
    )
    assert "column 'sentence2'" in line
    assert "1 row is empty there (first: line 6 (the header is line 1))" in line


def test_a_split_emptied_by_overlap_is_an_error(folder: Path) -> None:
    """Nothing is left to allow, so `allow_overlap` is no way out and is not named as one."""
    write(folder / "ood.jsonl", pairs("train", 300))
    for allow in (False, True):
        (line,) = broken(folder, allow_overlap=allow)
        assert "task.train.files: must keep samples, but each of its 300 pairs is also in" in line
        assert "allow_overlap" not in line


def test_a_suite_emptied_by_exclude_is_an_error_that_says_so(folder: Path) -> None:
    suite = {"file": "ood.jsonl", "exclude": "ood.jsonl"}
    (line,) = broken(folder, roles={"ood_dev": {"x": suite}})
    assert "ood.jsonl: must keep samples, but all" in line and "are in exclude" in line


def test_an_exclude_file_that_is_missing_is_named(folder: Path) -> None:
    suite = {"file": "ood.jsonl", "exclude": "gone.csv"}
    (line,) = broken(folder, roles={"ood_dev": {"x": suite}})
    assert "gone.csv" in line and "no such file" in line


# --- real files


@pytest.mark.realdata
def test_fever_with_two_labels_and_symmetric_suites(data_dir: Path) -> None:
    given = {
        "name": "files",
        "data_dir": str(data_dir / "fever"),
        "text": ["sentence1", "sentence2"],
        "label": "label",
        "labels": {0: "SUPPORTS", 2: "REFUTES"},
        "drop_labels": [1],
        "limit": 3_000,
        "roles": {
            "train": "train.parquet",
            "id_test": "dev.parquet",
            "ood_dev": {"symmetric_v2": "symmetric_v02_dev.parquet"},
            "ood_test": {
                "symmetric_v1": {
                    "file": "symmetric_v01_generated.parquet",
                    "exclude": "symmetric_v02_dev.parquet",
                }
            },
        },
    }
    task = files.load(validate_section(files.Config, given, "task"))
    sizes = {split.name: len(split) for split in task.splits}
    assert sizes == {
        "train.files": 3_000,
        "id_dev.files": 1_000,
        "ood_dev.symmetric_v2": 708,
        "id_test.files": 2_025,
        "ood_test.symmetric_v1": 362,
    }
    assert task.notes["dropped_labels/train.files"] == 8_435
