"""What every compression must hold, for every plugin found and every supported architecture."""

from __future__ import annotations

import copy
import gc
import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from rc_core import plugins
from rc_core.compression._base import ParameterGroup
from rc_core.compression._layers import blocks
from rc_core.compression._masks import num_entries, prunable_weights
from rc_core.config import CompressionConfig
from rc_core.errors import ConfigError, ModelError
from rc_core.model_facts import ModelFacts
from rc_core.models import load_model, load_tokenizer, save_model
from rc_core.schema import validate_section
from tests.contracts._tiny import (
    ARCHITECTURES,
    NUM_LAYERS,
    adamw,
    logits_of,
    tiny_batch,
    tiny_context,
    tiny_model,
    train_steps,
)

PACKAGE = "rc_core.compression"
NAMES = plugins.available(PACKAGE)
# Only where a `Config` cannot be had from its name alone.
EXAMPLES: dict[str, dict[str, Any]] = {"student": {"num_layers": 2, "select": "spaced"}}
FACTS = ModelFacts("bert", num_layers=NUM_LAYERS, num_heads=2, max_positions=40, num_parameters=1)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_load_state_dict_post_hooks")
# Of parameters; None where there never was one.
GRADIENT_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")

over_everything = pytest.mark.parametrize(
    ("name", "architecture"),
    [
        (name, architecture)
        for name in NAMES
        for architecture in ARCHITECTURES
        if architecture in getattr(plugins.load(PACKAGE, name), "FAMILIES", ARCHITECTURES)
    ],
)
over_compressions = pytest.mark.parametrize("name", NAMES)


def config_of(name: str, **values: Any) -> Any:
    module = plugins.load(PACKAGE, name)
    return validate_section(module.Config, {"name": name, **EXAMPLES.get(name, {}), **values})


def build(name: str) -> Any:
    return plugins.load(PACKAGE, name).Compression(config_of(name))


def count_hooks(model: nn.Module) -> Counter[str]:
    found = Counter({kind: sum(len(getattr(m, kind)) for m in model.modules()) for kind in HOOKS})
    for kind in GRADIENT_HOOKS:
        hooks = [getattr(parameter, kind) or () for parameter in model.parameters()]
        found[f"{kind} of parameters"] = sum(map(len, hooks))
    return found


def test_plugins_are_found() -> None:
    assert {"dense", "heads", "magnitude", "student"} <= set(NAMES)


@over_everything
def test_finished_model_is_stock_and_as_asked(name: str, architecture: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    hooks = count_hooks(model)
    compression = build(name)
    model = compression.prepare(model, tiny_context(architecture))
    train_steps(model, compression, adamw(model), last=3, total=3)
    model = compression.finalize(model).eval()
    assert count_hooks(model) == hooks, "finalize() must remove every hook that prepare() made"
    own = logits_of(model)
    # The trial's own folder gives the very same model back, whatever its shape.
    save_model(model, load_tokenizer("tiny:bert"), tmp_path / "own", compression=name)
    assert torch.equal(logits_of(load_model(tmp_path / "own").eval()), own), (
        "a trial's model must be the same, to the bit, when it is reloaded: what its config does "
        "not describe needs functions structure() and restore() in the plugin's file"
    )
    report = compression.report(model)
    layers = report["measured"]["layers"]
    # As an export does: nothing but the saved model says what was done to it.
    model = build(name).to_stock(load_model(tmp_path / "own")).eval()
    torch.testing.assert_close(logits_of(model), own, atol=1e-5, rtol=1e-5)
    rounding = 1 / num_entries(prunable_weights(model).values())
    # What was asked and is measured under the same name has to agree.
    shared = set(report["asked"]) & set(report["measured"])
    assert shared, "what is asked has to be measured under the same name"
    for key in shared:
        asked, measured = report["asked"][key], report["measured"][key]
        assert measured == pytest.approx(asked, abs=rounding), (
            f"report()'s measured '{key}' must be what was asked within one weight ({rounding:.2g} "
            f"of the finished model's), but is {measured} for {asked}: reach it by the last "
            "after_step() (see _masks.py), or report as asked what whole units amount to"
        )

    expected = logits_of(model)
    model.save_pretrained(tmp_path / "stock")
    reloaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "stock")
    assert type(reloaded) is type(tiny_model(architecture))
    assert len(blocks(reloaded)) == layers
    assert torch.equal(logits_of(reloaded.eval()), expected)


FAMILIES = [
    (name, family)
    for name in NAMES
    for family in getattr(plugins.load(PACKAGE, name), "FAMILIES", ())
    if family not in ARCHITECTURES
]


@pytest.mark.parametrize(("name", "architecture"), FAMILIES)
def test_every_family_that_is_said_to_work_does(
    name: str, architecture: str, tmp_path: Path
) -> None:
    test_finished_model_is_stock_and_as_asked(name, architecture, tmp_path)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        *(("heads", each) for each in ("big_bird", "convbert", "deberta", "megatron-bert")),
        *(("heads", each) for each in ("mobilebert", "mpnet", "nystromformer", "rembert")),
        *(("heads", each) for each in ("roformer", "modernbert")),
        ("ffn", "mobilebert"),
        ("ffn", "albert"),
    ],
)
def test_a_family_that_does_not_work_is_refused_by_its_config(name: str, family: str) -> None:
    facts = replace(FACTS, model_type=family)
    (problem,) = plugins.load(PACKAGE, name).problems(config_of(name), facts)
    assert problem.where == "compression.name" and f"'{family}'" in problem.message


@pytest.mark.parametrize("cut", [3, 6])
@over_everything
def test_resumed_run_ends_as_an_uninterrupted_one(name: str, architecture: str, cut: int) -> None:
    """Stopped while the structure still changes, by most schedules, and after it is settled."""
    start = tiny_model(architecture).state_dict()

    def prepared() -> tuple[Any, Any, Any]:
        model = tiny_model(architecture)
        model.load_state_dict(start)
        compression = build(name)
        model = compression.prepare(model, tiny_context(architecture))
        return model, compression, adamw(model)

    model, compression, optimizer = prepared()
    train_steps(model, compression, optimizer, last=cut, total=8)
    checkpoint = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    train_steps(model, compression, optimizer, first=cut + 1, last=8, total=8)
    expected = compression.finalize(model).state_dict()

    model, compression, optimizer = prepared()
    model.load_state_dict(checkpoint[0])
    optimizer.load_state_dict(checkpoint[1])
    train_steps(model, compression, optimizer, first=cut + 1, last=8, total=8)
    resumed = compression.finalize(model).state_dict()

    assert resumed.keys() == expected.keys()
    wrong = [key for key in expected if not torch.equal(resumed[key], expected[key])]
    assert not wrong, (
        f"a resumed run must end as an uninterrupted one, but {wrong[:3]} differ: what must "
        "outlive a stop has to be a buffer, made in prepare() and deleted in finalize()"
    )


@over_everything
def test_prepared_again_it_is_the_same_model(name: str, architecture: str) -> None:
    """Whatever was drawn before; the caller seeds torch's generator (rc_core.assembly)."""
    found = []
    for _ in range(2):
        model, context = tiny_model(architecture), tiny_context(architecture)
        torch.manual_seed(0)
        found.append(build(name).prepare(model, context).state_dict())
        torch.rand(7)
    first, second = found
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@over_everything
def test_the_structure_stays_once_it_is_settled(name: str, architecture: str) -> None:
    """Schedulers compare what a rung measured from there on.

    Of a weight that is computed in the forward (torch's parametrizations) where it is zero may
    change, until the end.
    """

    def place(key: str) -> str:
        return key.replace("parametrizations.", "").removesuffix(".original")

    def is_helper(key: str) -> bool:
        """Whether it is a parameter of what computes a weight: it goes at the end."""
        return "parametrizations." in key and not key.endswith(".original")

    def structure(model: nn.Module) -> dict[str, Any]:
        zeros = {
            key: weight == 0
            for key, weight in prunable_weights(model).items()
            if place(key) not in computed
        }
        shapes = {
            place(key): tuple(weight.shape)
            for key, weight in model.named_parameters()
            if not is_helper(key)
        }
        buffers = {(key, tuple(each.shape)) for key, each in model.named_buffers()}
        return {"zeros": zeros, "shapes": shapes, "buffers": buffers}

    compression, total = build(name), 8
    settled = config_of(name).settled()
    assert 0.0 <= settled <= 1.0
    model = compression.prepare(tiny_model(architecture), tiny_context(architecture))
    computed = {place(key) for key, _ in model.named_parameters() if place(key) != key}
    optimizer = adamw(model)
    seen = [structure(model)] if settled == 0.0 else []
    for step in range(1, total + 1):
        train_steps(model, compression, optimizer, first=step, last=step, total=total)
        if step / total >= settled - 1e-9:
            seen.append(structure(model))
    seen.append(structure(compression.finalize(model)))
    assert len(seen) >= 2
    # What only training needs beside the weights goes at its end; nothing comes.
    assert all(found["buffers"] == seen[0]["buffers"] for found in seen[:-1])
    assert seen[-1]["buffers"] <= seen[0]["buffers"]
    for found in seen[1:]:
        assert found["shapes"] == seen[0]["shapes"]
        moved = [
            k for k in found["zeros"] if not torch.equal(found["zeros"][k], seen[0]["zeros"][k])
        ]
        assert not moved, (
            f"from Config.settled() ({settled}) on the same weights must be zero, but in "
            f"{moved[:3]} others are: set the mask again in every after_step() (Adam moves pruned "
            "weights), or return a later share of the steps from settled()"
        )


@over_compressions
def test_what_it_may_have_besides_is_called_as_the_contract_says(name: str) -> None:
    compression = build(name)
    model = compression.prepare(tiny_model("bert"), tiny_context("bert"))
    if hasattr(compression, "after_backward"):
        batch = tiny_batch()
        nn.functional.cross_entropy(model(**batch.inputs).logits, batch.labels).backward()
        compression.after_backward(model)
    if hasattr(compression, "parameter_groups"):
        groups = compression.parameter_groups(model)
        own = [id(parameter) for group in groups for parameter in group.parameters]
        trained = {id(p) for p in model.parameters() if p.requires_grad}
        assert all(isinstance(group, ParameterGroup) for group in groups)
        assert len(own) == len(set(own)) and set(own) <= trained
    module = plugins.load(PACKAGE, name)
    assert hasattr(module, "structure") == hasattr(module, "restore")


@over_compressions
def test_what_a_recorded_step_reads_stays_where_it_is(name: str) -> None:
    """A GPU replays steps with the addresses that they had when they were recorded."""
    compression = build(name)
    model = compression.prepare(tiny_model("bert"), tiny_context("bert"))
    if not vars(type(compression)).get("recordable", False):
        return

    def places() -> dict[str, int]:
        found = [*model.named_parameters(), *model.named_buffers()]
        return {key: tensor.data_ptr() for key, tensor in found}

    before = places()
    train_steps(model, compression, adamw(model), last=8, total=8)
    moved = [key for key, place in places().items() if before.get(key) != place]
    assert not moved, f"what is recordable must stay in place, but {moved[:3]} moved: use copy_"


@over_compressions
def test_a_stopped_trial_leaves_nothing_in_memory(name: str) -> None:
    """A scheduler stops most trials before `finalize`; the process goes on with others."""
    model, compression = tiny_model("bert"), build(name)
    model = compression.prepare(model, tiny_context("bert"))
    train_steps(model, compression, adamw(model), last=5, total=8)
    left = [weakref.ref(each) for each in (model, compression, *model.parameters())]
    del model, compression
    gc.collect()
    assert not any(each() is not None for each in left), (
        "a prepared model must be freed when nobody holds it any more: a hook on a parameter may "
        "hold nothing that leads back to the model (sensitivity.py has a weak reference)"
    )


@over_compressions
def test_unsupported_encoder_is_refused_before_training(name: str) -> None:
    with pytest.raises(ModelError, match="AlbertForSequenceClassification"):
        build(name).prepare(tiny_model("albert"), tiny_context())


@over_compressions
def test_config_is_a_strict_section(name: str) -> None:
    config = config_of(name)
    assert isinstance(config, CompressionConfig)
    assert validate_section(type(config), config.as_dict()) == config
    with pytest.raises(ConfigError, match="unknown key 'sparsety'"):
        config_of(name, sparsety=0.5)
    with pytest.raises(ConfigError, match="init"):
        config_of(name, init="somewhere")


@over_compressions
def test_example_has_no_problems_for_the_tiny_encoder(name: str) -> None:
    assert plugins.load(PACKAGE, name).problems(config_of(name), FACTS) == []


@over_compressions
def test_summary_says_what_it_is(name: str) -> None:
    assert plugins.summary(PACKAGE, name).endswith(".")
