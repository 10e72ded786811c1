"""N of M: against plain Python over every group, against torch's own format, and in training."""

from __future__ import annotations

import copy
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass,
    sparse_semi_structured_to_dense_cutlass,
)

from rc_core.compression import magnitude
from rc_core.compression._gradual import sparsity_at
from rc_core.compression._masks import num_entries, num_zeros, prunable_weights
from rc_core.compression.semistructured import (
    Compression,
    Config,
    goes,
    num_in_pattern,
    pattern_masks,
    problems,
)
from rc_core.config import decode
from rc_core.errors import ConfigError, ModelError, TrialError
from rc_core.model_facts import ModelFacts, model_facts
from rc_core.models import load_encoder
from rc_core.schema import validate_section
from tests.contracts._tiny import ARCHITECTURES, adamw, tiny_context, tiny_model, train_steps

# Patterns whose groups fill the rows of 16 and 24 weights of the tiny models.
PATTERNS = [(1, 2), (1, 4), (2, 4), (3, 4), (3, 8), (4, 8)]
# Rows and columns that torch's formats take.
WIDE = {"hidden_size": 64, "intermediate_size": 128}


def config_of(**values: Any) -> Config:
    return validate_section(Config, {"name": "semistructured", **values})


def prepared(*, seed: int = 0, **values: Any) -> tuple[Any, Compression]:
    compression = Compression(config_of(**values))
    return compression.prepare(tiny_model("bert", seed=seed), tiny_context()), compression


def weights_of(model: nn.Module) -> list[Tensor]:
    return [weight.detach() for weight in prunable_weights(model).values()]


def zero_places(model: nn.Module) -> Tensor:
    return torch.cat([(weight == 0).flatten() for weight in weights_of(model)])


def groups_of(weight: Tensor, of: int) -> list[list[float]]:
    """Return the groups of a matrix, row by row, in plain Python."""
    rows: list[list[float]] = weight.tolist()
    return [row[i : i + of] for row in rows for i in range(0, len(row), of)]


def expected_masks(weights: list[Tensor], count: int, nonzero: int, of: int) -> list[Tensor]:
    """Return what is kept, by the words of the docstring: entry by entry, in plain Python."""
    found = [torch.ones_like(weight) for weight in weights]
    candidates = []
    for number, weight in enumerate(weights):
        for row, values in enumerate(weight.tolist()):
            for start in range(0, len(values), of):
                group = [
                    (abs(values[place]), number, row, place) for place in range(start, start + of)
                ]
                candidates += sorted(group)[: of - nonzero]
    for size, number, row, place in sorted(candidates):
        if count > 0 or size == 0:
            found[number][row, place] = 0.0
        count -= 1
    return found


def drawn(rng: random.Random, of: int) -> list[Tensor]:
    """Return matrices of random shapes, some with few different values, so that many are equal."""
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    found = []
    for _ in range(rng.randint(1, 4)):
        shape = (rng.randint(1, 5), of * rng.randint(1, 4))
        weight = torch.randn(shape, generator=generator)
        found.append((2 * weight).round() / 2 + 0.25 if rng.random() < 0.5 else weight)
    return found


@pytest.mark.parametrize("seed", range(60))
def test_masks_are_what_plain_python_finds(seed: int) -> None:
    """At once, and step by step with the weights moving in between."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    of = rng.randint(2, 16)
    nonzero = rng.randint(1, of - 1)
    weights = drawn(rng, of)
    entries, final = num_entries(weights), (of - nonzero) / of
    before = [torch.ones_like(weight) for weight in weights]
    for share in [*sorted(rng.uniform(0, final) for _ in range(3)), final]:
        count = round(share * entries)
        found = pattern_masks(weights, share, nonzero=nonzero, of=of)
        expected = expected_masks(weights, count, nonzero, of)
        assert all(map(torch.equal, found, expected)), (nonzero, of, share)
        assert num_zeros(found) == count
        assert all(bool((new <= old).all()) for new, old in zip(found, before, strict=True))
        for mask in found:
            assert all(group.count(0.0) <= of - nonzero for group in groups_of(mask, of))
        before = found
        noise = [0.3 * torch.randn(w.shape) for w in weights]
        weights = [(w + n) * mask for w, n, mask in zip(weights, noise, found, strict=True)]
    for mask in found:
        assert all(group.count(1.0) == nonzero for group in groups_of(mask, of))


def test_the_earlier_of_equals_goes_first() -> None:
    weight = torch.tensor([[1.0, -1.0, 1.0, -1.0], [2.0, 0.0, 0.0, -0.0]])
    assert goes(weight, nonzero=2, of=4).tolist() == [
        [True, True, False, False],
        [False, True, True, False],
    ]
    # One entry of eight; of the equal ones of both matrices that of the first.
    ones = [torch.ones(1, 4), torch.ones(1, 4)]
    masks = pattern_masks(ones, 1 / 8, nonzero=2, of=4)
    assert [mask.tolist() for mask in masks] == [[[0, 1, 1, 1]], [[1, 1, 1, 1]]]


def test_a_group_never_loses_more_than_the_pattern_takes_however_small_it_is() -> None:
    weight = torch.tensor([[1e-9, 2e-9, 3e-9, 4e-9, 1.0, 2.0, 3.0, 4.0]])
    quarter, half = (pattern_masks([weight], share, nonzero=2, of=4)[0] for share in (0.25, 0.5))
    assert quarter.tolist() == [[0, 0, 1, 1, 1, 1, 1, 1]]
    assert half.tolist() == [[0, 0, 1, 1, 0, 0, 1, 1]]


def test_what_is_zero_beyond_the_pattern_stays_so() -> None:
    weight = torch.tensor([[0.0, 0.0, 0.0, 5.0, 1.0, 2.0, 3.0, 4.0]])
    (mask,) = pattern_masks([weight], 0.5, nonzero=2, of=4)
    assert mask.tolist() == [[0, 0, 0, 1, 0, 0, 1, 1]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 3])
def test_diverged_training_is_named(value: float, place: int) -> None:
    model, compression = prepared()
    with torch.no_grad():
        weights_of(model)[0][0, place] = value
    with pytest.raises(TrialError, match="training diverged"):
        compression.after_step(model, 1.0)


@pytest.mark.parametrize(("nonzero", "of"), PATTERNS)
@pytest.mark.parametrize("schedule", ["cubic", "linear"])
def test_every_step_has_the_zeros_of_the_schedule_and_none_comes_back(
    nonzero: int, of: int, schedule: str
) -> None:
    given: dict[str, Any] = {"schedule": schedule, "ramp": 0.75, "num_prunings": 4}
    model, compression = prepared(nonzero=nonzero, of=of, **given)
    optimizer, total = adamw(model, learning_rate=0.05), 12
    entries = num_entries(weights_of(model))
    before = zero_places(model)
    for step in range(1, total + 1):
        train_steps(model, compression, optimizer, first=step, last=step, total=total)
        due = sparsity_at(step / total, final=1 - nonzero / of, **given)
        after = zero_places(model)
        assert int(after.sum()) == round(due * entries), step
        assert bool((after | ~before).all()), f"regrown in step {step}"
        for weight in weights_of(model):
            assert all(group.count(0.0) <= of - nonzero for group in groups_of(weight, of))
        before = after
    model = compression.finalize(model)
    for weight in weights_of(model):
        assert all(group.count(0.0) == of - nonzero for group in groups_of(weight, of))
    report = compression.report(model)
    assert report["asked"] == {"sparsity": (of - nonzero) / of, "in_pattern": 1.0}
    assert report["measured"]["sparsity"] == pytest.approx((of - nonzero) / of, abs=1e-12)
    assert report["measured"]["in_pattern"] == 1.0


def test_only_matrices_of_the_blocks_are_pruned_and_embeddings_frozen() -> None:
    model, compression = prepared()
    start = copy.deepcopy(model.state_dict())
    train_steps(model, compression, adamw(model), last=4, total=4)
    compression.finalize(model)
    pruned = set(prunable_weights(model))
    for name, value in model.state_dict().items():
        if ".embeddings." in name:
            assert torch.equal(value, start[name])
        elif name not in pruned:
            assert num_zeros([value]) < value.numel() / 2


@pytest.mark.parametrize("cut", [2, 4, 7])
def test_a_resumed_run_has_the_same_zeros_whatever_moved_before_the_first_step(cut: int) -> None:
    given: dict[str, Any] = {"ramp": 0.75, "num_prunings": 3}
    model, compression = prepared(**given)
    train_steps(model, compression, adamw(model), last=cut, total=8)
    pruned, state = zero_places(model), copy.deepcopy(model.state_dict())
    fresh, again = prepared(seed=1, **given)
    fresh.load_state_dict(state)
    with torch.no_grad():
        for weight in prunable_weights(fresh).values():
            weight.add_(0.01)
    again.after_step(fresh, cut / 8)
    assert torch.equal(zero_places(fresh), pruned)


def _conversions(weight: Tensor) -> Tensor:
    """Return a weight as torch's packed 2:4 format gives it back: two of every four, at most."""
    packed, places = sparse_semi_structured_from_dense_cutlass(weight)
    assert packed.shape == (weight.shape[0], weight.shape[1] // 2)
    found: Tensor = sparse_semi_structured_to_dense_cutlass(packed, places)
    return found


def trained_wide(**values: Any) -> list[Tensor]:
    """Return the finished matrices of a model whose shapes torch's formats take."""
    model = tiny_model("bert", num_layers=1, **WIDE)
    compression = Compression(config_of(**values))
    compression.prepare(model, tiny_context())
    train_steps(model, compression, adamw(model), last=4, total=4)
    return weights_of(compression.finalize(model))


@pytest.mark.parametrize(("nonzero", "of"), [(2, 4), (1, 4), (1, 2), (2, 8), (1, 16)])
def test_torchs_packed_format_loses_nothing(nonzero: int, of: int) -> None:
    """Its conversion runs on a CPU too, what multiplies by it does not."""
    for weight in trained_wide(nonzero=nonzero, of=of):
        half = weight.half()
        assert torch.equal(_conversions(half), half)
    assert (
        "the pattern of the sparse tensor cores"
        in Compression(config_of(nonzero=nonzero, of=of)).stock_note()
    )


@pytest.mark.parametrize(("nonzero", "of"), [(3, 4), (4, 8), (3, 8), (6, 16)])
def test_other_patterns_are_not_called_what_they_are_not(nonzero: int, of: int) -> None:
    assert any(
        not torch.equal(_conversions(w.half()), w.half())
        for w in trained_wide(nonzero=nonzero, of=of)
    )
    note = Compression(config_of(nonzero=nonzero, of=of)).stock_note()
    assert f"At most {nonzero} of {of}" in note and "which this is not" in note


@pytest.mark.parametrize("of", range(2, 17))
def test_what_is_called_two_of_four_can_have_no_more(of: int) -> None:
    """The most that four weights can have that are other than zero, wherever the four lie."""
    for nonzero in range(1, of):
        most = 0
        for start in range(0, 4 * of, 4):
            shared = Counter(place // of for place in range(start, start + 4))
            most = max(most, sum(min(nonzero, count) for count in shared.values()))
        note = Compression(config_of(nonzero=nonzero, of=of)).stock_note()
        assert ("which this is not" in note) == (most > 2), nonzero


@pytest.mark.skipif(
    not torch.cuda.is_available()
    or torch.cuda.get_device_capability() < (8, 0)
    or not torch.backends.cusparselt.is_available(),
    reason="sparse tensor cores: a GPU of compute capability 8.0 or above, and cuSPARSELt",
)
def test_a_gpu_multiplies_by_the_packed_weights() -> None:
    inputs = torch.randn(64, 128, generator=torch.Generator().manual_seed(0)).half().cuda()
    for weight in trained_wide():
        half, given = weight.half().cuda(), inputs[:, : weight.shape[1]].contiguous()
        packed = torch.sparse.to_sparse_semi_structured(half)
        assert torch.equal(packed.to_dense(), half)
        found = nn.functional.linear(given, packed)
        expected = nn.functional.linear(given, half)
        torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-2)


def test_stopping_before_the_ramp_is_over_fails() -> None:
    model, compression = prepared(nonzero=1)
    train_steps(model, compression, adamw(model), last=3, total=12)
    told = r"5376 of 7168 weights must be zero \(compression.nonzero 1, compression.of 4\), .*ramp"
    with pytest.raises(TrialError, match=told):
        compression.finalize(model)


def test_as_many_zeros_in_other_places_are_refused_at_the_end() -> None:
    """As after a checkpoint of magnitude pruning."""
    other = magnitude.Compression(
        validate_section(magnitude.Config, {"name": "magnitude", "sparsity": 0.5})
    )
    model = other.prepare(tiny_model("bert"), tiny_context())
    train_steps(model, other, adamw(model), last=2, total=2)
    fresh, compression = prepared()
    fresh.load_state_dict(other.finalize(model).state_dict())
    held = sum(num_in_pattern(weight, nonzero=2, of=4) for weight in weights_of(fresh))
    told = f"{1 - held / (7168 / 4):.2%} of the groups have more"
    with pytest.raises(TrialError, match=rf"of every 4 .* at most 2 .*, but {told}"):
        compression.finalize(fresh)


def test_what_is_zero_at_the_start_stays_so_and_more_than_the_pattern_is_refused() -> None:
    model = tiny_model("bert")
    with torch.no_grad():
        for weight in weights_of(model):
            weight[:, ::4] = 0.0
    before = zero_places(model)
    compression = Compression(config_of(num_prunings=2))
    compression.prepare(model, tiny_context())
    optimizer = adamw(model)
    for step in range(1, 9):
        train_steps(model, compression, optimizer, first=step, last=step, total=8)
        assert bool((zero_places(model) | ~before).all()), f"regrown in step {step}"
    compression.finalize(model)

    model = tiny_model("bert")
    name, weight = next(iter(prunable_weights(model).items()))
    with torch.no_grad():
        weight[1, :3] = 0.0
        weight[2, 4:8] = 0.0
    Compression(config_of(nonzero=1, of=8)).prepare(copy.deepcopy(model), tiny_context())
    told = rf"at most 2 may be zero at the start .* 2 of the 64 groups of {name} have more"
    with pytest.raises(TrialError, match=told):
        Compression(config_of()).prepare(model, tiny_context())


def test_rows_that_groups_do_not_fill_are_refused_before_training() -> None:
    model = tiny_model("bert", hidden_size=16, intermediate_size=18)
    wrong = "bert.encoder.layer.0.output.dense.weight"
    with pytest.raises(
        ModelError, match=rf"compression.of: .* those of {wrong} have 18 .*, and it is 4; take 2$"
    ):
        Compression(config_of(nonzero=1)).prepare(model, tiny_context())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("widths", "values", "told"),
    [
        ((384, 1536), {}, None),
        ((768, 3072), {"nonzero": 4, "of": 8}, None),
        ((), {"of": 7}, None),
        (
            (384, 1536),
            {"of": 5},
            "have rows of 384 and 1536 weights, and it is 5; take 3 or 4 or 6 or 8 or 12 or 16",
        ),
        (
            (312, 1200),
            {"nonzero": 2, "of": 16},
            "rows of 312 weights, and it is 16; take 3 or 4 or 6",
        ),
        ((384, 1537), {}, "rows of 1537 weights, and it is 4; take another encoder"),
    ],
)
def test_a_configuration_that_does_not_fit_is_told_without_the_model(
    widths: tuple[int, ...], values: dict[str, Any], told: str | None
) -> None:
    facts = ModelFacts("bert", 6, 12, max_positions=512, num_parameters=1, widths=widths)
    found = problems(config_of(**values), facts)
    assert [problem.where for problem in found] == ["compression.of"] * (told is not None)
    assert told is None or told in found[0].message


@pytest.mark.parametrize(
    "spec", ["tiny:bert", "tiny:distilbert", "tiny:electra", "tiny:modernbert", "tiny:roberta"]
)
def test_widths_are_those_of_the_model(spec: str) -> None:
    model = load_encoder(spec, label_names=["a", "b"], seed=0)
    rows = {weight.shape[1] for weight in weights_of(model)}
    assert model_facts(spec).widths == tuple(sorted(rows))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_widths_are_those_of_a_folders_model(architecture: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    model.save_pretrained(tmp_path)
    rows = {weight.shape[1] for weight in weights_of(model)}
    assert model_facts(str(tmp_path)).widths == tuple(sorted(rows)) == (16, 24)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"nonzero": 0}, "nonzero"),
        ({"nonzero": 4}, "of"),
        ({"nonzero": 5}, "of"),
        ({"nonzero": 2, "of": 2}, "of"),
        ({"of": 1}, "of"),
        ({"of": 17}, "of"),
        ({"nonzero": 16, "of": 16}, "nonzero"),
        ({"nonzero": 1.5}, "nonzero"),
        ({"nonzero": [0, 2]}, "nonzero"),
        ({"ramp": 0.0}, "ramp"),
        ({"num_prunings": 0}, "num_prunings"),
        ({"schedule": "cosine"}, "schedule"),
        ({"sparsity": 0.5}, "sparsity"),
    ],
)
def test_bad_settings_are_named(values: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(**values)
    assert [problem.where for problem in caught.value.problems] == [where]
    if where == "of" and "nonzero" in values:
        assert "must be above compression.nonzero" in caught.value.problems[0].message


def test_its_label_says_the_pattern() -> None:
    assert config_of().label() == "semistructured-2:4"
    assert config_of(nonzero=4, of=8, ramp=0.7).label() == "semistructured-4:8 ramp=0.7"
    trial = decode({"model": "tiny:bert", "compression": {"name": "semistructured", "nonzero": 1}})
    assert trial.label() == "semistructured-1:4 vanilla"
