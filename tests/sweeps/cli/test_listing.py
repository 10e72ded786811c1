"""`rc-sweep list`: who has only the wheel can look up every key of a YAML."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from rc_core.config import TrainingConfig
from rc_core.data._files_schema import Source
from rc_core.errors import InputError
from sweeps.cli import app
from sweeps.cli.listing import _KINDS, _SYNONYMS, SECTION_KINDS, section_keys
from sweeps.sections import TRIAL_KEYS
from sweeps.settings import SweepSettings


def rc_sweep(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("kind", SECTION_KINDS)
def test_every_key_of_every_section_says_what_it_means(kind: str) -> None:
    keys = list(section_keys(kind))
    json.dumps(keys)
    assert keys and [k["key"] for k in keys if not k["meaning"] or k["type"] == "anything"] == []


def test_all_that_may_stand_at_the_top_is_listed_once() -> None:
    keys = [entry["key"] for entry in section_keys("sweep")]
    assert sorted(keys) == sorted([*TRIAL_KEYS, "space", "include", *SweepSettings.model_fields])


def test_every_pointer_leads_somewhere() -> None:
    pointers = [
        entry["meaning"].partition(": rc-sweep list ")[2] for entry in section_keys("sweep")
    ]
    kinds = {pointer for pointer in pointers if pointer}
    assert {"training", "resources", "search", "budget", "tracking", "losses"} <= kinds
    for kind in kinds:
        assert rc_sweep("list", kind).exit_code == 0, kind


def test_the_keys_of_a_section_are_listed() -> None:
    lines = rc_sweep("list", "training").output.splitlines()
    assert [line.split()[0] for line in lines] == list(TrainingConfig.model_fields)
    assert next(line for line in lines if line.startswith("epochs (2.0)")).endswith("allowed.")
    budget = [" ".join(line.split()) for line in rc_sweep("list", "budget").output.splitlines()]
    assert (
        "stall.trials (required) number of trials, the last ones to end, whose gain is measured."
        in budget
    )
    assert rc_sweep("list", "budget", "hours").output.startswith(
        "hours: number > 0 | null; default"
    )
    document = json.loads(rc_sweep("list", "resources", "gpu", "--json").stdout)
    assert document["name"] == "resources" and document["keys"][0]["default"] == 0
    objectives = rc_sweep("list", "sweep", "objectives").output
    assert 'default {"id_dev/accuracy": "max", "ood_dev/accuracy": "max"}' in objectives


def test_samplers_are_listed_with_where_their_keys_are() -> None:
    out = rc_sweep("list", "search").output
    assert out.splitlines()[-1].endswith("rc-sweep list search tpe")
    assert "trials: integer >= 1; default 12" in rc_sweep("list", "search", "tpe").output
    assert "tpe" in json.loads(rc_sweep("list", "search", "--json").stdout)
    # No YAML may name it: it belongs to rc-sweep confirm.
    assert "race" not in out and "race" not in rc_sweep("list").output.split("\nschedulers")[0]


def test_without_a_kind_what_every_kind_has_is_listed() -> None:
    names = json.loads(rc_sweep("list", "--json").stdout)
    assert list(names) == _KINDS
    assert "rmc" in names["losses"] and "id_dev/accuracy" not in names["metrics"]
    out = rc_sweep("list").output
    words = {word.strip(",") for word in out.split()}
    assert {each for kind in names.values() for each in kind} <= words
    assert max(map(len, out.splitlines())) <= 100


def test_a_wrong_key_or_kind_is_told() -> None:
    wrong = rc_sweep("list", "budget", "stal").exception
    assert isinstance(wrong, InputError) and "did you mean 'stall'" in str(wrong)
    wrong = rc_sweep("list", "trainin").exception
    assert isinstance(wrong, InputError) and "did you mean 'training'" in str(wrong)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("loss", "losses"),
        ("loss rmc", "losses rmc"),
        ("data", "tasks"),
        ("task files", "tasks files"),
        ("sampler", "search"),
        ("scheduler", "schedulers"),
        ("metric", "metrics"),
        ("Difficulties", "difficulty"),
        ("teacher epochs", "training epochs"),
        ("space", "sweep space"),
        ("constraints", "sweep constraints"),
        ("yaml", "sweep"),
    ],
)
def test_a_kind_may_be_called_as_people_do(asked: str, shown: str) -> None:
    done = rc_sweep("list", *asked.split())
    assert done.exit_code == 0 and done.output == rc_sweep("list", *shown.split()).output


def test_every_synonym_is_of_a_kind() -> None:
    assert set(_SYNONYMS.values()) <= set(_KINDS) and not set(_SYNONYMS) & set(_KINDS)


def test_the_keys_of_a_suite_are_listed_with_the_encoding() -> None:
    document = json.loads(rc_sweep("list", "tasks", "files", "--json").stdout)
    keys = {key["key"]: key["meaning"] for key in document["keys"]}
    inside = {key for key in keys if key.startswith("roles.ood_dev.NAME.")}
    assert {key.rpartition(".")[2] for key in inside} == set(Source.model_fields)
    assert "UTF-8" in keys["roles"] and "{NAME: PATH}" in keys["roles.ood_dev"]
    assert "expert.level: number > 0, < 1" in rc_sweep("list", "losses", "poe").output


def test_sections_are_listed_without_the_heavy_libraries() -> None:
    code = (
        "import sys\n"
        "from sweeps.cli.listing import SECTION_KINDS, section_keys\n"
        "assert all(list(section_keys(kind)) for kind in SECTION_KINDS)\n"
        "print(sorted({'torch', 'transformers', 'ray', 'mlflow', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
