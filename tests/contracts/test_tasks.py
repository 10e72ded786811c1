"""What every task must hold, for every plugin found."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from rc_core import plugins
from rc_core.config import PluginConfig
from rc_core.data._splits import split_keys
from rc_core.data._task import ROLES, Task, check_task
from rc_core.errors import ConfigError
from rc_core.schema import validate_section
from tests.rc_core.data._public_files import pairs, write, write_public

PACKAGE = "rc_core.data"
NAMES = plugins.available(PACKAGE)


def public(folder: Path) -> dict[str, Any]:
    write_public(folder)
    # Some pairs of the test are in train as well: a task has to take them out.
    for name, train, test, labels in (
        ("mnli", "train", "dev", 3),
        ("fever", "ftrain", "fdev", 3),
        ("qqp", "qtrain", "qdev", 2),
    ):
        rows = [*pairs(train, 300, labels), *pairs(test, 6, labels)]
        write(folder / name / "train.parquet", rows)
    return {"data_dir": str(folder)}


def own_files(folder: Path) -> dict[str, Any]:
    write(folder / "train.parquet", [*pairs("train", 300, 2), *pairs("test", 6, 2)])
    write(folder / "ood.parquet", [*pairs("ood", 40, 2), *pairs("test", 2, 2)])
    write(folder / "test.parquet", pairs("test", 30, 2))
    return {
        "data_dir": str(folder),
        "text": ["sentence1", "sentence2"],
        "labels": {0: "no", 1: "yes"},
        "roles": {
            "train": "train.parquet",
            "ood_dev": {"other": "ood.parquet"},
            "ood_test": {"last": "test.parquet"},
        },
    }


# Of every task a small configuration: writes what it reads into an empty folder, returns its keys.
EXAMPLES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "fever": public,
    "files": own_files,
    "mnli": public,
    "qqp": public,
    "shortcut_nli": lambda folder: {"train_size": 150, "dev_size": 60, "test_size": 60},
}

over_tasks = pytest.mark.parametrize("name", NAMES)


def example(name: str, folder: Path) -> dict[str, Any]:
    if name not in EXAMPLES:
        pytest.fail(f"add a small configuration of '{name}' to EXAMPLES in {Path(__file__).name}")
    return {"name": name, **EXAMPLES[name](folder)}


def config_of(name: str, given: dict[str, Any]) -> Any:
    return validate_section(plugins.load(PACKAGE, name).Config, given)


def load(name: str, given: dict[str, Any]) -> Task:
    task: Task = plugins.load(PACKAGE, name).load(config_of(name, given))
    return task


def test_plugins_are_found() -> None:
    assert {"fever", "files", "mnli", "qqp", "shortcut_nli"} <= set(NAMES)


def test_a_task_without_an_example_is_told_where_to_add_one(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="add a small configuration of 'newest'"):
        example("newest", tmp_path)


@over_tasks
def test_the_task_is_sound_and_named_after_its_file(name: str, tmp_path: Path) -> None:
    task = load(name, example(name, tmp_path))
    assert check_task(task) is task
    assert task.name == name
    assert len(set(task.label_names)) == len(task.label_names) >= 2
    suites = [(split.role, split.suite) for split in task.splits]
    assert len(set(suites)) == len(suites)
    assert {role for role, _ in suites} <= set(ROLES)
    assert len(task.of_role("train")) == len(task.of_role("id_dev")) == 1
    # Notes go into records, which are JSON.
    json.dumps(dict(task.notes), allow_nan=False)
    conflicting = task.bias_conflicting
    assert conflicting is None or conflicting.shape == (len(task.train),)


@over_tasks
def test_the_names_of_its_texts_are_as_many_as_its_texts(name: str, tmp_path: Path) -> None:
    """Whether its file declares them or its section names columns: the model card says them."""
    given = example(name, tmp_path)
    declared = getattr(plugins.load(PACKAGE, name), "TEXTS", None)
    if declared is None and "text" not in given:
        pytest.skip("says nothing of its texts")
    second = load(name, given).id_dev.second
    names = given.get("text", declared)
    assert names is not None and len(names) == (1 if second is None else 2)


@over_tasks
def test_the_same_configuration_gives_the_same_task(name: str, tmp_path: Path) -> None:
    given = example(name, tmp_path)
    first, second = load(name, given), load(name, given)
    assert first.digest() == second.digest()
    assert [each.digest() for each in first.splits] == [each.digest() for each in second.splits]


@over_tasks
def test_another_seed_gives_other_splits(name: str, tmp_path: Path) -> None:
    """Where there is a key `seed`, something that selection sees has to follow it."""
    given = example(name, tmp_path)
    if "seed" not in plugins.load(PACKAGE, name).Config.model_fields:
        pytest.skip("has no seed")
    assert load(name, {**given, "seed": 1}).digest() != load(name, {**given, "seed": 2}).digest()


@over_tasks
def test_no_pair_is_in_two_roles(name: str, tmp_path: Path) -> None:
    task = load(name, example(name, tmp_path))
    pairs_of = {
        role: {key for split in task.of_role(role) for key in split_keys(split)} for role in ROLES
    }
    for first, second in combinations(ROLES, 2):
        assert not pairs_of[first] & pairs_of[second], (first, second)


@over_tasks
def test_a_heuristic_answers_with_the_task_s_labels(name: str, tmp_path: Path) -> None:
    task = load(name, example(name, tmp_path))
    if task.heuristic is None:
        pytest.skip("has no heuristic")
    for split in task.splits:
        assert split.second is not None, "a heuristic compares two texts"
        answers = {task.heuristic(*pair) for pair in zip(split.first, split.second, strict=True)}
        assert answers <= set(task.label_names), split.name


@over_tasks
def test_config_is_a_strict_section_and_survives_json(name: str, tmp_path: Path) -> None:
    given = example(name, tmp_path)
    config = config_of(name, given)
    assert isinstance(config, PluginConfig) and config.name == name
    assert config_of(name, json.loads(json.dumps(config.as_dict()))) == config
    with pytest.raises(ConfigError, match="unknown key 'trian_size'"):
        config_of(name, {**given, "trian_size": 100})
