"""What a plugin declares of the shared artifacts behind its trials, against their keys.

Each key of a trial is changed by itself, for every plugin found. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest

from rc_core import plugins
from rc_core.config import ALPHA_KEYS, PLUGIN_PACKAGES, TrainingConfig, decode
from rc_core.errors import ConfigError, DifficultyError
from rc_core.preparation import steps
from rc_core.workspace import Workspace
from sweeps.plugin_configs import declared_keys

BASE: dict[str, Any] = {
    "model": "tiny:bert",
    "task": {"name": "shortcut_nli", "train_size": 1000, "dev_size": 60, "test_size": 60},
    "training": {"precision": "fp32"},
    # As a sweep states it: what is searched of `training` is not the dense reference's.
    "teacher": TrainingConfig(precision="fp32").as_dict(),
    # It has no need of its own, and others can be told apart.
    "difficulty": {"name": "loss_variance"},
}
# What a plugin needs besides its name, or is looked at with besides its defaults.
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "compression.student": [{"num_layers": 2}],
    "loss.rmc": [{}, {"alpha": "auto", "alpha_on": {"name": "magnitude", "sparsity": 0.5}}],
}
CASES = [
    (section, name, example)
    for section in ("compression", "loss", "difficulty")
    for name in plugins.available(PLUGIN_PACKAGES[section])
    for example in EXAMPLES.get(f"{section}.{name}", [{}])
]
OTHERS = (0.25, 0.75, 0.4, 1, 2, 3, 64, True, False, "bf16", [0.2, 0.6], [0, 2], {"level": 0.6})
MORE = ("hypothesis_only", "tiny:distilbert", {"name": "magnitude", "sparsity": 0.7})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("artifacts"), device="cpu")


def keys_of(values: dict[str, Any], workspace: Workspace) -> set[str] | None:
    """Return the keys of what a trial reads; None where its values are none."""
    try:
        return {step.key.key for step in steps(decode(values), workspace)}
    except (ConfigError, DifficultyError):
        return None


def choices(annotation: Any) -> Iterator[Any]:
    """Yield the values of each `Literal` in an annotation."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    for part in get_args(annotation):
        yield from choices(part)


def others(values: dict[str, Any], section: str, key: str, annotation: Any) -> list[Any]:
    """Return values that differ in one key; `auto`, which is another case, is left out."""
    return [
        values | {section: values[section] | {key: other}}
        for other in (*choices(annotation), *OTHERS, *MORE)
        if other != "auto" or key != "alpha"
    ]


@pytest.mark.parametrize(
    ("section", "name", "example"), CASES, ids=[f"{s}.{n}{'+' * bool(e)}" for s, n, e in CASES]
)
def test_what_is_built_depends_on_the_keys_that_are_declared_and_no_others(
    section: str, name: str, example: dict[str, Any], workspace: Workspace
) -> None:
    values = BASE | {"compression": {"name": "magnitude"}, "loss": {"name": "rmc"}}
    if section == "compression":
        values["loss"] = {"name": "vanilla"}
    values[section] = {"name": name, **example}
    config = plugins.load(PLUGIN_PACKAGES[section], name).Config
    declared = set(declared_keys(section, name))
    if section == "difficulty":
        declared.add("difficulty")
    if example.get("alpha") == "auto":
        declared |= ALPHA_KEYS
    before = keys_of(values, workspace)
    assert before
    fields = [("training", TrainingConfig), (section, config)]
    changing, steady = set[str](), set[str]()
    for where, model in fields:
        for field_name, field in model.model_fields.items():
            key = field.alias or field_name
            if key == "name":
                continue
            different = others(values, where, key, field.annotation)
            changes = any(keys_of(each, workspace) not in (before, None) for each in different)
            (changing if changes else steady).add(f"{where}.{key}")

    def is_declared(key: str) -> bool:
        return any(f"{key}.".startswith(f"{each}.") for each in declared)

    assert [key for key in sorted(changing) if not is_declared(key)] == []
    assert [key for key in sorted(steady) if is_declared(key)] == []
    known = {f"{where}.{f.alias or n}" for where, m in fields for n, f in m.model_fields.items()}
    assert {each for each in declared if each not in (section, "difficulty")} <= known
