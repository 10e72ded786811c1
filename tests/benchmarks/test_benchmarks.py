"""The benchmarks' own parts, on tiny models: they must run, and their arithmetic must be right."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rc_core.models import load_encoder
from rc_core.workspace import Workspace
from tests.benchmarks import _harness as harness
from tests.benchmarks import _setup as setup
from tests.benchmarks import chances, gpu_steps, growth, profiles

PAIRS = setup.generated(train=100, dev=60)


def test_sides_take_turns_and_ratios_are_of_one_run() -> None:
    order: list[str] = []
    sides: dict[str, Any] = {name: lambda i, n=name: order.append(f"{n}{i}") for name in "ab"}
    assert len(list(harness.alternate(sides, 2))) == 2
    assert order == ["a0", "b0", "b1", "a1"]


def test_figures_are_kept_from_run_to_run(tmp_path: Path) -> None:
    file = tmp_path / "figures.jsonl"
    harness.Figures(file).add("steps", theirs=4.0, ours=2.0)
    found = harness.Figures(file)
    found.add("steps", theirs=9.0, ours=3.0)
    assert found.ratios("steps", "theirs", "ours") == [2.0, 3.0]
    assert "| steps | 6.50 | 2.50 | 2.50 (2.00 to 3.00) | 2 |" in found.table("theirs", "ours", "s")


def test_a_line_is_found() -> None:
    assert harness.line_fit([1, 2, 3], [5, 7, 9]) == pytest.approx((3, 2, 1))


def test_chances_are_simulated_with_the_noise_that_was_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One seed's deviation and that of two rows' difference; then one line for each way."""
    rng = np.random.default_rng(0)
    for kind, difference in (("real", chances.DIFFERENCE), ("none", 2**0.5 * chances.ONE_SEED)):
        found = chances.values(rng, np.zeros((2, 2)), kind, 20_000)
        assert found[0].std(axis=0) == pytest.approx(chances.ONE_SEED, rel=0.03)
        assert (found[0] - found[1]).std(axis=0) == pytest.approx(difference, rel=0.03)
    chances.fixed("half", [2, 2, 3], 3)
    chances.raced("real", 1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[1] for line in lines] == ["independent", "now"] * 2


def test_the_peak_is_a_rate() -> None:
    assert harness.matmul_peak(1, size=64, repeats=2) > 1e7


def test_operations_of_a_pair_follow_the_blocks() -> None:
    """Reference: torch's own count of the products in forward and backward of one sample."""
    from torch.utils.flop_counter import FlopCounterMode

    from rc_core.compression._layers import embeddings
    from rc_core.first_token import first_token_only

    model = load_encoder("tiny:bert", label_names=("a", "b"), seed=0)
    for module in embeddings(model):
        module.requires_grad_(False)
    model.config._attn_implementation = "sdpa"
    batch = growth.random_pairs(1, 24).collate(torch.zeros(1, dtype=torch.int64).numpy())
    counter = FlopCounterMode(display=False)
    with counter, first_token_only(model):
        model(**batch).logits.sum().backward()
    # The pooler and the classification head are left out; they are small.
    assert growth.trained_flop(model, 24) == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_a_trial_and_its_rival_end_with_accuracies(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="needs the extra `bench`")
    from tests.benchmarks import trial

    figures = harness.Figures()
    training = {"epochs": 0.2, "batch_size": 16}
    for case in ("magnitude 50 %, vanilla", "student of 3 layers, distil"):
        trial.measure(case, PAIRS, setup.TINY, tmp_path, figures, repeats=1, training=training)
        assert figures.ratios(f"{case}: whole trial", "Trainer", "ours")[0] > 0
        assert 0 <= figures.rows[f"accuracy ood_dev: {case}"]["ours %"][0] <= 100
    assert "| id_dev: magnitude 50 %, vanilla |" in trial.accuracy_table(figures)


def test_the_rival_prepares_difficulty(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="needs the extra `bench`")
    from tests.benchmarks import sweep

    shared = sweep.base(setup.TINY, 100, 60)
    config = sweep.trial_config(shared, sweep.points()[0])
    data = Workspace(tmp_path).data(config)
    outputs, scores = sweep.make_teacher(config, data, tmp_path / "teacher")
    assert outputs.shape == (100, 2) and bool((scores >= 0).all()) and float(scores.max()) > 0
    assert len(sweep.points()) == 12


def test_shares_add_up() -> None:
    found = profiles.table(Counter({"a": 3.0, "b": 1.0}), "stage")
    assert found.splitlines()[2:] == ["| a | 75.0 % |", "| b | 25.0 % |"]


def test_one_more_trial_is_counted_from_the_third_on() -> None:
    from tests.benchmarks.fixed_cost import _between

    assert _between([9.0, 1.0, 10.0, 11.0, 12.0]) == pytest.approx(1.0)


def test_a_step_is_timed_and_kernels_are_told_apart() -> None:
    shape = (32, 2, 2, 64, 4, 16)
    assert gpu_steps.step_seconds(shape, torch.device("cpu"), steps=8, recordable=True) > 0
    assert gpu_steps.encoder(shape, torch.device("cpu")).config.num_labels == 3
    names = {
        "nvjet_tst_64x8_64x16_4x1_v_bz_TNT": "matrix products",
        "void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor>": (
            "optimizer, clipping, masks"
        ),
        "fmha_cutlassF_bf16_aligned_64x64_rf_sm80": "attention",
        "void at::native::elementwise_kernel<direct_copy_kernel_cuda>": "copies between precisions",
        "void at::native::vectorized_elementwise_kernel<CUDAFunctor_add<float>>": (
            "everything else (element by element)"
        ),
    }
    assert {name: gpu_steps.kind_of(name) for name in names} == names
