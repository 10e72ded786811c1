"""Names are short, and no two settings that somebody wrote read the same."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rc_core.config import TrialConfig, decode
from rc_core.labels import count_of, short_number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5476889762985926, "0.548"),
        (27.7133984512, "27.7"),
        (3.3333333e-05, "3.33e-05"),
        (0.0, "0"),
        (0.7, "0.7"),
        # As somebody wrote it in a grid of theirs.
        (0.9375, "0.9375"),
        (100 * 0.9995, "99.95"),
        (100 * 0.57, "57"),
        # A share below the whole is not the whole.
        (0.9996123456, "0.9996"),
        (99.961234567, "99.96"),
    ],
)
def test_numbers_have_three_digits_unless_they_were_given(value: float, text: str) -> None:
    assert short_number(value) == text


def named(compression: dict[str, object], loss: dict[str, object]) -> TrialConfig:
    return decode({"model": "tiny:bert", "compression": compression, "loss": loss})


def test_a_drawn_trial_has_a_short_name_and_keeps_its_numbers() -> None:
    beta, sparsity = 0.5476889762985926, 0.2771339845123
    config = named(
        {"name": "magnitude", "sparsity": sparsity},
        {"name": "poe", "beta": beta, "expert": {"level": 0.6123456789}},
    )
    assert config.label() == "magnitude-27.7 poe expert=0.612 beta=0.548"
    assert config.as_dict()["loss"]["beta"] == beta
    assert config.as_dict()["compression"]["sparsity"] == sparsity


def test_a_section_within_a_plugin_is_named_by_its_values() -> None:
    config = named({"name": "dense"}, {"name": "conf_reg", "expert": {"level": 0.5}})
    assert config.label() == "dense conf_reg expert=0.5"


def test_what_a_grid_gives_reads_different() -> None:
    """Reference: all grids of up to four digits, some of them."""
    rng = random.Random(0)
    shares = rng.sample(range(1, 10_000), 300)
    names = {
        named({"name": "magnitude", "sparsity": n / 10_000}, {"name": "vanilla"}).label()
        for n in shares
    }
    assert len(names) == len(shares)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((0, "trial"), "0 trials"),
        ((1, "trial"), "1 trial"),
        ((2, "row has", "rows have"), "2 rows have"),
    ],
)
def test_a_count_has_its_noun(given: tuple[Any, ...], text: str) -> None:
    assert count_of(*given) == text
