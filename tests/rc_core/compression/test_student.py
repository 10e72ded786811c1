"""Which blocks a student keeps, and that it computes what a model of those blocks computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rc_core.compression.student import Compression, Config, kept_layers, problems
from rc_core.errors import ConfigError, ModelError
from rc_core.model_facts import ModelFacts
from rc_core.schema import validate_section
from tests.contracts._tiny import ARCHITECTURES, logits_of, tiny_context, tiny_model


def config_of(**values: Any) -> Config:
    return validate_section(Config, {"name": "student", **values})


@pytest.mark.parametrize(
    ("values", "num_layers", "expected"),
    [
        ({"num_layers": 6}, 12, (0, 1, 2, 3, 4, 5)),
        ({"num_layers": 6, "select": "spaced"}, 12, (0, 2, 4, 7, 9, 11)),
        ({"num_layers": 3, "select": "spaced"}, 6, (0, 2, 5)),
        ({"num_layers": 2, "select": "spaced"}, 6, (0, 5)),
        ({"num_layers": 1, "select": "spaced"}, 6, (0,)),
        ({"num_layers": 6, "select": "spaced"}, 6, (0, 1, 2, 3, 4, 5)),
        ({"num_layers": 1}, 1, (0,)),
        ({"keep": [0, 3, 5]}, 6, (0, 3, 5)),
        ({"keep": [5]}, 6, (5,)),
    ],
)
def test_kept_layers(values: dict[str, Any], num_layers: int, expected: tuple[int, ...]) -> None:
    assert kept_layers(config_of(**values), num_layers) == expected


@pytest.mark.parametrize("num_layers", range(2, 25))
def test_spaced_is_linspace_rounded_and_never_repeats(num_layers: int) -> None:
    for count in range(2, num_layers + 1):
        kept = kept_layers(config_of(num_layers=count, select="spaced"), num_layers)
        assert list(kept) == np.linspace(0, num_layers - 1, count).round().astype(int).tolist()
        assert len(set(kept)) == count and kept[0] == 0 and kept[-1] == num_layers - 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("values", "kept"),
    [({"num_layers": 2}, (0, 1)), ({"num_layers": 2, "select": "spaced"}, (0, 3)),
     ({"keep": [1, 2, 3]}, (1, 2, 3))],
)  # fmt: skip
def test_student_equals_a_smaller_model_given_those_blocks(
    architecture: str, values: dict[str, Any], kept: tuple[int, ...]
) -> None:
    teacher = tiny_model(architecture)
    more: dict[str, Any] = {}
    list_name = ".layer."
    if architecture == "modernbert":
        if kept[0] != 0:
            values, kept = {"keep": [0, 2, 3]}, (0, 2, 3)
        more = {"layer_types": [teacher.config.layer_types[i] for i in kept]}
        list_name = ".layers."
    smaller = tiny_model(architecture, num_layers=len(kept), seed=5, **more)
    state = {}
    for name, value in teacher.state_dict().items():
        before, separator, after = name.partition(list_name)
        if not separator:
            state[name] = value.clone()
            continue
        position, _, rest = after.partition(".")
        if int(position) in kept:
            state[f"{before}{list_name}{kept.index(int(position))}.{rest}"] = value.clone()
    smaller.load_state_dict(state)

    compression = Compression(config_of(**values))
    student = compression.finalize(compression.prepare(teacher, tiny_context()))
    assert torch.equal(logits_of(student), logits_of(smaller))
    report = compression.report(student)
    assert report["asked"] == {"layers": len(kept), "kept": list(kept)}
    assert report["measured"]["layers"] == len(kept)
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize(
    ("values", "num_layers", "where"),
    [
        ({"num_layers": 7}, 6, "compression.num_layers"),
        ({"keep": [0, 6]}, 6, "compression.keep"),
        ({"num_layers": 6}, 6, None),
        ({"keep": [5]}, 6, None),
    ],
)
def test_problems_are_found_without_a_model(
    values: dict[str, Any], num_layers: int, where: str | None
) -> None:
    facts = ModelFacts("bert", num_layers, num_heads=2, max_positions=40, num_parameters=1)
    found = problems(config_of(**values), facts)
    assert [problem.where for problem in found] == ([where] if where else [])


@pytest.mark.parametrize("values", [{"num_layers": 5}, {"keep": [4]}])
def test_more_layers_than_the_encoder_has_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="the encoder"):
        Compression(config_of(**values)).prepare(tiny_model("bert"), tiny_context())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "exactly one of num_layers and keep"),
        ({"num_layers": 2, "keep": [0]}, "exactly one of num_layers and keep"),
        ({"num_layers": 0}, "greater than or equal to 1"),
        ({"num_layers": 2.0}, "integer"),
        ({"keep": []}, "keep"),
        ({"keep": [1, 0]}, "strictly increasing"),
        ({"keep": [1, 1]}, "strictly increasing"),
        ({"keep": [-1]}, "greater than or equal to 0"),
        ({"num_layers": 2, "select": "last"}, "select"),
    ],
)
def test_bad_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(**values)


def test_another_encoder_brings_its_own_layers_and_name() -> None:
    config = validate_section(Config, {"name": "student", "model": "org/distil-bert@abc"})
    assert config.encoder("tiny:bert") == "org/distil-bert@abc"
    assert config.label() == "student-distil-bert"
    assert kept_layers(config, 3) == (0, 1, 2)
    cut = validate_section(Config, {"name": "student", "model": "tiny:roberta", "num_layers": 2})
    assert cut.label() == "student-roberta-2" and kept_layers(cut, 4) == (0, 1)


def test_another_encoder_does_not_start_from_the_teacher() -> None:
    with pytest.raises(ConfigError, match="init must be pretrained"):
        validate_section(Config, {"name": "student", "model": "tiny:roberta", "init": "teacher"})


def test_modernberts_first_block_has_to_stay() -> None:
    facts = ModelFacts("modernbert", num_layers=4, num_heads=2, max_positions=40, num_parameters=1)
    (problem,) = problems(config_of(keep=[1, 2]), facts)
    assert problem.where == "compression.keep" and "must begin with 0" in problem.message
    assert not problems(config_of(keep=[0, 2]), facts)
